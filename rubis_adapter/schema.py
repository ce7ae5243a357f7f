"""The tables of the auction site, once, for MariaDB and PostgreSQL alike.

Nothing here lets a database decide: ids are given out by the application (`ids`), prices are exact decimals with two
digits, times have whole seconds, texts compare byte by byte without padding, no column has a default, and there are
neither triggers nor foreign keys.  (The application checks references; a cascade would change rows that the update
manager does not see.)  `spare_state` is ours and no part of the service's state.

Source: RUBiS's data model; SPARE §4.10.2.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, MetaData, Numeric, String, Table, Text
from sqlalchemy.dialects import postgresql

ID_MAX: Final = 2**31 - 1
"""Largest id, quantity, count or rating that both databases store in an `Integer`."""
PRICE_DIGITS: Final = 12
"""Digits of a price, two of them behind the point."""

DESCRIPTION_CHARACTERS_MAX: Final = 8192
COMMENT_CHARACTERS_MAX: Final = 2048

NAMING: Final = {"ix": "%(table_name)s_%(column_0_name)s"}
metadata: Final = MetaData(naming_convention=NAMING)


def _text(characters: int) -> String:
    """Text of at most `characters` code points, compared by code point in both databases."""
    return String(characters).with_variant(String(characters, collation="C"), "postgresql")


def _long_text() -> Text:
    """Text whose length the application limits."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def _price(name: str) -> Column[object]:
    return Column(name, Numeric(PRICE_DIGITS, 2, asdecimal=True), nullable=False)


def _time(name: str) -> Column[object]:
    whole_seconds = DateTime().with_variant(postgresql.TIMESTAMP(precision=0), "postgresql")
    return Column(name, whole_seconds, nullable=False)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True, autoincrement=False)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _table(name: str, *parts: Column[object] | Column[int] | Column[str] | Index) -> Table:
    """A transactional table whose texts use a binary collation that does not pad (MariaDB's default pads)."""
    options: dict[str, Any] = {
        f"{dialect}_{option}": value
        for dialect in ("mysql", "mariadb")
        for option, value in (("engine", "InnoDB"), ("default_charset", "utf8mb4"), ("collate", "utf8mb4_nopad_bin"))
    }
    return Table(name, metadata, *parts, **options)


categories: Final = _table("categories", _id(), Column("name", _text(50), nullable=False))

regions: Final = _table("regions", _id(), Column("name", _text(25), nullable=False))

users: Final = _table(
    "users",
    _id(),
    Column("firstname", _text(20), nullable=False),
    Column("lastname", _text(20), nullable=False),
    Column("nickname", _text(20), nullable=False),
    Column("password", _text(20), nullable=False),
    Column("email", _text(50), nullable=False),
    _number("rating"),
    _price("balance"),
    _time("creation_date"),
    _number("region"),
    Index("users_unique_nickname", "nickname", unique=True),
    Index("users_login", "nickname", "password"),
    Index("users_region", "region"),
)


def _auctions(name: str) -> Table:
    """Auctions; `reserve_price` and `buy_now` are 0 where the seller asked for none."""
    return _table(
        name,
        _id(),
        Column("name", _text(100), nullable=False),
        Column("description", _long_text(), nullable=False),
        _price("initial_price"),
        _number("quantity"),
        _price("reserve_price"),
        _price("buy_now"),
        _number("nb_of_bids"),
        _price("max_bid"),
        _time("start_date"),
        _time("end_date"),
        _number("seller"),
        _number("category"),
        Index(f"{name}_seller", "seller"),
        Index(f"{name}_category", "category", "end_date", "id"),
    )


items: Final = _auctions("items")
"""Auctions that were running when the data set was made, and those begun since; they share ids with `old_items`."""

old_items: Final = _auctions("old_items")
"""Auctions that had ended when the data set was made; never written at run time."""

bids: Final = _table(
    "bids",
    _id(),
    _number("user_id"),
    _number("item_id"),
    _number("qty"),
    _price("bid"),
    _price("max_bid"),
    _time("date"),
    Index("bids_item_id", "item_id"),
    Index("bids_user_id", "user_id"),
)

comments: Final = _table(
    "comments",
    _id(),
    _number("from_user_id"),
    _number("to_user_id"),
    _number("item_id"),
    _number("rating"),
    _time("date"),
    Column("comment", _long_text(), nullable=False),
    Index("comments_from_user_id", "from_user_id"),
    Index("comments_to_user_id", "to_user_id"),
    Index("comments_item_id", "item_id"),
)

buy_now: Final = _table(
    "buy_now",
    _id(),
    _number("buyer_id"),
    _number("item_id"),
    _number("qty"),
    _time("date"),
    Index("buy_now_buyer_id", "buyer_id"),
    Index("buy_now_item_id", "item_id"),
)

IDS_ROW: Final = 1
ids: Final = _table(
    "ids",
    _id(),
    _number("categories"),
    _number("regions"),
    _number("users"),
    _number("items"),
    _number("bids"),
    _number("comments"),
    _number("buy_now"),
)
"""One row (`id` = `IDS_ROW`): per table the last id given out, 0 if none; `items` stands for `old_items` too."""

SPARE_STATE_ROW: Final = 1
spare_state: Final = _table("spare_state", _id(), Column("cursor", BigInteger, nullable=False))
"""One row (`id` = `SPARE_STATE_ROW`): the first sequence number whose effects are not in this database."""

SERVICE_TABLES: Final[Sequence[Table]] = (
    categories, regions, users, items, old_items, bids, comments, buy_now, ids,
)  # fmt: skip
"""The tables that are the service's state, in the canonical order of state parts and updates; their index is on the
wire, so new tables go to the end."""
