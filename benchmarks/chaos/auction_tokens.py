"""Makes every write of the emulated users one of a kind, and finds it again in the database.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import parse_qsl, urlencode

from rubis_adapter.client_emulator.requests import HttpRequest
from rubis_adapter.population.data_sets import DATA_SETS

DATA_SET = DATA_SETS["tiny"]
"""What the image holds: rows up to its counts were there before."""
MARK = "chaos-token-"
CENT = Decimal("0.01")


def bid_token(item: object, user: object, maximum: str) -> str:
    """Return the token of a bid."""
    return f"bid {item} {user} {maximum}"


def buy_token(item: object, buyer: object, row_id: int | None = None) -> str:
    """Return the token of a purchase; nothing for a row that was there before."""
    return "" if row_id is not None and row_id <= DATA_SET.buy_now else f"buy {item} {buyer}"


def comment_token(text: str) -> str:
    """Return the token of a comment; nothing for another one's."""
    return f"comment {text.rpartition(MARK)[2]}" if MARK in text else ""


def item_token(description: str) -> str:
    """Return the token of an auction; nothing for another one's."""
    return f"item {description.rpartition(MARK)[2]}" if MARK in description else ""


def user_token(nickname: str) -> str:
    """Return the token of a user."""
    return f"user {nickname}"


@dataclass(slots=True)
class Marker:
    """Marks requests that write; counts on, so that no mark comes twice."""

    count: int = 0
    _bought: set[tuple[str, str]] = field(default_factory=set)

    def mark(self, request: HttpRequest) -> tuple[HttpRequest, str]:
        """Return the request to send, and its token; the same request and nothing if it writes nothing."""
        if request.body is None:
            return request, ""
        self.count += 1
        form = dict(parse_qsl(request.body.decode("ascii"), keep_blank_values=True))
        token = self._mark_form(request.target.rpartition(".")[2], form)
        return HttpRequest(request.target, urlencode(form).encode("ascii")), token

    def _mark_form(self, page: str, form: dict[str, str]) -> str:
        match page:
            case "StoreBid":
                form["maxBid"] = str(Decimal(form["bid"]) + self.count * CENT)
                return bid_token(form["itemId"], form["userId"], form["maxBid"])
            case "StoreBuyNow":
                form["userId"] = self._new_buyer(form)
                return buy_token(form["itemId"], form["userId"])
            case "StoreComment":
                form["comment"] += f" {MARK}{self.count}"
                return comment_token(form["comment"])
            case "RegisterItem":
                form["description"] += f" {MARK}{self.count}"
                return item_token(form["description"])
            case "RegisterUser":
                return user_token(form["nickname"])
            case _:
                raise AssertionError(f"no page {page} writes")

    def _new_buyer(self, form: Mapping[str, str]) -> str:
        """Return a user who has not bought of this item in this run."""
        buyer = int(form["userId"])
        while (form["itemId"], str(buyer)) in self._bought:
            buyer = buyer % DATA_SET.users + 1
        self._bought.add((form["itemId"], str(buyer)))
        return str(buyer)
