"""What a user takes part in: bids, auctions won, purchases, sales."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, bindparam, func, select

from rubis_adapter.auction.page import Record
from rubis_adapter.schema import bids, buy_now, items, old_items

ROWS_MAX: Final = 50
LOOK_BACK: Final = timedelta(days=30)

_AUCTIONS: Final = (items, old_items)

_own_bids = (
    select(bids.c.item_id, func.max(bids.c.bid).label("own_bid"))
    .where(bids.c.user_id == bindparam("user_id"))
    .group_by(bids.c.item_id)
    .subquery()
)


def _columns(table: Table) -> Select[Any]:
    columns = table.c
    return select(
        columns.id, columns.name, columns.initial_price, columns.max_bid, columns.nb_of_bids, columns.end_date
    )


_RUNNING_BIDS = (
    _columns(items)
    .add_columns(_own_bids.c.own_bid)
    .join(_own_bids, _own_bids.c.item_id == items.c.id)
    .where(items.c.end_date > bindparam("now"))
    .order_by(items.c.end_date, items.c.id)
    .limit(ROWS_MAX)
)
_RUNNING_SALES = (
    _columns(items)
    .where(items.c.seller == bindparam("user_id"), items.c.end_date > bindparam("now"))
    .order_by(items.c.end_date, items.c.id)
    .limit(ROWS_MAX)
)


def _ended(rows: Select[Any], table: Table) -> Select[Any]:
    ended_lately = table.c.end_date.between(bindparam("since"), bindparam("now"))
    return rows.where(ended_lately).order_by(table.c.end_date.desc(), table.c.id.desc()).limit(ROWS_MAX)


_WON = [
    _ended(
        _columns(table)
        .join(_own_bids, _own_bids.c.item_id == table.c.id)
        .where(_own_bids.c.own_bid == table.c.max_bid, table.c.max_bid >= table.c.reserve_price),
        table,
    )
    for table in _AUCTIONS
]
_ENDED_SALES = [_ended(_columns(table).where(table.c.seller == bindparam("user_id")), table) for table in _AUCTIONS]
_PURCHASES = (
    select(
        buy_now.c.item_id, buy_now.c.qty, buy_now.c.date, func.coalesce(items.c.name, old_items.c.name).label("name")
    )
    .outerjoin(items, items.c.id == buy_now.c.item_id)
    .outerjoin(old_items, old_items.c.id == buy_now.c.item_id)
    .where(buy_now.c.buyer_id == bindparam("user_id"), buy_now.c.date >= bindparam("since"))
    .order_by(buy_now.c.date.desc(), buy_now.c.id.desc())
    .limit(ROWS_MAX)
)


def running_bids(connection: Connection, user_id: int, now: datetime) -> Sequence[Record]:
    """Running auctions that the user bids in, with the user's highest bid as `own_bid`; the next to end first."""
    return connection.execute(_RUNNING_BIDS, {"user_id": user_id, "now": now}).all()


def running_sales(connection: Connection, user_id: int, now: datetime) -> Sequence[Record]:
    """Running auctions of the user; the next to end first."""
    return connection.execute(_RUNNING_SALES, {"user_id": user_id, "now": now}).all()


def won_items(connection: Connection, user_id: int, now: datetime) -> Sequence[Record]:
    """Auctions that ended lately with the user's bid as the highest, above the reserve; the newest first."""
    return _newest(connection, _WON, user_id, now)


def ended_sales(connection: Connection, user_id: int, now: datetime) -> Sequence[Record]:
    """Auctions of the user that ended lately; the newest first."""
    return _newest(connection, _ENDED_SALES, user_id, now)


def purchases(connection: Connection, user_id: int, now: datetime) -> Sequence[Record]:
    """What the user bought at once lately; the newest first."""
    return connection.execute(_PURCHASES, {"user_id": user_id, "since": now - LOOK_BACK}).all()


def _newest(connection: Connection, statements: Sequence[Select[Any]], user_id: int, now: datetime) -> Sequence[Record]:
    values = {"user_id": user_id, "now": now, "since": now - LOOK_BACK}
    found = [row for statement in statements for row in connection.execute(statement, values)]
    return sorted(found, key=lambda row: (row.end_date, row.id), reverse=True)[:ROWS_MAX]
