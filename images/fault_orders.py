"""Orders for domains of the image variants `treacherous`: the requests of clients that carry them.

Any client may give an order.  It goes through the cell like every request and is answered alike by all domains, those
of images without this variant included: to the service it is a request among others.

A read reaches the active domains alone.  A write reaches the passive ones too, with its update: send one to order what
a passive domain shall do.

Source: `docs/testing.md`, "Treacherous domains".
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from exec_wrapper.examples.key_value_commands import encode_echo, encode_set
from images.recipes.fault_injection.treacherous.orders import FaultKind, FaultOrder, encode_order

__all__ = [
    "FaultKind",
    "FaultOrder",
    "encode_order",
    "http_form",
    "http_read",
    "key_value_read",
    "key_value_write",
    "treacherous_command",
]

ORDER_KEY: Final = b"spare-fault"
"""Where the key-value store keeps the last order that was written."""


def key_value_read(*orders: FaultOrder) -> bytes:
    """Return a request to the key-value store that changes nothing; for active domains."""
    return encode_echo(_text(orders))


def key_value_write(*orders: FaultOrder) -> bytes:
    """Return a request to the key-value store that stores the orders below `ORDER_KEY`; for passive domains too."""
    return encode_set(ORDER_KEY, _text(orders))


def http_read(order: FaultOrder) -> bytes:
    """Return a request for a page that a web site does not have; for active domains."""
    return b"GET /" + encode_order(order) + b" HTTP/1.1\r\nHost: spare\r\n\r\n"


def http_form(target: str, form: Mapping[str, object], field: str, *orders: FaultOrder) -> bytes:
    """Return a request with a form, one of whose fields carries the orders; for passive domains too.

    Args:
        target: path of a page that stores what is written in the form.
        form: the other fields.
        field: one that goes into the database, and so into the update, as it is.
        orders: what is to be done.
    """
    body = urlencode({**form, field: _text(orders).decode()}).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: spare\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def treacherous_command(*program: str) -> Sequence[str]:
    """Return the `[service] command` of a cell of child processes that obey orders.

    Args:
        program: `exec_wrapper` or `rubis_adapter.guest` with its arguments; `{channel}` and `{disk}` are filled in.
    """
    layer = "images.recipes.fault_injection.treacherous"
    own = ("--domain", "{domain}", "--orders-file", "{disk}/orders")
    return (sys.executable, "-m", layer, *own, *program)


def _text(orders: Sequence[FaultOrder]) -> bytes:
    return b" ".join(encode_order(order) for order in orders)
