"""A server that lacks what nobody keeps gets the application's state, in pieces, and goes on from there."""

import dataclasses
import itertools

import pytest

from agreement.messages import LogPart, Message, SnapshotPart, SnapshotPull
from agreement.output import LimitReached, SnapshotInstalled, SnapshotWanted
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import S0, S1, S2, LocalCell

SETTINGS = AgreementSettings(history_bytes_max=2_000, part_bytes_max=100, batch_entries_max=2)
STATE = b"the application's state " * 40


def cell_with_lagging_server(settings: AgreementSettings = SETTINGS) -> LocalCell:
    """Server 1 was away while more happened than is kept in memory."""
    cell = LocalCell(tolerated_faults=2, settings=settings)
    cell.elect()
    cell.advance(500)
    cell.cut.add(S1)
    for count in range(40):
        cell.propose(S0, b"%d" % count)
        cell.advance(50)
    assert len(cell.payloads(S0)) == len(cell.payloads(S2)) == 40
    cell.cut.clear()
    return cell


def wanted(cell: LocalCell) -> list[tuple[int, SnapshotWanted]]:
    """Who was asked for a snapshot, and for whom."""
    return [
        (member.number, event)
        for member in (S0, S2)
        for event in cell.events[member]
        if isinstance(event, SnapshotWanted)
    ]


def provide(cell: LocalCell, sequence: int | None = None) -> None:
    """Let the application of whoever was asked answer."""
    cell.advance_until(lambda: wanted(cell) != [], limit_ms=5_000)
    for giver in (S0, S2):
        if any(isinstance(event, SnapshotWanted) for event in cell.events[giver]):
            node = cell.node(giver)
            node.provide_snapshot(S1, sequence or node.delivered_sequence, STATE, cell.now_ms)
            cell.pump(giver)
            return


def installed(cell: LocalCell) -> list[SnapshotInstalled]:
    """The snapshots that server 1 was given."""
    return [event for event in cell.events[S1] if isinstance(event, SnapshotInstalled)]


def test_a_lagging_server_gets_a_snapshot_in_pieces_and_goes_on() -> None:
    """Nothing that the snapshot covers is delivered beside it."""
    cell = cell_with_lagging_server()
    provide(cell)
    cell.advance(1_000)
    assert installed(cell) == [SnapshotInstalled(40, STATE)]
    assert cell.payloads(S1) == []
    parts = [message for _, _, message in cell.sent if isinstance(message, SnapshotPart)]
    assert len(parts) == 1 + -(-len(STATE) // 100)
    assert max(len(part.data) for part in parts) <= 100
    cell.propose(S1, b"on top")
    cell.advance(500)
    assert [delivery.sequence for delivery in cell.deliveries[S1]] == [41]
    assert cell.payloads(S1) == [b"on top"]
    assert cell.payloads(S0)[-1] == b"on top"


def test_a_server_that_was_away_for_a_moment_gets_the_log() -> None:
    """An endless replay is never needed, and a snapshot rarely."""
    cell = cell_with_lagging_server(dataclasses.replace(SETTINGS, history_bytes_max=1_000_000))
    cell.advance(1_000)
    assert wanted(cell) == []
    assert cell.payloads(S1) == cell.payloads(S0)
    assert len(cell.messages(LogPart)) > 1


def test_the_log_is_kept_while_a_server_lacks_it_and_no_longer() -> None:
    """Memory is for those who lag: with nobody lagging there is little of it."""
    settings = dataclasses.replace(SETTINGS, history_bytes_max=1_000_000, history_bytes_kept=1_500)
    cell = cell_with_lagging_server(settings)
    assert cell.leader.history_bytes > 20_000
    assert sum(node.history_bytes > 1_500 for node in cell.nodes) == 1, "who lags asks the leader"
    cell.advance(1_000)
    assert wanted(cell) == []
    assert cell.payloads(S1) == cell.payloads(S0)
    cell.propose(S0, b"tells everybody that the one before is decided")
    cell.advance(settings.crash_timeout_ms + 200)
    assert all(0 < node.history_bytes <= 1_500 for node in cell.nodes)


def test_a_learner_on_its_way_holds_the_log_up() -> None:
    """Snapshot and log must meet, else it would be given one snapshot after the other."""
    settings = dataclasses.replace(SETTINGS, history_bytes_max=1_000_000, history_bytes_kept=1_500)
    cell = LocalCell(tolerated_faults=2, settings=settings)
    cell.elect()
    for count in range(10):
        cell.propose(S0, b"%d" % count)
        cell.advance(50)
    cell.crash(S1)
    cell.restart_without_memory(S1, 2)
    provide(cell)
    cell.cut.add(S1)
    for count in range(20):
        cell.propose(S0, b"meanwhile %d" % count)
        cell.advance(100)
    cell.cut.clear()
    cell.advance(3_000)
    assert len({event.sequence_min for _, event in wanted(cell)}) == 1, "no later one was asked for"
    assert cell.node(S1).delivered_sequence == cell.node(S0).delivered_sequence
    assert cell.payloads(S1)[-1] == b"meanwhile 19"


def test_a_snapshot_may_end_within_a_batch() -> None:
    """The rest of that batch is delivered, and only the rest."""
    cell = LocalCell(tolerated_faults=1, settings=dataclasses.replace(SETTINGS, batch_entries_max=10))
    cell.elect()
    cell.advance(500)
    cell.cut.add(S1)
    for count in range(20):
        for index in range(5):
            cell.node(S0).propose(b"%d" % index, cell.now_ms)
            number = 5 * count + index + 1
            cell.checkers.origins.record_proposal(cell.node(S0).identity, number, b"%d" % index)
        cell.pump(S0)
        cell.advance(50)
    cell.cut.clear()
    cell.advance_until(lambda: any(isinstance(event, SnapshotWanted) for event in cell.events[S0]))
    cell.node(S0).provide_snapshot(S1, 98, STATE, cell.now_ms)
    cell.pump(S0)
    cell.advance(1_000)
    assert installed(cell) == [SnapshotInstalled(98, STATE)]
    assert [delivery.sequence for delivery in cell.deliveries[S1]] == [99, 100]


@pytest.mark.parametrize("kind", [SnapshotPart, SnapshotPull])
def test_pieces_that_are_lost_are_asked_for_again(kind: type[Message]) -> None:
    """Every third one is."""
    cell = cell_with_lagging_server()
    counter = itertools.count()
    cell.loses = lambda message: isinstance(message, kind) and next(counter) % 3 == 2
    provide(cell)
    cell.advance(10_000)
    assert next(counter) > 3
    assert installed(cell) == [SnapshotInstalled(40, STATE)]


def test_another_server_helps_if_the_giver_is_gone() -> None:
    """After a few questions without an answer."""
    cell = cell_with_lagging_server()
    provide(cell)
    for _ in range(6):
        if cell.pool:
            cell.deliver(0)
    giver = next(sender for sender, _, message in cell.sent if isinstance(message, SnapshotPart))
    cell.pool = [flight for flight in cell.pool if not isinstance(flight[2], SnapshotPart)]
    cell.crash(giver)
    cell.events[S0].clear()
    cell.events[S2].clear()
    provide(cell)
    cell.advance_until(lambda: bool(installed(cell)), limit_ms=20_000)
    assert installed(cell)[0].application == STATE


def test_until_the_application_s_copy_is_durable_a_restart_finds_the_old_log() -> None:
    """The votes below the snapshot may be needed, and are no proof of what was decided there."""
    cell = cell_with_lagging_server()
    provide(cell)
    cell.advance(1_000)
    cell.propose(S0, b"later")
    cell.advance(500)
    cell.crash(S1)
    cell.restart(S1)
    assert cell.node(S1).delivered_sequence == 0
    cell.deliveries[S1].clear()
    cell.advance(3_000)
    assert [event.sequence for event in installed(cell)] == [40, 40]
    assert cell.payloads(S1) == [b"later"]


def test_after_compaction_a_restart_begins_at_the_snapshot() -> None:
    """And the records below it are gone."""
    cell = cell_with_lagging_server()
    provide(cell)
    cell.advance(1_000)
    cell.node(S1).compact(40)
    cell.pump(S1)
    cell.run()
    stored = read_storage(cell.storages[S1].scan(PREFIX, PREFIX_END))
    assert stored.gap is None
    assert stored.base is not None
    assert min(stored.of(1).slots, default=stored.base.next_slot) >= stored.base.next_slot
    cell.crash(S1)
    cell.restart(S1)
    assert cell.node(S1).delivered_sequence == 40
    cell.propose(S1, b"later")
    cell.advance(3_000)
    assert cell.payloads(S1) == [b"later"]


def test_a_promise_known_from_a_vote_alone_survives_compaction() -> None:
    """The vote's record goes, the promise must stay."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.crash(S0)
    cell.propose(S1, b"x")
    cell.advance_until(lambda: cell.payloads(S1) == [b"x"])
    promised = max(message.ballot for _, _, message in cell.sent if hasattr(message, "ballot"))
    for member in (S1,):
        cell.node(member).compact(cell.node(member).delivered_sequence)
        cell.pump(member)
        cell.run()
    assert read_storage(cell.storages[S1].scan(PREFIX, PREFIX_END)).of(1).promised == promised
    assert read_storage(cell.storages[S1].scan(PREFIX, PREFIX_END)).of(1).slots == {}


def test_a_snapshot_that_is_too_old_is_asked_for_again() -> None:
    """What follows it is not kept any more."""
    cell = cell_with_lagging_server()
    cell.advance_until(lambda: wanted(cell) != [])
    asked = len(wanted(cell))
    provide(cell, sequence=1)
    assert len(wanted(cell)) == asked + 1
    assert wanted(cell)[-1][1].sequence_min > 1


def test_a_snapshot_above_the_limit_is_refused_with_an_event() -> None:
    """Nobody's memory is filled by it."""
    cell = cell_with_lagging_server(dataclasses.replace(SETTINGS, snapshot_bytes_max=500))
    provide(cell)
    events = cell.events[S0] + cell.events[S2]
    assert [event.limit for event in events if isinstance(event, LimitReached)] == ["snapshot_bytes_max"]
    assert cell.messages(SnapshotPart) == []


def test_a_restart_delivers_again_from_the_base_on() -> None:
    """What was decided and known to be; the rest comes with the next messages."""
    cell = LocalCell()
    cell.elect()
    for count in range(10):
        cell.propose(S0, b"%d" % count)
        cell.advance(20)
    cell.node(S0).compact(4)
    cell.pump(S0)
    cell.run()
    cell.crash(S0)
    cell.deliveries[S0].clear()
    cell.restart(S0)
    assert [delivery.sequence for delivery in cell.deliveries[S0]][:5] == [5, 6, 7, 8, 9]
    cell.advance(2_000)
    assert cell.payloads(S0) == [b"%d" % count for count in range(4, 10)]
