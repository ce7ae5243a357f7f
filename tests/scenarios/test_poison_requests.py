"""A request that kills whoever executes it: held, until an operator decides.

Source: design "More rounds, and more than f faults"; `L13` of its list of traps.
"""

import pytest

from exec_wrapper.wire import Execute, Executed
from replica_manager.cell.poison import NO_FRESH_DOMAIN, Poison
from replica_manager.cell.roles import Role
from replica_manager.execution.feed import Feed
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.simulation.fake_domain import DomainDied, FakeDomain

ACTIVE_0, PASSIVE_0 = DomainId("s0.g1"), DomainId("s0.g2")
ACTIVE_1, PASSIVE_1 = DomainId("s1.g1"), DomainId("s1.g2")


class Vulnerable(FakeDomain):
    """Dies of one key."""

    is_mended = False

    def _execute(self, frame: Execute) -> Executed:
        if b" poison " in frame.payload and not self.is_mended:
            raise DomainDied("it crashed")
        return super()._execute(frame)


class NeverHolds(Poison):
    """Planted: `L13` taken out."""

    def note_death(self, sequence: int, f_prime: int) -> bool:
        return False


class PoisonedCell:
    """A cell in which a client has sent the request that kills; something was stored before."""

    def __init__(
        self,
        f: int = 1,
        poison: type[Poison] = Poison,
        *,
        immune: tuple[DomainId, ...] = (),
        is_repairing: bool = False,
    ) -> None:
        self.cell = cell = LockstepCell(f, is_repairing=is_repairing)
        for core in cell.cores:
            core.cell.poison.__class__ = poison
        for name, domain in cell.domains.items():
            if name not in immune:
                domain.__class__ = Vulnerable
        self.other_sink, self.sink = RecordingSink(), RecordingSink()
        self.other: ClientId = cell.open_client(0, self.other_sink)
        for number in range(1, 4):
            cell.submit(0, self.other_sink, self.other, number, b"append a x")
        self.client = cell.open_client(0, self.sink)
        cell.submit(0, self.sink, self.client, 1, b"set poison 1")
        self.sequence = next(data["sequence"] for data in cell.told("request_held")) if poison is Poison else 0
        cell.pass_time(1_000)

    def resolve(self, action: str) -> list[dict[str, object]]:
        assert isinstance(self.sequence, int)
        self.cell.cores[0].order_resolution(self.sequence, action, 5)
        self.cell.settle()
        return self.cell.told("request_resolved")

    def outcomes(self) -> list[Outcome]:
        return [outcome for _, _, outcome, _ in self.sink.replies]

    def next_outcome(self) -> Outcome:
        """Of another client's next request."""
        self.cell.submit(0, self.other_sink, self.other, 4, b"append a y")
        self.cell.pass_time(1_000)
        return self.other_sink.replies[-1][2] if self.other_sink.replies[-1][1] == 4 else Outcome.UNAVAILABLE


def test_l13_a_request_that_killed_more_than_f_domains_is_fed_to_no_further_one() -> None:
    """The bound is exceeded: the rest keep their state."""
    poisoned = PoisonedCell()
    cell = poisoned.cell
    state = cell.cores[0].cell
    assert {state.domains[name].role for name in (ACTIVE_0, ACTIVE_1)} == {Role.RETIRED}
    assert {state.domains[name].role for name in (PASSIVE_0, PASSIVE_1)} == {Role.ACTIVE}
    for sleeper in (PASSIVE_0, PASSIVE_1):
        assert cell.domains[sleeper].rows == {b"a": b"xxx"}
    assert poisoned.outcomes() == []


def _one_died_while_the_other_is_slow() -> tuple[LockstepCell, RecordingSink]:
    """Of the two active domains; the sleepers are already called for in the dead one's place."""
    cell = LockstepCell(is_repairing=False)
    for domain in cell.domains.values():
        domain.__class__ = Vulnerable
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    cell.pause(ACTIVE_1)
    cell.submit(0, sink, client, 2, b"set poison 1")
    cell.pass_time(1_000)
    assert cell.cores[0].cell.domains[ACTIVE_0].role is Role.RETIRED
    return cell, sink


def test_l13_who_takes_a_dead_ones_place_is_not_fed_what_it_died_of_before_another_one_has_lived_through_it() -> None:
    """The second one to die may be slow: by then the sleepers would have died before it, and no state be left."""
    cell, sink = _one_died_while_the_other_is_slow()
    cell.proceed(ACTIVE_1)
    cell.pass_time(5_000)
    assert cell.told("request_held")
    assert cell.told("domain_suspected") == []
    for sleeper in (PASSIVE_0, PASSIVE_1):
        assert cell.cores[0].cell.domains[sleeper].role is not Role.RETIRED
        assert cell.domains[sleeper].rows == {b"a": b"x"}
    assert len(sink.replies) == 1


def test_l13_what_only_one_domain_died_of_is_answered_as_soon_as_another_one_has_lived_through_it() -> None:
    """It was that domain's own fault, at that moment by chance."""
    cell, sink = _one_died_while_the_other_is_slow()
    for name in (ACTIVE_1, PASSIVE_0, PASSIVE_1):
        cell.domains[name].__class__ = FakeDomain
    assert len(sink.replies) == 1
    cell.proceed(ACTIVE_1)
    cell.pass_time(1_000)
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED] * 2
    assert cell.told("request_held") == []


def test_l13_planted_without_holding_it_kills_every_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario above finds it: all state is lost."""
    monkeypatch.setattr(Feed, "_waits_for_survivor", lambda _feed, _record: False)
    state = PoisonedCell(poison=NeverHolds).cell.cores[0].cell
    assert {record.role for record in state.domains.values()} == {Role.RETIRED}


def test_l13_a_held_request_makes_nobody_late() -> None:
    """No stall, no suspicion: nobody is fed it."""
    poisoned = PoisonedCell()
    poisoned.cell.pass_time(20_000)
    assert poisoned.cell.told("vote_stalled") == []
    assert poisoned.cell.told("domain_suspected") == []


def test_l13_donors_of_a_repair_are_not_blamed_while_the_request_is_held_and_give_their_state_after() -> None:
    """They cannot be at the point before an operator has decided."""
    poisoned = PoisonedCell(is_repairing=True)
    poisoned.cell.pass_time(50_000)
    assert poisoned.cell.told("repair_ordered"), "each server wants a sleeper"
    assert poisoned.cell.told("domain_suspected") == []
    assert poisoned.cell.told("repair_retried") == []
    poisoned.resolve("skip")
    poisoned.cell.pass_time(1_000)
    assert len(poisoned.cell.cores[0].cell.domains_in(Role.PASSIVE)) == 2
    assert poisoned.next_outcome() is Outcome.ANSWERED


def test_l13_skipped_it_has_an_error_reply_and_no_update_and_the_cell_goes_on() -> None:
    """Every server consents, for it is stable nowhere."""
    poisoned = PoisonedCell()
    assert {resolved["objection"] for resolved in poisoned.resolve("skip")} == {""}
    assert poisoned.outcomes() == [Outcome.SKIPPED]
    assert poisoned.next_outcome() is Outcome.ANSWERED
    for sleeper in (PASSIVE_0, PASSIVE_1):
        assert poisoned.cell.domains[sleeper].rows == {b"a": b"xxxy"}


def test_l13_a_client_that_repeats_a_skipped_request_hears_the_same() -> None:
    """At most once: it is not executed later."""
    poisoned = PoisonedCell()
    poisoned.resolve("skip")
    again = RecordingSink()
    for server in (0, 1):
        poisoned.cell.submit(server, again, poisoned.client, 1, b"set poison 1")
    assert [outcome for _, _, outcome, _ in again.replies] == [Outcome.SKIPPED] * 2


def test_l13_tried_again_after_the_service_was_mended_it_is_answered() -> None:
    """Domains may be fed it again."""
    poisoned = PoisonedCell()
    for domain in poisoned.cell.domains.values():
        if isinstance(domain, Vulnerable):
            domain.is_mended = True
    assert {resolved["objection"] for resolved in poisoned.resolve("retry")} == {""}
    poisoned.cell.pass_time(500)
    assert poisoned.outcomes() == [Outcome.ANSWERED]
    assert poisoned.next_outcome() is Outcome.ANSWERED


def test_l13_who_executed_a_skipped_request_is_given_up_but_not_convicted() -> None:
    """f = 2: a2 survives it, and has its effects in its state, which the others have not."""
    survivor, fresh = DomainId("s2.g1"), DomainId("s2.g2")
    poisoned = PoisonedCell(2, immune=(survivor,))
    assert poisoned.cell.domains[survivor].rows[b"poison"] == b"1"
    poisoned.resolve("skip")
    state = poisoned.cell.cores[2].cell
    assert state.domains[survivor].role is Role.RETIRED
    assert state.is_counted(survivor)
    assert state.domains[fresh].role is Role.ACTIVE
    assert poisoned.outcomes() == [Outcome.SKIPPED]


@pytest.mark.parametrize("action", ["skip", "retry"])
def test_l13_a_number_that_every_server_has_stable_is_not_open(action: str) -> None:
    """Nothing to decide."""
    poisoned = PoisonedCell()
    poisoned.cell.pass_time(3_000)
    poisoned.sequence = 2
    assert {resolved["objection"] for resolved in poisoned.resolve(action)} == {"it is not open"}


def test_l13_a_number_that_is_stable_on_one_server_is_not_skipped() -> None:
    """Somebody may have been answered."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda sender, receiver, _message: receiver == 1
    cell.submit(0, sink, client, 1, b"append a x")
    sequence = cell.cores[0].requests.last
    cell.cores[1].order_resolution(sequence, "skip", 5)
    cell.settle()
    assert {data["objection"] for data in cell.told("request_resolved")} == {"it is stable on server 0"}
    cell.is_lost = lambda *_: False
    cell.pass_time(1_000)
    assert cell.cores[1].buffer.prefix >= sequence, "frozen for the question only"


def test_l13_what_every_domain_has_executed_is_not_skipped() -> None:
    """Four different answers: more than f faults, and no state without it to go on from."""
    cell = LockstepCell(1, is_repairing=False)
    for name, domain in cell.domains.items():
        domain.rows[b"a"] = name.encode()
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"get a")
    sequence = cell.told("vote_diverged")[0]["sequence"]
    assert isinstance(sequence, int)
    cell.pass_time(2_000)
    cell.cores[0].order_resolution(sequence, "skip", 5)
    cell.settle()
    assert {data["objection"] for data in cell.told("request_resolved")} == {NO_FRESH_DOMAIN}
    assert sink.replies == []
