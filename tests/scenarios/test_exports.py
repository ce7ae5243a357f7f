"""A state that leaves the cell is the agreed one, whoever lies, ends or falls silent, and holds nobody up.

Source: design "Lightweight", steps 2 and 3; "Repair" (what it has to give way to).
"""

from collections.abc import Iterator

import pytest

from agreement.messages import ServerLeft
from exec_wrapper.wire import StatePart
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import PointClosed, RecoveryBegun, RecoveryPoint
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import EXPORT
from replica_manager.identifiers import DomainId
from replica_manager.peer_messages import FetchPart, ManagerMessage, Part
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.scenarios.test_repairs import kill, stored
from tests.simulation.fake_domain import FakeDomain

ACTIVE_0, PASSIVE_0, FRESH_0 = (DomainId(f"s0.g{generation}") for generation in (1, 2, 3))
ACTIVE_1, PASSIVE_1 = (DomainId(f"s1.g{generation}") for generation in (1, 2))
PATIENCE_MS = 10_000
TOKEN = 77


class Liar(FakeDomain):
    """Gives another state than it has."""

    def _state(self, point: int) -> Iterator[StatePart]:
        for part in super()._state(point):
            yield part._replace(data=part.data.replace(b"key-050 value", b"key-050 lie"))


def export(cell: LockstepCell, server: int = 0, token: int = TOKEN) -> None:
    cell.cores[server].order_export(token)
    cell.settle()


def donors(cell: LockstepCell) -> list[list[DomainId]]:
    """Of each point of an export, as server 0 saw them."""
    return [
        data["donors"]  # type: ignore[misc]
        for server, kind, data in cell.events
        if kind == "export_ordered" and server == 0
    ]


def assert_exported(cell: LockstepCell, rows: dict[bytes, bytes], server: int = 0) -> None:
    """Exactly this, once; and nothing is left of it anywhere."""
    (exported,) = cell.exported
    assert (exported[0], exported[2]) == (server, rows)
    assert_nothing_is_open(cell)


def assert_nothing_is_open(cell: LockstepCell) -> None:
    assert [core.cell.open_point for core in cell.cores] == [0] * len(cell.cores)
    assert not any(core.export.is_under_way for core in cell.cores)
    assert not any(spool._parts for spool in cell.spools)


# -- the rule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [0, 1])
def test_the_state_at_the_point_is_written_and_the_point_ends(server: int) -> None:
    """The sleepers give it: that costs no client anything; and sleep again."""
    cell = stored()
    rows = dict(cell.domains[ACTIVE_0].rows)
    export(cell, server)
    assert_exported(cell, rows, server)
    assert donors(cell) == [[PASSIVE_0, PASSIVE_1]]
    cell.pass_time(200)
    assert not cell.running[PASSIVE_0]
    assert not cell.running[PASSIVE_1]


def test_what_comes_after_the_point_is_not_in_it() -> None:
    """Requests go on while the file is written."""
    cell = stored()
    rows = dict(cell.domains[ACTIVE_0].rows)
    cell.pause(PASSIVE_0, PASSIVE_1)
    export(cell)
    sink = RecordingSink()
    cell.submit(1, sink, cell.open_client(1, sink), 1, b"set key-000 later")
    assert sink.replies
    cell.proceed(PASSIVE_0, PASSIVE_1)
    assert_exported(cell, rows)


def test_no_more_than_a_few_parts_are_on_their_way_to_a_file_that_is_slow() -> None:
    """Containment: memory of the manager."""
    cell = stored()
    cell.is_file_stuck = True
    export(cell)
    filling = cell.cores[0].export.filling
    assert filling is not None
    assert filling.progress == (0, 13)
    assert len(filling._arrived) == 0
    assert filling._handed == 4


def test_a_file_that_takes_nothing_in_ends_the_export() -> None:
    """A disk that hangs must not keep every checkpoint out."""
    cell = stored()
    cell.is_file_stuck = True
    export(cell)
    cell.pass_time(PATIENCE_MS + 200)
    assert cell.exports_failed == ["the file does not take the state in"]
    assert_nothing_is_open(cell)


# -- donors ------------------------------------------------------------------------------------------------------


def test_a_donor_that_gives_another_state_is_convicted_and_the_export_is_right() -> None:
    """f = 1: two sleepers contradict each other, so everybody gives its state."""
    cell = stored()
    cell.domains[PASSIVE_1].__class__ = Liar
    rows = dict(cell.domains[ACTIVE_0].rows)
    export(cell)
    assert_exported(cell, rows)
    assert donors(cell) == [[PASSIVE_0, PASSIVE_1], [ACTIVE_0, PASSIVE_0, ACTIVE_1, PASSIVE_1]]
    record = cell.cores[1].cell.domains[PASSIVE_1]
    assert (record.role, record.reason.startswith("convicted: its state at")) == (Role.RETIRED, True)
    assert cell.cores[0].cell.domains[PASSIVE_0].role is Role.PASSIVE


def test_with_f_2_nobody_but_the_liar_is_convicted() -> None:
    """`T` = 3: of three sleepers each is needed, so one that lies takes a second attempt."""
    cell = stored(2)
    liar = DomainId("s2.g2")
    cell.domains[liar].__class__ = Liar
    rows = dict(cell.domains[ACTIVE_0].rows)
    export(cell)
    assert_exported(cell, rows)
    convicted = [
        domain for domain, record in cell.cores[0].cell.domains.items() if record.reason.startswith("convicted")
    ]
    assert convicted == [liar]


def test_a_donor_that_ends_is_done_without() -> None:
    """What it gave before its end is not enough, so everybody is asked."""
    cell = stored()
    rows = dict(cell.domains[ACTIVE_0].rows)
    cell.pause(PASSIVE_1)
    export(cell)
    assert cell.exported == []
    kill(cell, PASSIVE_1)
    assert_exported(cell, rows)


def test_a_donor_that_is_silent_is_done_without() -> None:
    """Before its own server suspects it: patience is counted here too."""
    cell = stored()
    rows = dict(cell.domains[ACTIVE_0].rows)
    cell.muted.add(PASSIVE_1)
    for core in cell.cores:
        core.watch.on_timer = lambda *_: []  # type: ignore[method-assign]
    export(cell)
    cell.pass_time(PATIENCE_MS + 200)
    assert_exported(cell, rows)


def test_when_too_few_states_are_equal_the_export_fails_and_says_so() -> None:
    """More wrong domains than the bound: nothing is written that is not agreed."""
    cell = stored()
    for domain, key in ((PASSIVE_0, b"a"), (PASSIVE_1, b"b"), (ACTIVE_0, b"c")):
        cell.domains[domain].rows[key] = b"corrupt"
    export(cell)
    assert cell.exported == []
    assert cell.exports_failed == ["the states that were given differ, or are too few"]
    assert_nothing_is_open(cell)


# -- parts -------------------------------------------------------------------------------------------------------


def test_a_part_that_its_disk_has_changed_is_read_from_another_copy() -> None:
    """Each is compared with the voted digest."""
    cell = stored()
    rows = dict(cell.domains[ACTIVE_0].rows)
    kept = cell.spools[0].keep

    def keep(point: int, domain: DomainId, data: bytes) -> None:
        kept(point, domain, data.replace(b"key-050 value", b"key-050 rot"))

    cell.spools[0].keep = keep  # type: ignore[method-assign]
    export(cell)
    assert_exported(cell, rows)
    assert [data["domain"] for data in cell.told("state_part_damaged")] == [PASSIVE_0]


def test_when_no_copy_can_be_read_everybody_gives_its_state_and_then_the_export_fails() -> None:
    """Full disks on both servers."""
    cell = stored()
    for spool in cell.spools:
        spool.is_full = True
    export(cell)
    assert cell.exports_failed == ["no copy of the agreed state can be read"]
    assert len(donors(cell)) == 2
    assert_nothing_is_open(cell)


def test_a_lost_answer_of_a_peer_is_asked_for_elsewhere_when_nothing_moves() -> None:
    """The link broke between question and answer."""
    cell = stored()
    rows = dict(cell.domains[ACTIVE_0].rows)
    cell.spools[0].is_full = True
    lost: list[ManagerMessage] = []

    def is_lost(_sender: int, _receiver: int, message: ManagerMessage) -> bool:
        if isinstance(message, FetchPart | Part) and len(lost) < 3:
            lost.append(message)
            return True
        return False

    cell.is_lost = is_lost
    export(cell)
    assert cell.exported == []
    cell.pass_time(2 * PATIENCE_MS + 200)
    assert_exported(cell, rows)


# -- what it gives way to, and what ends it ----------------------------------------------------------------------


def held_up(cell: LockstepCell, server: int = 0) -> None:
    """An export that waits for a domain."""
    cell.pause(PASSIVE_1)
    export(cell, server)
    assert cell.cores[0].cell.open_point > 0


@pytest.mark.parametrize("server", [0, 1])
def test_a_repair_takes_its_place(server: int) -> None:
    """The cell's redundancy before an operator's file; whether or not both are on the same server."""
    cell = stored()
    held_up(cell, server)
    point = cell.cores[0].cell.open_point
    kill(cell, PASSIVE_0)
    cell.pass_time(200)
    (repair,) = {data["point"] for data in cell.told("repair_ordered")}
    assert repair != point
    assert cell.exports_failed == [f"a checkpoint, repair or recovery at {repair} comes first"]
    cell.proceed(PASSIVE_1)
    cell.pass_time(1_000)
    assert cell.cores[0].cell.domains[FRESH_0].role is Role.PASSIVE
    assert cell.exported == []
    assert_nothing_is_open(cell)


def test_a_recovery_takes_its_place() -> None:
    cell = stored()
    held_up(cell)
    cell.order_entry(RecoveryBegun("lightweight", 1, 0))
    cell.pass_time(1_000)
    assert cell.told("recovery_ordered")
    assert len(cell.exports_failed) == 1


def test_no_export_begins_while_another_point_is_open() -> None:
    """It fails at once: the operator decides whether to wait."""
    cell = stored()
    held_up(cell, server=1)
    point = cell.cores[0].cell.open_point
    export(cell, token=78)
    assert cell.exports_failed == [f"a checkpoint, repair or recovery at {point} comes first"]
    assert cell.cores[0].cell.open_point == point
    cell.proceed(PASSIVE_1)
    export(cell, token=79)
    assert [server for server, _, _ in cell.exported] == [1, 0]


def test_a_checkpoint_waits_for_an_export_and_is_taken_after_it() -> None:
    cell = stored()
    held_up(cell)
    cell.cores[1].order_checkpoint(5)
    cell.settle()
    assert not cell.told("checkpoint_ordered")
    cell.proceed(PASSIVE_1)
    cell.cores[1].order_checkpoint(6)
    cell.settle()
    assert cell.told("checkpoint_ordered")


def test_the_departure_of_the_exporting_server_ends_its_point() -> None:
    """Nobody is there to say so."""
    cell = stored()
    held_up(cell, server=1)
    cell.order_change(ServerLeft(1, fenced=True))
    assert cell.cores[0].cell.open_point == 0
    assert not cell.spools[0]._parts


def test_an_export_that_is_given_up_before_it_is_ordered_is_closed_when_it_comes() -> None:
    """Ctrl-C at once; or the process was another one then."""
    cell = stored()
    core = cell.cores[0]
    cell.pause(PASSIVE_1)
    core.order_export(TOKEN)
    core.abort_export(TOKEN)
    cell.settle()
    assert core.cell.open_point > 0
    cell.pass_time(50)
    assert_nothing_is_open(cell)
    assert cell.files[0].rows == {}
    assert cell.exports_failed == []


def test_another_export_of_the_same_server_takes_the_place_of_one_that_was_given_up() -> None:
    """Ctrl-C, and the command once more at once: the end of the first point may come behind the second one."""
    cell = stored()
    core = cell.cores[0]
    core.order_export(TOKEN)
    core.abort_export(TOKEN)
    core.order_export(TOKEN + 1)
    cell.settle()
    assert cell.exports_failed == []
    assert_exported(cell, dict(cell.domains[ACTIVE_0].rows))


def test_a_server_that_has_left_opens_no_point() -> None:
    """Its entry was ordered behind its departure; nobody would ever close it."""
    cell = stored()
    cell.order_change(ServerLeft(1, fenced=True))
    cell.order_entry(RecoveryPoint("export", 0, 99), server=1)
    assert cell.cores[0].cell.open_point == 0


def test_an_export_that_is_given_up_stops_the_donors() -> None:
    """They go back to sleep."""
    cell = stored()
    held_up(cell)
    cell.cores[0].abort_export(TOKEN)
    cell.settle()
    assert_nothing_is_open(cell)
    assert cell.exported == []
    cell.cores[0].abort_export(TOKEN)
    cell.settle()
    assert len(cell.told("export_ordered")) == 2


def test_the_end_of_a_point_that_nobody_reads_is_ordered_again_if_it_is_lost() -> None:
    """Else no checkpoint could be taken any more."""
    cell = stored()
    held_up(cell)
    core = cell.cores[0]
    core.abort_export(TOKEN)
    core.take_output()  # the process was about to order it
    cell.pass_time(100)
    assert core.cell.open_point > 0
    cell.pass_time(PATIENCE_MS)
    assert_nothing_is_open(cell)


def test_only_its_own_server_ends_an_export() -> None:
    """`PointClosed` of a checkpoint is everybody's, that of an export is not."""
    cell = stored()
    held_up(cell)
    point = cell.cores[0].cell.open_point
    cell.order_entry(PointClosed(point, []), server=1)
    assert cell.cores[0].cell.open_point == point
    cell.order_entry(PointClosed(point, []), server=0)
    assert cell.cores[0].cell.open_point == 0


def test_the_cell_state_carries_an_open_export_over_a_restart() -> None:
    """Everything that decides what an entry does is in it."""
    cell = stored()
    held_up(cell)
    state = CellState.decode(cell.cores[0].cell.encode())
    assert state.state_point == cell.cores[1].cell.state_point
    assert state.state_point is not None
    assert (state.state_point.kind, state.state_point.host, state.state_point.token) == (EXPORT, 0, TOKEN)
