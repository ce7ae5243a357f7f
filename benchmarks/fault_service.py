"""The services that `spare bench faults` hurts: their images, their writes, and the orders to lie about them.  Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.chaos.auction_load import COMMENT_PAGE
from benchmarks.chaos.auction_tokens import DATA_SET
from benchmarks.chaos.cell_under_test import DATA_SET_START_US, TREACHEROUS
from exec_wrapper.examples.key_value_commands import OK, encode_set
from images.fault_orders import FaultOrder, http_form, http_read, key_value_read

ServiceName = Literal["key-value", "rubis"]
KEYS = 64
VALUE_BYTES = 100


@dataclass(frozen=True)
class FaultService:
    """One service."""

    name: ServiceName
    image: str
    """A variant that obeys orders."""
    settings: str
    """More lines of `[service]`."""
    write: Callable[[int], bytes]
    """The request that makes the write of this number."""
    order: Callable[[FaultOrder], bytes]
    """A request that changes nothing and gives active domains an order."""
    is_right: Callable[[bytes], bool]
    """Whether this is a reply to `write`."""


def _set(number: int) -> bytes:
    return encode_set(b"key %d" % (number % KEYS), b"%0*d" % (VALUE_BYTES, number))


def _comment(number: int) -> bytes:
    """A comment is stored, and the user that it is about has another rating: two tables in one transaction."""
    form = {"itemId": 1000, "to": 1 + number % DATA_SET.users, "from": 2, "rating": 5}
    return http_form(COMMENT_PAGE, {**form, "comment": f"{number:0{VALUE_BYTES}d}"}, "order")


def _is_page(reply: bytes) -> bool:
    return reply.startswith(b"HTTP/1.1 200 ")


SERVICES: Mapping[ServiceName, FaultService] = {
    "key-value": FaultService("key-value", TREACHEROUS["key-value"], "", _set, key_value_read, OK.__eq__),
    "rubis": FaultService(
        "rubis", TREACHEROUS["rubis"], f"clock_start_us = {DATA_SET_START_US}\n", _comment, http_read, _is_page
    ),
}
