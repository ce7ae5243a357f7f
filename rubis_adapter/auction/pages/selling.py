"""Selling an item."""

from datetime import timedelta
from decimal import Decimal
from typing import Final

from rubis_adapter.auction import accounts, catalogue
from rubis_adapter.auction.identifiers import next_id
from rubis_adapter.auction.page import Page, PageRequest
from rubis_adapter.schema import DESCRIPTION_CHARACTERS_MAX, items

NAME_CHARACTERS_MAX: Final = 100
DURATION_DAYS_MAX: Final = 365
QUANTITY_MAX: Final = 1_000_000
_NOTHING: Final = Decimal("0.00")


def sell_item_form(request: PageRequest) -> Page:
    """The form for a new item."""
    category = catalogue.find_category(request.connection, request.form.row_id("category"))
    seller = accounts.find_user(request.connection, request.form.row_id("user"))
    return Page("sell_form.html", {"category": category, "seller": seller})


def register_item(request: PageRequest) -> Page:
    """Stores a new item; its auction begins now."""
    form, connection, now = request.form, request.connection, request.context.now
    row = {
        "name": form.text("name", NAME_CHARACTERS_MAX),
        "description": form.long_text("description", DESCRIPTION_CHARACTERS_MAX),
        "initial_price": form.price("initialPrice"),
        "quantity": form.integer("quantity", 1, QUANTITY_MAX),
        "reserve_price": form.price("reservePrice", default=_NOTHING),
        "buy_now": form.price("buyNow", default=_NOTHING),
        "nb_of_bids": 0,
        "max_bid": _NOTHING,
        "start_date": now,
        "end_date": now + timedelta(days=form.integer("duration", 1, DURATION_DAYS_MAX)),
        "seller": form.row_id("userId"),
        "category": form.row_id("categoryId"),
    }
    seller = accounts.find_user(connection, form.row_id("userId"))
    category = catalogue.find_category(connection, form.row_id("categoryId"))
    item_id = next_id(connection, "items")
    connection.execute(items.insert(), row | {"id": item_id})
    values = {"item": row | {"id": item_id}, "seller": seller, "category": category}
    return Page("item_registered.html", values | {"reference": request.context.reference})
