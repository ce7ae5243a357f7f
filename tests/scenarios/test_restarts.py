"""L4: a cell that comes back from its disks goes on with everything that was acknowledged, however far each disk is."""

import pytest

from replica_manager.cell.entries import RepairPoint, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.execution import feed
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome
from replica_manager.peer_messages import Position, Presence, Relay
from replica_manager.standing import Standing
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.replica_manager.restarted_cell import RestartedCell

A0, P0, A1, P1 = map(DomainId, ("s0.g1", "s0.g2", "s1.g1", "s1.g2"))
REQUESTS = 30


def _former(requests: int = REQUESTS, *, reads: int = 0) -> tuple[LockstepCell, ClientId]:
    """A cell that has served: `requests` appends, then `reads` that change nothing."""
    cell = LockstepCell()
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, requests + 1):
        cell.submit(0, sink, client, number, b"append k%d x" % (number % 3))
    for token in (1, 2) if reads else ():
        cell.cores[0].order_checkpoint(token)  # wakes every sleeper: the first time for updates, then for a sync
        cell.pass_time(3_000)
    for number in range(requests + 1, requests + reads + 1):
        cell.submit(0, sink, client, number, b"get k1")
    cell.pass_time(3_000)  # progress is reported
    assert len(sink.replies) == requests + reads
    return cell, client


def _require_alive(cell: RestartedCell) -> None:
    """New requests are answered, all domains hold the same, a checkpoint ends."""
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.submit(1, sink, client, 1, b"append k0 y")
    assert [reply[2] for reply in sink.replies] == [Outcome.ANSWERED]
    cell.pass_time(5_000)
    cell.cores[0].order_checkpoint(77)
    cell.settle()
    cell.pass_time(5_000)
    completed = cell.points_compared()
    assert completed, "the checkpoint does not end"
    assert len(set(completed[-1].values())) == 1
    assert len(completed[-1]) == 4
    assert all(core.buffer.prefix == core.cell.sequence for core in cell.cores), "a number stays open"


def test_disks_that_are_equally_far_go_on_from_there() -> None:
    """And everybody votes on what is left of the log."""
    former, _ = _former()
    cursor = former.sequence + 1
    cell = RestartedCell(former.agreed, dict.fromkeys((A0, P0, A1, P1), cursor))
    cell.come_back()
    _require_alive(cell)


def test_disks_of_different_progress_end_in_the_same_state() -> None:
    """Two domains have everything, two have nothing: what all servers held stable is asked of nobody again.

    The server whose domains are ahead cannot get values that its peer has dropped: both said before the cut that they
    had them.
    """
    former, _ = _former()
    assert former.cores[0].cell.stable_all > REQUESTS // 2
    cell = RestartedCell(former.agreed, {A0: former.sequence + 1, P0: former.sequence, A1: 1, P1: 1})
    cell.is_lost = lambda _, receiver, message: receiver == 0 and not isinstance(message, Position)
    cell.come_back()
    cell.pass_time(3_000)
    cell.is_lost = lambda *_: False
    _require_alive(cell)


def test_who_is_made_passive_before_it_has_caught_up_executes_what_is_settled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what is settled there are no updates any more: fed those alone, a slow domain had skipped what it had not
    been handed when others turned out to suffice.  More was to be executed than is handed to a domain at a time.
    """
    monkeypatch.setattr(feed, "EXECUTES_IN_FLIGHT_MAX", 4)
    former, _ = _former()
    cursors = dict.fromkeys((A0, P0, A1), former.sequence + 1)
    cell = RestartedCell(former.agreed, {**cursors, P1: 1})
    cell.pause(P1)
    cell.come_back()
    cell.pass_time(1_000)
    assert [core.cell.domains[P1].role for core in cell.cores] == [Role.PASSIVE] * 2
    assert len(cell.cores[1].feeds[P1].executing) == 4
    cell.proceed(P1)
    _require_alive(cell)


def test_logs_that_begin_at_different_checkpoints_end_in_the_same_state() -> None:
    """One server has cut its log where every disk covered it, the other one has not.

    Disks say nothing of numbers without an update, so their cursors lie below: nobody votes on those numbers again.
    """
    former, _ = _former(reads=40)
    updates_end = REQUESTS + 2
    base = former.cores[0].cell.durable_all
    assert base > updates_end + 10
    cursors = {A0: updates_end, P0: updates_end, A1: updates_end}
    cell = RestartedCell(former.agreed, {**cursors, P1: former.sequence}, bases=(base, 0))
    cell.come_back()
    cell.pass_time(2_000)
    assert all(core.buffer.prefix == core.cell.sequence for core in cell.cores), "a number stays open"


def test_a_request_that_was_executed_and_not_answered_is_not_executed_again() -> None:
    """Repeating it tells that its reply is lost."""
    former, client = _former()
    cell = RestartedCell(former.agreed, dict.fromkeys((A0, P0, A1, P1), former.sequence + 1))
    cell.come_back()
    sink = RecordingSink()
    cell.submit(0, sink, client, REQUESTS, b"append k0 x")
    assert sink.replies[-1][2] is Outcome.REPLY_LOST
    assert all(not domain.executed for domain in cell.disks.values())


def test_a_domain_without_a_disk_is_replaced() -> None:
    """The cell does not wait for it, and repairs it."""
    former, _ = _former()
    cell = RestartedCell(former.agreed, {A0: former.sequence + 1, P0: 5, A1: former.sequence})
    cell.come_back()
    cell.pass_time(20_000)
    _require_alive(cell)


def test_power_that_goes_again_during_the_restart_changes_nothing() -> None:
    """At any time from its beginning to a while after its end; disks were not written in between."""
    former, client = _former()
    disks = {A0: former.sequence + 1, P0: 5, A1: 9, P1: 7}
    first = RestartedCell(former.agreed, disks)
    first.syncs = False
    first.come_back()
    first.submit(0, RecordingSink(), client, REQUESTS + 1, b"append k0 z")
    first.pass_time(2_000)
    assert first.cores[0].cell.stable_all > former.sequence
    for cut in range(former.sequence, first.sequence + 1):
        again = RestartedCell(first.agreed[:cut], disks)
        again.come_back()
        _require_alive(again)
        assert again.states() == again.states()[:1] * 4


def test_the_end_of_the_log_may_tell_of_an_earlier_restart() -> None:
    """It is known when the servers have met: domains do not go on from the cursors that they had then.

    Nor is a disk that is ahead of what a server knows alone misbehaviour.
    """
    former, client = _former()
    first = RestartedCell(former.agreed, dict.fromkeys((A0, P0, A1, P1), 5))
    first.come_back()
    first.submit(0, RecordingSink(), client, REQUESTS + 1, b"append k0 z")
    ahead = {A0: first.sequence, P0: 5, A1: 9, P1: 7}
    for known in range(former.sequence - 1, first.sequence + 1):
        again = RestartedCell(first.agreed, ahead, known=known)
        again.come_back()
        assert not again.told("domain_misbehaved")
        _require_alive(again)
        assert again.domains[P0].rows[b"k0"] == b"x" * 10 + b"zy"


def test_a_disk_that_lacks_what_the_log_does_not_hold_is_given_up() -> None:
    """A server joined, and the state that it filled a domain with has not reached the disk: it would vote wrongly."""
    former, _ = _former()
    base = 20
    assert former.cores[0].cell.durable_all < base
    cell = RestartedCell(former.agreed, {A0: 25, P0: 25, A1: 1, P1: 26}, bases=(0, base))
    cell.come_back()
    assert [gone["domain"] for gone in cell.told("domain_gone")] == [A1]
    cell.pass_time(20_000)
    _require_alive(cell)


def test_a_learner_is_heard_before_its_departure_is_delivered_here() -> None:
    """It has read that its former self left, this server has not yet: nobody would order its entry a second time."""
    core = LockstepCell().cores[0]
    entry = encode_entry(RepairPoint(["s1.g3"], 0, 1))
    core.on_peer_message(1, Presence(Standing.LEARNING.value, 0), 0)
    core.on_peer_message(1, Relay(entry), 0)
    assert entry in core.take_output().proposals
    core.on_peer_message(1, Presence(Standing.SERVING.value, 0), 0)
    core.on_peer_message(1, Relay(entry), 0)
    assert entry not in core.take_output().proposals


def test_what_was_in_a_cache_when_processes_were_killed_is_not_on_the_disk_yet() -> None:
    """A domain comes back from pages that the kernel still has to write: its cursor is durable after its next sync."""
    former, _ = _former()
    cell = RestartedCell(former.agreed, dict.fromkeys((A0, P0, A1, P1), former.sequence + 1))
    before = cell.cores[0].cell.durable_all
    cell.syncs = False
    cell.come_back()
    cell.pass_time(6_000)
    assert cell.cores[0].cell.durable_all == before, "what only a cache holds is called durable"


def test_who_hears_that_a_peer_serves_before_it_has_read_the_end_of_the_restart_reads_on() -> None:
    """It would leave the cell for no reason, and come back with two fresh domains: a fault that nobody made."""
    former, _ = _former()
    cell = RestartedCell(former.agreed, dict.fromkeys((A0, P0, A1, P1), former.sequence + 1))
    ahead, behind = cell.cores
    cell.is_unread = lambda server: server == 1 and ahead.standing is Standing.SERVING
    with pytest.raises(AssertionError, match="'serving', 'restarting'"):
        cell.come_back()
    assert cell.rejoining == []
    cell.is_unread = lambda _: False
    cell.settle()
    assert behind.standing is Standing.SERVING
    _require_alive(cell)
