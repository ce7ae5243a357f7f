"""A server continues its log over restarts, power cuts and full disks, and the log tells of each."""

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replica_manager.audit.audit_file import AuditFile
from replica_manager.audit.audit_log import WAITING_MAX, AuditLog
from replica_manager.audit.chain import check_head, decode_head
from tests.audit.logs import FILLED, LEFT, RETIRED, STARTING, ServerLog, cell_at


@pytest.fixture
def log(tmp_path: Path) -> ServerLog:
    """The log of server 0."""
    return ServerLog(tmp_path)


def problems(log: ServerLog) -> list[str]:
    """Return what is wrong with a log by itself."""
    found = log.chain
    told = [found.first_break, check_head(found, decode_head(log.head_path.read_bytes())), *found.losses]
    return [words for words in told if words]


def test_a_restart_continues_the_chain_and_records_nothing_twice(log: ServerLog) -> None:
    """A server that starts again reads the order from its log, and so its past changes once more."""
    log.run(RETIRED, STARTING)
    log.run(RETIRED, STARTING, FILLED, standing="returning")
    assert log.kinds == [
        *("log_opened", "roles_read", "role_changed", "role_changed", "log_closed"),
        *("log_opened", "role_changed", "log_closed"),
    ]
    assert [record.number for record in log.chain.records] == list(range(1, 9))
    assert problems(log) == []


def test_a_new_cell_counts_positions_anew(log: ServerLog) -> None:
    """`cell up --fresh` keeps the logs: the same change at the same position is another one."""
    log.run(RETIRED)
    log.run(RETIRED)
    assert log.kinds.count("role_changed") == 2


def test_a_killed_process_loses_nothing_that_it_wrote(log: ServerLog) -> None:
    """No record says that it ended in good order."""
    log.kill(RETIRED, STARTING)
    log.run(FILLED, standing="returning")
    assert log.kinds == ["log_opened", "roles_read", *["role_changed"] * 2, "log_opened", "role_changed", "log_closed"]
    assert problems(log) == []


@pytest.mark.parametrize("torn", [b"0123", b"\0" * 4096, b"ab\ncd\n", b"\xff\xfe"])
def test_a_torn_line_stays_and_a_record_tells_of_it(log: ServerLog, torn: bytes) -> None:
    """The chain goes on from the last whole record; what the order says again is not lost."""
    log.kill(RETIRED)
    with log.path.open("ab") as file:
        file.write(torn)
    log.run(RETIRED, STARTING, standing="returning")
    found = log.chain
    assert log.kinds[3:] == ["line_torn", "log_opened", "role_changed", "log_closed"]
    assert problems(log) == []
    assert len(found.notes) == 1
    assert "before record 4" in found.notes[0]
    assert torn in log.path.read_bytes()


def test_a_last_record_that_was_cut_in_two_is_recorded_again(log: ServerLog) -> None:
    """It was not durable yet: the order is read once more, the log has it again."""
    log.kill(RETIRED)
    log.start("returning").note(*STARTING)  # not synced
    log.path.write_bytes(log.path.read_bytes()[:-30])
    log.run(RETIRED, STARTING, standing="returning")
    assert [record.data["domain"] for record in log.chain.records if record.kind == "role_changed"] == [
        "s0.g1",
        "s0.g3",
    ]
    assert problems(log) == []


def test_a_line_that_lacks_only_its_end_is_whole(log: ServerLog) -> None:
    """The cut fell between the last byte and the line end."""
    log.kill(RETIRED)
    log.path.write_bytes(log.path.read_bytes()[:-1])
    log.run(standing="returning")
    assert log.kinds == ["log_opened", "roles_read", "role_changed", "log_opened", "log_closed"]
    assert problems(log) == []


def test_durable_records_that_are_missing_at_a_start_are_told_for_ever(log: ServerLog) -> None:
    """No power cut does that: the head follows the file.  A server that starts must not make a cut good."""
    log.run(RETIRED, STARTING)
    log.edit(lambda lines: lines[:3])
    log.run(RETIRED, STARTING, standing="returning")
    assert log.kinds[3:] == ["records_lost", "log_opened", "role_changed", "log_closed"]
    assert problems(log) == ["record 4 says that records up to 5 were lost"]


def test_a_head_that_is_missing_at_a_start_is_told_for_ever(log: ServerLog) -> None:
    """Without it nobody can tell whether the end was cut."""
    log.run(RETIRED)
    log.head_path.unlink()
    log.run(standing="returning")
    assert problems(log) == ["record 5 says that the head was not there when the server started"]


def test_what_a_snapshot_covers_is_named_with_the_roles_that_came_of_it(log: ServerLog) -> None:
    """A learner is not told of every change; a second snapshot below what is known adds nothing."""
    log.run(RETIRED)
    it = log.start("learning")
    it.skip_to(cell_at(500))
    it.skip_to(cell_at(400))
    it.note("role_changed", {"domain": "s1.g4", "role": "passive", "reason": "repaired", "sequence": 510})
    it.close()
    _, record = (record for record in log.chain.records if record.kind == "roles_read")
    assert (record.data["since"], record.data["through"], record.data["live_servers"]) == (9, 500, [0, 1])
    assert record.data["roles"]["s0.g1"] == ["active", "start of the cell"]


def test_a_log_that_begins_later_than_the_cell_says_from_where(log: ServerLog) -> None:
    """A deleted log, or one of an older version: the checkpoint covers what is not told again."""
    log.run(standing="returning", cell=cell_at(300))
    assert [(record.data["since"], record.data["through"]) for record in log.chain.records[1:2]] == [(0, 300)]


def test_the_end_of_a_restart_has_the_position_of_its_roles(log: ServerLog) -> None:
    """Its event names none: it comes with them."""
    back = ("role_changed", {"domain": "s0.g1", "role": "active", "reason": "back after a restart", "sequence": 80})
    ended = ("cell_restarted", {"settled_through": 70, "cursors": {"s0.g1": 71}})
    log.run(back, ended)
    log.run(back, ended, standing="returning")
    assert [(record.kind, record.position) for record in log.chain.records if record.position] == [
        ("role_changed", 80),
        ("cell_restarted", 80),
    ]


def test_only_the_first_lie_of_a_domain_is_evidence(log: ServerLog) -> None:
    """It lies in every vote until it is convicted: a log must not grow with that.  Other events are no changes."""
    lies = [("vote_contradicts", {"domain": "s0.g1", "sequence": number, "reason": "differs"}) for number in (4, 5)]
    other = ("vote_contradicts", {"domain": "s1.g1", "sequence": 5, "reason": "differs"})
    log.run(*lies, other, ("refreshed", {"updates": 3}))
    log.run(lies[1], standing="returning")
    told = [record.data for record in log.chain.records if record.kind == "vote_contradicts"]
    assert [(data["domain"], data["sequence"]) for data in told] == [("s0.g1", 4), ("s1.g1", 5)]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file of this process may grow beyond 4 KiB: writes end in the middle of a line, and then are refused."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_loses_nothing_if_it_has_room_again_soon(log: ServerLog) -> None:
    """The event is told once; what waited is written with the time at which it happened."""
    it = log.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 300, resource.RLIM_INFINITY))
    for number in range(20):
        it.note("domain_suspected", {"domain": "s0.g1", "reason": f"reason {number}", "sequence": number + 1})
    assert len(log.failures) == 1
    assert log.failures[0].startswith("audit_failed")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    asyncio.run(it.tend())
    it.close()
    assert [record.position for record in log.chain.records if record.position] == list(range(1, 21))
    assert problems(log) == []
    assert len(log.chain.notes) == 1  # the line that was cut by the limit


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_refuses_for_long_loses_changes_and_the_log_says_which(log: ServerLog) -> None:
    """Memory is bounded: the oldest go."""
    it = log.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size, resource.RLIM_INFINITY))
    for number in range(WAITING_MAX + 5):
        it.note("domain_suspected", {"domain": "s0.g1", "reason": "late", "sequence": number + 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    it.close()
    (dropped,) = (record.data for record in log.chain.records if record.kind == "changes_dropped")
    assert dropped == {"count": 6, "since": 0, "through": 6}
    assert any("the disk refused 6 changes" in words for words in problems(log))


def test_writing_costs_no_more_than_an_ordinary_log(log: ServerLog) -> None:
    """One write per change and no sync: the median is far below a disk's."""
    it = log.start()
    durations_us = []
    for number in range(500):
        began_ns = time.perf_counter_ns()
        it.note("role_changed", {"domain": "s0.g1", "role": "active", "reason": "offered", "sequence": number})
        durations_us.append((time.perf_counter_ns() - began_ns) / 1000)
    it.close()
    assert sorted(durations_us)[250] < 500


def test_a_sync_that_waits_for_the_disk_lets_the_loop_go_on(log: ServerLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head follows the file, and never stands before it."""
    order: list[str] = []
    sync = os.fdatasync

    def slow(descriptor: int) -> None:
        time.sleep(0.2)
        sync(descriptor)
        order.append("synced")

    monkeypatch.setattr(os, "fdatasync", slow)

    async def scenario(it: AuditLog) -> None:
        tending = asyncio.create_task(it.tend())
        await asyncio.sleep(0.02)
        order.append("the loop went on")
        it.note(*LEFT)
        await tending

    it = log.start()
    it.note(*RETIRED)
    asyncio.run(scenario(it))
    assert order == ["the loop went on", "synced"]
    head = decode_head(log.head_path.read_bytes())
    assert head is not None
    assert head.number == 3
    it.close()


def test_a_log_that_is_never_synced_claims_nothing_about_the_disk(log: ServerLog) -> None:
    """`durability = "none"`."""
    it = AuditLog(0, lambda: 1, AuditFile(log.path, log.head_path), lambda *_: None, is_synced=False)
    it.open("serving", cell_at(), is_loss=False)
    asyncio.run(it.tend())
    it.close()
    assert decode_head(log.head_path.read_bytes()) == (0, bytes(32))
    assert problems(log) == []


def test_filled_after_many_changes_the_newest_are_still_known(log: ServerLog) -> None:
    """What is too old to be compared is taken for known: nothing is recorded twice."""
    many = [
        ("domain_suspected", {"domain": "s0.g1", "reason": "late", "sequence": number}) for number in range(1, 6000)
    ]
    log.run(*many)
    log.run(many[0], many[-1], FILLED, standing="returning")
    assert log.kinds.count("domain_suspected") == len(many)
