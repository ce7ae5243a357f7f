"""An offer that is ordered together with the `Stalled` whose round it is for: one wait for the order, not two."""

from collections.abc import Sequence

import pytest

from replica_manager.cell.entries import Offer, Stalled, decode_entry
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome
from replica_manager.manager_core import ManagerCore
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink

LIAR = DomainId("s1.g1")


def steps(cell: LockstepCell) -> Sequence[str]:
    """Return the kinds of events in their order, over all servers."""
    return [kind for _, kind, _ in cell.events]


def cell_with_a_lie() -> tuple[LockstepCell, RecordingSink]:
    """Return a cell one of whose domains is about to lie, and its client after the request."""
    cell, sink = LockstepCell(1), RecordingSink()
    client = cell.open_client(0, sink)
    cell.domains[LIAR].rows[b"a"] = b"planted"
    cell.submit(0, sink, client, 1, b"get a")
    return cell, sink


def test_when_votes_diverge_the_offer_is_ordered_before_the_round_is_opened() -> None:
    """All have voted: there is nobody to be let offer first."""
    cell, sink = cell_with_a_lie()
    assert [reply[2] for reply in sink.replies] == [Outcome.ANSWERED]
    assert steps(cell).index("offer_ordered") < steps(cell).index("round_opened")


def test_one_offer_is_accepted_and_those_that_come_too_late_change_nothing() -> None:
    cell, _ = cell_with_a_lie()
    activated = {data["domain"] for data in cell.told("role_changed") if data["role"] == Role.ACTIVE.value}
    assert len(activated) == 1
    assert [data["round"] for data in cell.told("round_opened")] == [1, 1]


def test_an_offer_that_was_lost_is_made_again_when_the_round_has_its_time() -> None:
    """Whatever becomes of the first one: the order may have refused it."""
    cell, sink = LockstepCell(1), RecordingSink()
    client = cell.open_client(0, sink)
    cell.domains[LIAR].rows[b"a"] = b"planted"
    for core in cell.cores:
        core.faults._order_offer = lambda *_args: None  # type: ignore[method-assign]
    cell.submit(0, sink, client, 1, b"get a")
    for core in cell.cores:
        del core.faults._order_offer
    assert sink.replies == []
    cell.pass_time(300)
    assert [reply[2] for reply in sink.replies] == [Outcome.ANSWERED]


def test_while_a_domain_is_silent_only_the_round_calls_for_offers() -> None:
    """Its server may have the better sleeper: the others wait for it, as before."""
    cell, sink = LockstepCell(1), RecordingSink()
    client = cell.open_client(0, sink)
    cell.muted.add(LIAR)
    cell.submit(0, sink, client, 1, b"get a")
    cell.pass_time(500)
    assert [reply[2] for reply in sink.replies] == [Outcome.ANSWERED]
    assert steps(cell).index("round_opened") < steps(cell).index("offer_ordered")


def test_stalled_and_offer_leave_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: the other way round the offer would be void."""
    proposed: list[list[type]] = []
    take = ManagerCore.take_output

    def watched(core: ManagerCore) -> CoreOutput:
        output = take(core)
        proposed.append([type(decode_entry(payload)) for payload in output.proposals])
        return output

    monkeypatch.setattr(ManagerCore, "take_output", watched)
    cell_with_a_lie()
    first = next(kinds for kinds in proposed if Stalled in kinds)
    assert [kind for kind in first if kind in (Stalled, Offer)] == [Stalled, Offer]
