"""A database that stores other values than it was given: nothing of that reaches a passive database.

Server 1's database rounds bids to tens by a trigger; its Python code is that of everybody else.  Bids that are tens
already are agreed on and go to the passive databases; one that is not makes the two active databases differ.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Connection, select

from benchmarks.chaos.disk_contents import database_on
from images.catalog import Catalog, Image
from replica_manager.server_settings import SYNC_MS
from rubis_adapter.schema import bids, items, spare_state
from tests.vm.auction_users import AuctionUser, auction_user
from tests.vm.vm_cell import VmCell, running
from tests.vm.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

START_US = 1_700_000_000_000_000
"""When the image's data set begins."""
REFRESH_UPDATES_MAX = 5
AGREED_ITEM, CONTESTED_ITEM, LATER_ITEM = 1000, 1001, 1002
FIRST_BID = Decimal(1_000_000)
"""Above every bid of the data set."""
CONTESTED_BID, ROUNDED_BID = Decimal("2000005.55"), Decimal("2000010.00")
LATER_BIDS = 3 * REFRESH_UPDATES_MAX
"""Agreed bids behind the contested one: sleepers would be refreshed for them if they could be."""
BIDDER, CONTESTER, READER, LATER_BIDDER = 2, 3, 4, 5
PASSIVE = ("s0.g2", "s1.g2")


@pytest.fixture
def cell(directory: Path, catalog: Catalog, rubis_image: Image, rounding_image: Image) -> Iterator[VmCell]:
    """Server 0 stores what it is given, server 1 rounds."""
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
    cursor: int
    """First sequence number whose effects are not in the database."""


def test_nothing_of_a_rounded_value_reaches_a_passive_database(cell: VmCell) -> None:
    """Passive databases hold agreed bids, and nothing from the contested one on, neither exact nor rounded."""
    with auction_user(cell, 0, CONTESTER) as contester, auction_user(cell, 1, READER) as reader:
        with auction_user(cell, 1, BIDDER) as bidder:
            agreed = _bid_until_on_disks(cell, bidder)
        contested = _contest(cell, contester, reader)
        with auction_user(cell, 0, LATER_BIDDER) as later_bidder:
            later = _bid(later_bidder, LATER_ITEM, LATER_BIDS)
            _outlast_syncs(cell, later_bidder)
        assert not contester.has_heard()
        assert not reader.has_heard()
        for row in cell.domains("passive").values():
            assert row["cursor"] <= contested
        for server in cell.servers:
            assert cell.status(server)["stable"] == contested - 1
            assert cell.status(server)["refreshes"] >= 1

    cell.kill_everything()  # an orderly end would take the disks with it
    found = {domain: _bids_of(cell, domain) for domain in ("s0.g1", "s1.g1", *PASSIVE)}
    for domain in PASSIVE:
        on_disk = found[domain]
        assert len(on_disk.agreed) >= REFRESH_UPDATES_MAX, domain
        assert on_disk.agreed == agreed[: len(on_disk.agreed)], domain
        assert on_disk.contested == on_disk.later == [], domain
        assert on_disk.contested_item_max < FIRST_BID, domain
        assert on_disk.cursor <= contested, domain
    # What it would have been: the active databases hold it, each in its own way.
    assert (found["s0.g1"].contested, found["s1.g1"].contested) == ([CONTESTED_BID], [ROUNDED_BID])
    for domain in ("s0.g1", "s1.g1"):
        assert (found[domain].agreed, found[domain].later) == (agreed, later), domain


def _bid(user: AuctionUser, item: int, count: int, done: int = 0) -> list[Decimal]:
    """Place `count` bids in tens on an item, each above the `done` ones before; return them."""
    amounts = [FIRST_BID + 10 * (done + number) for number in range(1, count + 1)]
    for amount in amounts:
        assert str(amount) in user.see(user.bid_page(item, amount)).replace(",", "")
    return amounts


def _bid_until_on_disks(cell: VmCell, bidder: AuctionUser) -> list[Decimal]:
    """Place bids until the first ones are on the disk of every domain; return all."""
    placed = _bid(bidder, AGREED_ITEM, 2 * REFRESH_UPDATES_MAX)
    position = cell.status(0)["delivered"]

    def on_disks() -> bool:
        placed.extend(_bid(bidder, AGREED_ITEM, 1, len(placed)))
        return all(row["durable"] >= position for row in cell.status(0)["servers"])

    until(on_disks, "every domain has the first bids on its disk")
    return placed


def _contest(cell: VmCell, contester: AuctionUser, reader: AuctionUser) -> int:
    """Place a bid that one database rounds, and look at it; return the bid's sequence number."""
    contester.send(contester.bid_page(CONTESTED_ITEM, CONTESTED_BID))
    (first,) = until(lambda: _diverged(cell, 1), "the bid is contested")
    reader.send(f"ViewBidHistory?itemId={CONTESTED_ITEM}")
    until(lambda: _diverged(cell, 2), "the page with the bid is contested")
    votes = {vote["domain"]: vote for vote in cell.ask_spare("explain", str(first))["votes"]}
    assert set(votes) == {"s0.g1", "s1.g1"}
    assert {vote["verdict"] for vote in votes.values()} == {"differs"}
    # The same page was going to be shown: what the databases have stored is different.
    assert votes["s0.g1"]["reply_bytes"] == votes["s1.g1"]["reply_bytes"]
    return first


def _diverged(cell: VmCell, count: int) -> list[int]:
    """Return the contested sequence numbers if both servers have told of `count`; else nothing."""
    told = {(event["server"], event["data"]["sequence"]) for event in cell.events("vote_diverged")}
    by_server = [sorted(number for server, number in told if server == one) for one in cell.servers]
    return by_server[0] if by_server[0] == by_server[1] and len(by_server[0]) == count else []


def _outlast_syncs(cell: VmCell, user: AuctionUser) -> None:
    """Go on until the active databases were made durable: a page that comes after a sync was asked for proves it."""
    uptimes_s = [cell.status(server)["uptime_s"] for server in cell.servers]

    def have_outlasted() -> bool:
        user.see(f"ViewItem?itemId={LATER_ITEM}")
        now_s = [cell.status(server)["uptime_s"] for server in cell.servers]
        return all(now - then > 2 * SYNC_MS / 1000 for now, then in zip(now_s, uptimes_s, strict=True))

    until(have_outlasted, "two syncs have passed")
    user.see(f"ViewItem?itemId={LATER_ITEM}")


def _bids_of(cell: VmCell, domain: str) -> Bids:
    server = next(one for one in cell.config.server if one.id == int(domain[1]))
    storage = server.storage[0 if domain.endswith("g1") else 1]
    with database_on(Path(storage) / f"{domain}.qcow2") as connection:
        agreed, contested, later = (_amounts(connection, one) for one in (AGREED_ITEM, CONTESTED_ITEM, LATER_ITEM))
        highest = connection.execute(select(items.c.max_bid).where(items.c.id == CONTESTED_ITEM)).scalar_one()
        cursor = connection.execute(select(spare_state.c.cursor)).scalar_one()
        return Bids(agreed, contested, later, highest, cursor)


def _amounts(connection: Connection, item: int) -> list[Decimal]:
    """Return the bids of this test on an item."""
    wanted = select(bids.c.bid).where(bids.c.item_id == item, bids.c.bid > FIRST_BID).order_by(bids.c.id)
    return list(connection.execute(wanted).scalars())
