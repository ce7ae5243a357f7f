"""The adapter's contract, its failures, and what survives a crash, over real tiers on both databases.

Source: design "Service adapter"; SPARE §4.10.2.
"""

import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exec_wrapper import adapter_contract
from exec_wrapper.service_adapter import RequestContext, SequencedUpdate, ServiceAdapter
from rubis_adapter.adapter import RubisAdapter
from rubis_adapter.databases import open_engine
from rubis_adapter.errors import FeedMisuse, MalformedUpdate, ServiceFailed
from rubis_adapter.tiers.tier_process import log_tail
from tests.rubis.running_replica import FIRST_ITEM, START_US, RunningReplica, get_request, page_request

pytestmark = pytest.mark.db

VIEW = page_request("ViewItem", itemId=FIRST_ITEM)
BID = {"itemId": FIRST_ITEM, "userId": 3, "minBid": "1", "qty": 1, "maxQty": 1}
COMMENT = page_request("StoreComment", itemId=25, to=4, rating=5, comment="Fine.", **{"from": 5})
REQUESTS = [
    VIEW,
    page_request("StoreBid", **BID, bid="91000", maxBid="91000"),
    page_request("StoreBid", **BID, bid="90000", maxBid="90000"),
    get_request("/rubis_servlets/"),
    COMMENT,
    page_request("AboutMe", nickname="user3", password="password3"),
    page_request("StoreBuyNow", itemId=FIRST_ITEM + 1, userId=4, qty=1, maxQty=1),
    page_request("ViewItem", itemId="x"),
]


@pytest.fixture
def lent(both: tuple[RunningReplica, RunningReplica]) -> Iterator["Lender"]:
    lender = Lender(both)
    yield lender
    for replica in both:
        replica.replica.open_adapter()


class Lender:
    """Hands out the two replicas in turn, so that every comparison is one of two databases."""

    def __init__(self, both: tuple[RunningReplica, RunningReplica]) -> None:
        self._both = both
        self._turn = 0

    def make(self) -> ServiceAdapter:
        replica = self._both[self._turn % 2]
        self._turn += 1
        adapter = replica.replica.open_adapter()
        replica.expect_changes()
        adapter.set_state(1, adapter.state_format, iter(replica.pristine))
        return adapter

    def reopen(self, adapter: ServiceAdapter) -> ServiceAdapter:
        """Kills all tiers of the replica and starts them again."""
        [replica] = [replica for replica in self._both if replica.replica.adapter is adapter]
        replica.replica.kill()
        replica.replica.start()
        return replica.adapter


def test_the_adapter_keeps_its_contract_across_databases(lent: Lender) -> None:
    adapter_contract.check_adapter(lent.make, REQUESTS, lent.reopen)


def test_what_was_synced_survives_a_crash(site: RunningReplica) -> None:
    """With the change, the cursor too, which is past requests that changed nothing."""
    assert site.execute(COMMENT).update
    site.execute(VIEW)
    synced = site.adapter.sync()
    assert synced == site.adapter.cursor()
    state = site.state()
    site.replica.kill()
    site.replica.start()
    assert site.adapter.cursor() == synced
    assert site.state() == state


def test_syncing_nothing_new_is_fine(site: RunningReplica) -> None:
    assert site.adapter.sync() == site.adapter.sync() == site.adapter.cursor()


def test_numbers_and_points_out_of_order_are_refused(site: RunningReplica) -> None:
    cursor = site.adapter.cursor()
    with pytest.raises(FeedMisuse):
        site.adapter.execute(COMMENT, RequestContext(cursor - 1, START_US, bytes(32)))
    with pytest.raises(FeedMisuse):
        site.adapter.execute(COMMENT, RequestContext(cursor, 2**63, bytes(32)))
    with pytest.raises(FeedMisuse):
        site.adapter.apply_updates([SequencedUpdate(cursor - 1, b"\1")], cursor)
    with pytest.raises(FeedMisuse):
        site.adapter.take_state(cursor + 1, 1, 1000)
    with pytest.raises(FeedMisuse):
        site.adapter.take_state(cursor, 2, 1000)
    with pytest.raises(FeedMisuse):
        site.adapter.set_state(cursor, 2, iter(()))
    assert site.adapter.cursor() == cursor
    assert site.state() == site.pristine


def test_of_a_batch_with_a_malformed_update_nothing_is_applied(site: RunningReplica) -> None:
    first = site.adapter.cursor()
    update = site.execute(COMMENT).update
    site.reset()
    cursor = site.adapter.cursor()
    batch = [SequencedUpdate(cursor, update), SequencedUpdate(cursor + 1, update[:-1])]
    with pytest.raises(MalformedUpdate):
        site.adapter.apply_updates(batch, cursor + 1)
    assert (site.adapter.cursor(), site.state()) == (cursor, site.pristine)
    assert cursor == first + 1


@pytest.mark.parametrize("damage", [b"", b"\2", b"\1\0", b"\1" + bytes([0, 0]) + bytes(8)])
def test_half_a_state_is_none(site: RunningReplica, damage: bytes) -> None:
    """Until the last part is in, the cursor in the database says so, also after a crash."""
    site.expect_changes()
    parts = [*site.pristine[:1], damage] if damage[:1] == b"\1" and len(damage) < 3 else [damage]
    if parts[0] == site.pristine[0]:
        parts[0] = parts[0][:-3]
    with pytest.raises(MalformedUpdate):
        site.adapter.set_state(50, 1, iter(parts))
    assert site.adapter.cursor() == 0
    assert site.replica.open_adapter().cursor() == 0
    site.adapter.set_state(50, 1, iter(site.pristine))
    assert site.replica.open_adapter().cursor() == 50


def test_the_cursor_falls_back_to_the_last_change_where_nothing_was_synced(site: RunningReplica) -> None:
    site.execute(COMMENT)
    after_change = site.adapter.cursor()
    site.execute(VIEW)
    site.execute(VIEW)
    assert site.replica.open_adapter().cursor() == after_change


@pytest.fixture
def restarted(site: RunningReplica) -> Iterator[RunningReplica]:
    """A replica that may be broken: it is started again afterwards."""
    yield site
    site.replica.kill()
    site.replica.start()
    site.expect_changes()  # what was not synced is lost, the data set too


@pytest.mark.parametrize("tier", ["web", "application", "database"])
def test_a_dead_tier_is_a_failure_and_no_reply(restarted: RunningReplica, tier: str) -> None:
    restarted.execute(VIEW)
    getattr(restarted.replica.processes, tier).kill()
    assert not restarted.replica.processes.is_running()
    with pytest.raises(ServiceFailed):
        restarted.execute(VIEW)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dead_database_is_a_failure_of_every_method(restarted: RunningReplica) -> None:
    update = restarted.execute(COMMENT).update
    cursor = restarted.adapter.cursor()
    restarted.replica.processes.database.kill()
    with pytest.raises(ServiceFailed):
        restarted.adapter.apply_updates([SequencedUpdate(cursor, update)], cursor)
    with pytest.raises(ServiceFailed):
        restarted.adapter.sync()
    with pytest.raises(ServiceFailed):
        list(restarted.adapter.take_state(cursor, 1, 1000))
    with pytest.raises(ServiceFailed):
        restarted.adapter.set_state(cursor, 1, iter(restarted.pristine))
    gc.collect()  # PyMySQL forgets to close a socket that it cannot connect


def test_a_hanging_tier_is_a_failure(restarted: RunningReplica) -> None:
    restarted.replica.close_adapter()
    processes = restarted.replica.processes
    adapter = RubisAdapter(
        open_engine(processes.database.administrator_url()),
        processes.web.socket,
        restarted.configuration.run_dir / "updates" / "updates.sock",
        processes.web_account,
        request_timeout_seconds=0.5,
    )
    begin = time.monotonic()
    application = processes.application.pid
    for pid in children_of(application) or [application]:  # waitress works in the process that listens
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ServiceFailed, match="no sign"):
        adapter.execute(VIEW, RequestContext(adapter.cursor(), START_US, bytes(32)))
    assert time.monotonic() - begin >= 0.5
    adapter.close()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def test_a_web_connection_that_was_closed_while_idle_is_opened_again(restarted: RunningReplica) -> None:
    restarted.execute(VIEW)
    web = restarted.replica.processes.web
    web.stop()
    web.start()
    assert b" 200 OK" in restarted.execute(VIEW).reply


def test_a_restarted_application_reports_its_updates_again(restarted: RunningReplica) -> None:
    assert restarted.execute(COMMENT).update
    application = restarted.replica.processes.application
    application.stop()
    application.start()
    assert restarted.execute(COMMENT).update


def test_nothing_is_logged_by_a_day_of_work(site: RunningReplica) -> None:
    """A log that grows with requests would fill a domain's disk."""
    run_dir = site.configuration.run_dir
    for request in REQUESTS:
        site.execute(request)
    before = {path: path.stat().st_size for path in run_dir.rglob("*.log")}
    for request in REQUESTS * 3:
        site.execute(request)
    after = {path: path.stat().st_size for path in before}
    assert after == before, {path.name: log_tail(path) for path in after if after[path] != before[path]}


def test_files_and_sockets_are_closed_to_others(site: RunningReplica) -> None:
    run_dir = site.configuration.run_dir
    for directory in (run_dir / "database", run_dir / "web", run_dir / "updates", site.configuration.data_dir):
        assert directory.stat().st_mode & 0o777 == 0o700, directory
