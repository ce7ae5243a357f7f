"""Builds the request of an interaction from the user, the page before it, and a random source."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final
from urllib.parse import urlencode

from rubis_adapter.client_emulator import pages
from rubis_adapter.client_emulator.interactions import MODIFYING, Interaction, servlet_name
from rubis_adapter.population.data_sets import CATEGORIES, REGIONS, nickname, password
from rubis_adapter.population.texts import RATINGS, comment_text, item_description, item_name

ROOT: Final = "/rubis_servlets/"
SERVLETS: Final = f"{ROOT}servlet/edu.rice.rubis.servlets."
STATIC_PATHS: Final = {
    Interaction.HOME: ROOT,
    Interaction.REGISTER: f"{ROOT}register.html",
    Interaction.BROWSE: f"{ROOT}browse.html",
    Interaction.SELL: f"{ROOT}sell.html",
    Interaction.ABOUT_ME_AUTH: f"{ROOT}about_me.html",
}

ITEMS_PER_PAGE: Final = 20
"""Results per page of a search; the original emulator's default."""
DESCRIPTION_CHARACTERS_MAX: Final = 2000
COMMENT_CHARACTERS_MAX: Final = 1000
NEW_NICKNAME_CHARACTERS: Final = 20

Parameter = str | int
Parameters = Mapping[str, Parameter]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request: a GET if `body` is None, else a POST of a form."""

    target: str
    body: bytes | None = None

    @property
    def path(self) -> str:
        """The target without its query, which holds passwords."""
        return self.target.partition("?")[0]

    def encode(self, host: str) -> bytes:
        """The request's bytes, for the server that is called `host`."""
        if self.body is None:
            return f"GET {self.target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("ascii")
        head = (
            f"POST {self.target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode("ascii") + self.body


class RequestBuilder:
    """Makes the requests of one client.

    Ids of categories and regions are drawn from 0 as in the original, so a few searches find nothing.
    """

    def __init__(self, random: Random, users: int, client_token: str) -> None:
        """Prepares for a site with users 1 to `users`.

        Args:
            random: The client's random source.
            users: Users in the data set.
            client_token: Unique for the client and the run; new nicknames are derived from it.
        """
        self.user_id = 1
        self._random = random
        self._users = users
        self._client_token = client_token
        self._registered = 0
        self._page = b""
        self._makers: Mapping[Interaction, Callable[[], Parameters | None]] = {
            Interaction.REGISTER_USER: self._register_user,
            Interaction.BROWSE_CATEGORIES: dict,
            Interaction.SEARCH_ITEMS_IN_CATEGORY: self._search,
            Interaction.BROWSE_REGIONS: dict,
            Interaction.BROWSE_CATEGORIES_IN_REGION: lambda: {"region": random.choice(REGIONS)},
            Interaction.SEARCH_ITEMS_IN_REGION: self._search_in_region,
            Interaction.VIEW_ITEM: self._of_item,
            Interaction.VIEW_USER_INFO: self._view_user_info,
            Interaction.VIEW_BID_HISTORY: self._of_item,
            Interaction.BUY_NOW_AUTH: self._of_item,
            Interaction.BUY_NOW: self._of_item_with_login,
            Interaction.STORE_BUY_NOW: self._store_buy_now,
            Interaction.PUT_BID_AUTH: self._of_item,
            Interaction.PUT_BID: self._of_item_with_login,
            Interaction.STORE_BID: self._store_bid,
            Interaction.PUT_COMMENT_AUTH: self._of_addressee,
            Interaction.PUT_COMMENT: self._put_comment,
            Interaction.STORE_COMMENT: self._store_comment,
            Interaction.SELECT_CATEGORY_TO_SELL_ITEM: self._login,
            Interaction.SELL_ITEM_FORM: lambda: {"category": self._category_id(), "user": self.user_id},
            Interaction.REGISTER_ITEM: self._register_item,
            Interaction.ABOUT_ME: self._login,
        }

    def draw_user(self) -> None:
        """Another user sits down: the one for the following requests is drawn."""
        self.user_id = self._random.randint(1, self._users)

    def build(self, interaction: Interaction, page: bytes) -> HttpRequest | None:
        """The request for `interaction`; None if `page`, the one before it, lacks an id or value that it needs."""
        static_path = STATIC_PATHS.get(interaction)
        if static_path is not None:
            return HttpRequest(static_path)
        self._page = page
        parameters = self._makers[interaction]()
        if parameters is None:
            return None
        path, query = SERVLETS + servlet_name(interaction), urlencode(parameters)
        if interaction in MODIFYING:
            return HttpRequest(path, query.encode("ascii"))
        return HttpRequest(f"{path}?{query}" if query else path)

    def _login(self) -> dict[str, Parameter]:
        return {"nickname": nickname(self.user_id), "password": password(self.user_id)}

    def _category_id(self) -> int:
        return self._random.randrange(len(CATEGORIES))

    def _search(self) -> dict[str, Parameter]:
        category_id = self._category_id()
        page = pages.result_page(self._page, self._random)
        return {
            "category": category_id,
            "categoryName": CATEGORIES[category_id],
            "page": page,
            "nbOfItems": ITEMS_PER_PAGE,
        }

    def _search_in_region(self) -> Parameters:
        return {"region": self._random.randrange(len(REGIONS)), **self._search()}

    def _of_item(self) -> dict[str, Parameter] | None:
        item_id = pages.item_id(self._page, self._random)
        return None if item_id is None else {"itemId": item_id}

    def _of_item_with_login(self) -> Parameters | None:
        item = self._of_item()
        return None if item is None else item | self._login()

    def _view_user_info(self) -> Parameters | None:
        user_id = pages.user_id(self._page, self._random)
        return None if user_id is None else {"userId": user_id}

    def _of_addressee(self) -> dict[str, Parameter] | None:
        item, to = self._of_item(), pages.addressee(self._page)
        return None if item is None or to is None else item | {"to": to}

    def _put_comment(self) -> Parameters | None:
        target = self._of_addressee()
        return None if target is None else target | self._login()

    def _store_comment(self) -> Parameters | None:
        item, to = self._of_item(), pages.form_addressee(self._page)
        if item is None or to is None:
            return None
        rating = self._random.choice(RATINGS)
        text = comment_text(self._random, rating, COMMENT_CHARACTERS_MAX)
        return item | {"to": to, "from": self.user_id, "rating": rating, "comment": text}

    def _store_buy_now(self) -> Parameters | None:
        item, max_quantity = self._of_item(), pages.max_quantity(self._page)
        if item is None or max_quantity is None:
            return None
        quantity = self._random.randint(1, max(1, max_quantity))
        return item | {"userId": self.user_id, "qty": quantity, "maxQty": max_quantity}

    def _store_bid(self) -> Parameters | None:
        item, max_quantity = self._of_item(), pages.max_quantity(self._page)
        min_bid_cents = pages.min_bid_cents(self._page)
        if item is None or max_quantity is None or min_bid_cents is None:
            return None
        raise_cents = self._random.randint(1, 10) * 100
        return item | {
            "userId": self.user_id,
            "minBid": _price(min_bid_cents),
            "bid": _price(min_bid_cents + raise_cents),
            "maxBid": _price(min_bid_cents + 2 * raise_cents),
            "qty": self._random.randint(1, max(1, max_quantity)),
            "maxQty": max_quantity,
        }

    def _register_item(self) -> Parameters:
        random, category_id = self._random, self._category_id()
        name = item_name(random, CATEGORIES[category_id])
        initial_cents = random.randint(1, 500_000)
        has_reserve, has_buy_now, is_single = random.random() < 0.4, random.random() < 0.1, random.random() < 0.8
        return {
            "name": name,
            "description": item_description(random, name, DESCRIPTION_CHARACTERS_MAX),
            "initialPrice": _price(initial_cents),
            "reservePrice": _price(initial_cents + random.randint(1, 100_000) if has_reserve else 0),
            "buyNow": _price(initial_cents + random.randint(100_000, 200_000) if has_buy_now else 0),
            "duration": random.randint(1, 7),
            "quantity": 1 if is_single else random.randint(2, 10),
            "userId": self.user_id,
            "categoryId": category_id,
        }

    def _register_user(self) -> Parameters:
        """A new user: the nickname is unique for the client and its number of registrations so far."""
        self._registered += 1
        nick = new_nickname(self._client_token, self._registered)
        return {
            "firstname": f"Great{nick[3:11]}",
            "lastname": f"User{nick[3:11]}",
            "nickname": nick,
            "email": f"{nick}@rubis.com",
            "password": f"password{nick[3:11]}",
            "region": self._random.choice(REGIONS),
        }


def new_nickname(client_token: str, number: int) -> str:
    """A nickname of 20 characters for the `number`-th user whom a client registers.

    85 bits of a digest: that two of a billion registrations meet has a chance below 10⁻⁷.
    """
    digest = hashlib.blake2b(f"{client_token}:{number}".encode(), digest_size=16).digest()
    return "new" + base64.b32encode(digest).decode("ascii").lower()[: NEW_NICKNAME_CHARACTERS - 3]


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
