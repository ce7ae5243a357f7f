"""Which numbers nobody votes on after a restart of the cell.

Source: design "Cell restart" (`L4` of its list of traps); decision 0016.
"""

import msgspec

from agreement.changes import Entry
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import CellRestarted
from replica_manager.cell.entries import CellEntry, Progress, RestartBegun, Restarted, encode_entry
from replica_manager.cell.restarting import Restarting
from replica_manager.identifiers import DomainId


def restarting(*cursors: int) -> Restarting:
    """Return a restart in which as many domains are back."""
    names = [DomainId(f"s{index % 2}.g{1 + index // 2}") for index in range(len(cursors))]
    back = Restarting(1, names)
    for name, cursor in zip(names, cursors, strict=True):
        back.note_back(name, cursor, 1)
    return back


def test_no_number_needs_the_vote_of_a_domain_that_may_lie_about_its_cursor() -> None:
    """Of four one claims to have done nothing, and says nothing any more: two of the others must be able to vote."""
    assert restarting(1, 82, 88, 99).settled_through(2, 1) == 87


def test_with_fewer_back_all_of_them_have_to_be_able_to_vote() -> None:
    assert restarting(5, 9).settled_through(2, 1) == 8


def test_with_fewer_than_the_threshold_nothing_is_settled() -> None:
    assert restarting(5).settled_through(2, 1) == 0


class Cell:
    """A cell of two servers, and the order of its entries."""

    def __init__(self) -> None:
        self.state = CellState(1, 10)

    def order(self, server: int, entry: CellEntry) -> list[CellRestarted]:
        """Apply the next entry; return the ends of restarts that follow from it."""
        sequence = self.state.sequence + 1
        if isinstance(entry, Progress):
            entry = msgspec.structs.replace(entry, seen=self.state.sequence)
        effects = self.state.apply(sequence, Entry(server, 1, sequence, encode_entry(entry)))
        return [effect for effect in effects if isinstance(effect, CellRestarted)]

    def restart(self, cursor: int) -> CellRestarted:
        """Have all domains come back with one cursor."""
        self.order(0, RestartBegun(self.state.sequence + 1))
        token = self.state.restart_token
        ends: list[CellRestarted] = []
        for name in ("s0.g1", "s0.g2", "s1.g1", "s1.g2"):
            ends += self.order(int(name[1]), Restarted(name, cursor, token, 1))
        (end,) = ends
        return end


def progress(stable: int) -> Progress:
    """Return a report of a server that has so much stable, and nothing on its disks."""
    return Progress(0, stable, 0, 0, b"")


def test_what_was_stable_everywhere_is_settled_whatever_disks_have_lost() -> None:
    """No round is opened for such a number, and whoever has it may forget it."""
    cell = Cell()
    for server in (0, 1, 0, 1):
        cell.order(server, progress(3))
    assert cell.restart(cursor=1).settled_through == 3


def test_what_a_server_had_stable_before_a_restart_is_open_there_again() -> None:
    """Else the other one, which has it stable first, would drop what this one still needs."""
    cell = Cell()
    cell.order(0, progress(0))
    cell.order(0, progress(2))
    assert cell.restart(cursor=1).settled_through == 0
    cell.order(1, progress(2))
    assert cell.state.stable_all == 0
    cell.order(0, progress(1))
    assert cell.state.stable_all == 1
