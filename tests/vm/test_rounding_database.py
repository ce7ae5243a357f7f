"""A database that stores other values than it was given: nothing of that reaches a passive database.

The database of s1.g1 alone rounds bids to tens, by a trigger; its Python code is that of everybody else.  Bids that are
tens already are agreed on.  One that is not makes the two active databases differ: a sleeper decides.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, select

from benchmarks.chaos.disk_contents import database_on
from images.catalog import Catalog, Image
from rubis_adapter.schema import bids, items
from tests.vm.auction_users import AuctionUser, auction_user
from tests.vm.vm_cell import VmCell, running
from tests.vm.waiting import BOOT_PATIENCE_S, until

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

START_US = 1_700_000_000_000_000
"""When the image's data set begins."""
REFRESH_UPDATES_MAX = 5
AGREED_ITEM, CONTESTED_ITEM, LATER_ITEM = 1000, 1001, 1002
FIRST_BID = Decimal(1_000_000)
"""Above every bid of the data set."""
CONTESTED_BID, ROUNDED_BID = Decimal("2000005.55"), Decimal("2000010.00")
BIDDER, CONTESTER, READER, LATER_BIDDER = 2, 3, 4, 5
HONEST, ROUNDING = "s0.g1", "s1.g1"


@pytest.fixture
def cell(directory: Path, catalog: Catalog, rubis_image: Image, rounding_image: Image) -> Iterator[VmCell]:
    """Server 0 stores what it is given; server 1 boots the image whose database rounds in its first domain."""
    sections = f"""
[service]
image = "{rubis_image.image_id}"
listen = "http"
clock_start_us = {START_US}

[updates]
refresh_updates_max = {REFRESH_UPDATES_MAX}

[[server]]
id = 0

[[server]]
id = 1
image = "{rounding_image.image_id}"
"""
    cell = VmCell(directory, "t-rounding", catalog.directory, sections, head="fault_injection = true\n")
    with running(cell):
        yield cell


class Bids(NamedTuple):
    """What a database knows of the bids of this test, oldest first."""

    agreed: list[Decimal]
    contested: list[Decimal]
    later: list[Decimal]
    contested_item_max: Decimal
    """Highest bid according to the item's own row."""


def test_nothing_of_a_rounded_value_reaches_a_passive_database(cell: VmCell) -> None:
    """The contested bid is answered, who rounds is replaced, and all databases that remain hold the exact value."""
    with auction_user(cell, 1, BIDDER) as bidder:
        agreed = _bid_until_on_disks(cell, bidder, AGREED_ITEM)
    for domain, row in cell.domains("passive").items():
        assert row["cursor"] > 1, f"{domain} was refreshed"
    with auction_user(cell, 0, CONTESTER) as contester, auction_user(cell, 1, READER) as reader:
        contester.see(contester.bid_page(CONTESTED_ITEM, CONTESTED_BID))
        shown = reader.see(f"ViewBidHistory?itemId={CONTESTED_ITEM}").replace(",", "")
    assert str(CONTESTED_BID) in shown
    assert str(ROUNDED_BID) not in shown
    _require_conviction(cell)
    until(cell.is_whole, "redundancy is restored", BOOT_PATIENCE_S)
    with auction_user(cell, 0, LATER_BIDDER) as later_bidder:
        later = _bid_until_on_disks(cell, later_bidder, LATER_ITEM)
    remaining = {*cell.domains("active"), *cell.domains("passive")}
    assert len(remaining) == 4
    assert ROUNDING not in remaining

    cell.kill_everything()  # an orderly end would take the disks with it
    for domain in sorted(remaining):
        on_disk = _bids_of(cell, domain)
        assert on_disk.agreed == agreed, domain
        assert (on_disk.contested, on_disk.contested_item_max) == ([CONTESTED_BID], CONTESTED_BID), domain
        assert len(on_disk.later) >= REFRESH_UPDATES_MAX, domain
        assert on_disk.later == later[: len(on_disk.later)], domain


def _bid(user: AuctionUser, item: int, count: int, done: int = 0) -> list[Decimal]:
    """Place `count` bids in tens on an item, each above the `done` ones before; return them."""
    amounts = [FIRST_BID + 10 * (done + number) for number in range(1, count + 1)]
    for amount in amounts:
        assert str(amount) in user.see(user.bid_page(item, amount)).replace(",", "")
    return amounts


def _bid_until_on_disks(cell: VmCell, bidder: AuctionUser, item: int) -> list[Decimal]:
    """Place bids until the first ones are on the disk of every domain; return all."""
    placed = _bid(bidder, item, 2 * REFRESH_UPDATES_MAX)
    position = cell.status(0)["delivered"]

    def on_disks() -> bool:
        placed.extend(_bid(bidder, item, 1, len(placed)))
        return all(row["durable"] >= position for row in cell.status(0)["servers"])

    until(on_disks, "every domain has the first bids on its disk")
    return placed


def _require_conviction(cell: VmCell) -> None:
    """Server 1's first database alone voted for something else than what is stable, and was given up for it."""
    until(lambda: _accused(cell) == {ROUNDING}, "the rounding domain is found out")
    first = min(event["data"]["sequence"] for event in cell.events("vote_contradicts"))
    explained = cell.ask_spare("explain", str(first))
    verdicts = {vote["domain"]: vote["verdict"] for vote in explained["votes"]}
    assert explained["outcome"] == "stable"
    assert (verdicts.pop(ROUNDING), verdicts[HONEST]) == ("differs", "agrees")
    assert list(verdicts.values()).count("agrees") >= 2, "two databases that store what they are given"
    until(lambda: ROUNDING in cell.domains("retired"), "the rounding domain is retired")


def _accused(cell: VmCell) -> set[str]:
    return {event["data"]["domain"] for event in cell.events("vote_contradicts")}


def _bids_of(cell: VmCell, domain: str) -> Bids:
    with database_on(_disk_of(cell, domain)) as connection:
        agreed, contested, later = (_amounts(connection, one) for one in (AGREED_ITEM, CONTESTED_ITEM, LATER_ITEM))
        highest = connection.execute(select(items.c.max_bid).where(items.c.id == CONTESTED_ITEM)).scalar_one()
        return Bids(agreed, contested, later, highest)


def _disk_of(cell: VmCell, domain: str) -> Path:
    server = next(one for one in cell.config.server if one.id == int(domain[1]))
    (disk,) = (path for storage in server.storage for path in Path(storage).glob(f"{domain}.qcow2"))
    return disk


def _amounts(connection: Connection, item: int) -> list[Decimal]:
    """Return the bids of this test on an item."""
    wanted = select(bids.c.bid).where(bids.c.item_id == item, bids.c.bid > FIRST_BID).order_by(bids.c.id)
    return list(connection.execute(wanted).scalars())
