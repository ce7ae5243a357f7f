"""Reading items, categories and regions; every list has an order without ties."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection, Table, bindparam, select

from rubis_adapter.auction.page import Record, Sorry
from rubis_adapter.schema import bids, categories, items, old_items, regions, users

BID_STEP: Final = Decimal("1.00")
BIDS_SHOWN_MAX: Final = 200

_ITEM = {table: select(table).where(table.c.id == bindparam("item_id")) for table in (items, old_items)}
_LOCKED_ITEM = _ITEM[items].with_for_update()
_CATEGORY = select(categories).where(categories.c.id == bindparam("category_id"))
_CATEGORIES = select(categories).order_by(categories.c.name, categories.c.id)
_REGIONS = select(regions).order_by(regions.c.name, regions.c.id)
_REGION = select(regions).where(regions.c.id == bindparam("region_id"))
_REGION_BY_NAME = select(regions).where(regions.c.name == bindparam("region_name")).order_by(regions.c.id).limit(1)

_RUNNING = (
    select(items.c.id, items.c.name, items.c.initial_price, items.c.max_bid, items.c.nb_of_bids, items.c.end_date)
    .where(items.c.category == bindparam("category_id"), items.c.end_date > bindparam("now"))
    .order_by(items.c.end_date, items.c.id)
    .limit(bindparam("row_count"))
    .offset(bindparam("first_row"))
)
_RUNNING_IN_REGION = _RUNNING.join(users, users.c.id == items.c.seller).where(users.c.region == bindparam("region_id"))
_BIDS = (
    select(bids, users.c.nickname)
    .join(users, users.c.id == bids.c.user_id)
    .where(bids.c.item_id == bindparam("item_id"))
    .order_by(bids.c.bid.desc(), bids.c.date.desc(), bids.c.id.desc())
    .limit(BIDS_SHOWN_MAX)
)


def all_categories(connection: Connection) -> Sequence[Record]:
    """All categories by name."""
    return connection.execute(_CATEGORIES).all()


def all_regions(connection: Connection) -> Sequence[Record]:
    """All regions by name."""
    return connection.execute(_REGIONS).all()


def find_category(connection: Connection, category_id: int) -> Record:
    """The category with this id.  Raises `Sorry`."""
    return _found(connection.execute(_CATEGORY, {"category_id": category_id}).one_or_none(), "this category")


def find_region(connection: Connection, region_id: int) -> Record:
    """The region with this id.  Raises `Sorry`."""
    return _found(connection.execute(_REGION, {"region_id": region_id}).one_or_none(), "this region")


def find_region_by_name(connection: Connection, name: str) -> Record:
    """The region of this name.  Raises `Sorry`."""
    return _found(connection.execute(_REGION_BY_NAME, {"region_name": name}).one_or_none(), "this region")


def running_items(
    connection: Connection, category_id: int, region_id: int | None, now: datetime, first_row: int, row_count: int
) -> Sequence[Record]:
    """Some of the auctions of a category (of sellers of one region) that end after `now`, the next to end first."""
    values = {"category_id": category_id, "now": now, "first_row": first_row, "row_count": row_count}
    if region_id is None:
        return connection.execute(_RUNNING, values).all()
    return connection.execute(_RUNNING_IN_REGION, values | {"region_id": region_id}).all()


def find_item(connection: Connection, item_id: int) -> Record:
    """The item with this id, also one whose auction ended long ago.  Raises `Sorry`."""
    item = _read_item(connection, items, item_id) or _read_item(connection, old_items, item_id)
    return _found(item, "this item")


def lock_running_item(connection: Connection, item_id: int, now: datetime) -> Record:
    """The item with this id, locked until the transaction ends.  Raises `Sorry`, also if its auction has ended."""
    item = connection.execute(_LOCKED_ITEM, {"item_id": item_id}).one_or_none()
    return require_running(_found(item or _read_item(connection, old_items, item_id), "this item"), now)


def require_running(item: Record, now: datetime) -> Record:
    """The item itself.  Raises `Sorry` if its auction has ended or nothing is left of it."""
    if item.end_date <= now or item.quantity < 1:
        raise Sorry("this auction has ended.")
    return item


def bids_on(connection: Connection, item_id: int) -> Sequence[Record]:
    """The bids on an item, the highest first, with the bidders' nicknames."""
    return connection.execute(_BIDS, {"item_id": item_id}).all()


def current_price(item: Record) -> Decimal:
    """The highest bid, or what the seller asked for."""
    price: Decimal = max(item.max_bid, item.initial_price)
    return price


def minimum_bid(item: Record) -> Decimal:
    """The lowest bid that is acceptable now."""
    return item.initial_price if item.nb_of_bids == 0 else current_price(item) + BID_STEP


def purchase_price(item: Record) -> Decimal:
    """For how much the item is sold at once: what the seller set for it or wants to get at least, but never less than
    the next bid would be."""
    price: Decimal = max(item.buy_now or item.reserve_price, minimum_bid(item))
    return price


def _read_item(connection: Connection, table: Table, item_id: int) -> Record | None:
    return connection.execute(_ITEM[table], {"item_id": item_id}).one_or_none()


def _found(row: Record | None, what: str) -> Record:
    if row is None:
        raise Sorry(f"{what} does not exist.")
    return row
