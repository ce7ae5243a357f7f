"""Redundancy is restored at once, from clean images, with a state that was voted on; whatever goes wrong meanwhile.

Source: design "Repair"; `M12`, `L10` (b), `L6`, `M7` of its list of traps.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest

from exec_wrapper.wire import FromWrapper, NextPart, Ping, SetPart, StatePart, TakeState, ToWrapper
from replica_manager.cell.domain_table import DomainTable
from replica_manager.cell.effects import DomainSuspected
from replica_manager.cell.entries import RepairPoint, Suspected
from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import FetchPart, ManagerMessage, StableNotice, StateDigests, Votes
from replica_manager.recovery.repair import BACKOFF_MS_MAX
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.simulation.fake_domain import FakeDomain

ACTIVE_0, PASSIVE_0, FRESH_0 = (DomainId(f"s0.g{generation}") for generation in (1, 2, 3))
ACTIVE_1, PASSIVE_1, FRESH_1 = (DomainId(f"s1.g{generation}") for generation in (1, 2, 3))
PATIENCE_MS = 10_000
ROWS = 100
"""Thirteen parts: more than are in flight."""


def kill(cell: LockstepCell, *domains: DomainId) -> None:
    for domain in domains:
        cell.cores[int(domain[1])].on_domain_gone(domain, "killed")
        cell.settle()


def stored(f: int = 1, cell: LockstepCell | None = None) -> LockstepCell:
    """A cell with some state."""
    cell = cell or LockstepCell(f)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(ROWS):
        cell.submit(0, sink, client, number + 1, b"set key-%03d value" % number)
    return cell


def role(cell: LockstepCell, domain: DomainId) -> Role:
    return cell.cores[-1].cell.domains[domain].role


def donors(cell: LockstepCell) -> list[list[DomainId]]:
    """Of each repair point, as server 0 saw them."""
    found = []
    for server, kind, data in cell.events:
        if kind == "repair_ordered" and server == 0:
            assert isinstance(data["donors"], list)
            found.append(data["donors"])
    return found


def serves(cell: LockstepCell, server: int = 0) -> bool:
    sink = RecordingSink()
    client = cell.open_client(server, sink)
    cell.submit(server, sink, client, 1, b"append key-001 !")
    cell.pass_time(1_000)
    return [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]


def assert_repaired(cell: LockstepCell, fresh: DomainId, like: DomainId) -> None:
    assert role(cell, fresh) is Role.PASSIVE
    assert cell.cores[0].cell.state_point is None
    cell.pass_time(500)
    assert len(cell.domains[fresh].rows) >= ROWS
    assert cell.domains[fresh].rows == cell.domains[like].rows


# -- the rule ----------------------------------------------------------------------------------------------------


def test_a_dead_sleeper_is_replaced_by_a_fresh_domain_with_the_agreed_state() -> None:
    """At once; the clients notice nothing."""
    cell = stored()
    kill(cell, PASSIVE_0)
    cell.pass_time(500)
    assert_repaired(cell, FRESH_0, ACTIVE_0)
    assert not cell.running[FRESH_0], "and sleeps"
    assert serves(cell)


def test_a_fresh_domain_is_fed_on_from_its_point_and_can_vote() -> None:
    """M7: `DomainReady` makes it passive; it is as good as any other."""
    cell = stored()
    kill(cell, PASSIVE_0)
    cell.pass_time(500)
    kill(cell, PASSIVE_1, ACTIVE_1)
    assert role(cell, FRESH_0) is Role.ACTIVE
    assert serves(cell)
    assert cell.domains[FRESH_0].executed
    assert cell.domains[FRESH_0].rows == cell.domains[ACTIVE_0].rows


def test_m12_sleepers_give_their_state_first_and_active_ones_only_as_far_as_they_are_needed() -> None:
    """f = 1, one sleeper left: one active domain, the host's own, whose parts need not travel."""
    cell = stored()
    kill(cell, PASSIVE_0)
    cell.pass_time(500)
    assert [set(names) for names in donors(cell)] == [{PASSIVE_1, ACTIVE_0}]


def test_m12_a_suspected_sleeper_is_not_asked_while_others_are_enough() -> None:
    """It may never answer; its own replacement would wait for it first."""
    cell = stored()
    cell.order_entry(Suspected(PASSIVE_0, "late", 0))
    cell.pass_time(500)
    assert [set(names) for names in donors(cell)] == [{PASSIVE_1, ACTIVE_0}]


class RetiresOnSuspicion(DomainTable):
    """Planted: `M12` taken out: the suspect is given up first."""

    def suspect(self, record: DomainRecord, reason: str) -> DomainSuspected:
        return self.change(record, Role.RETIRED, reason, 0)  # type: ignore[return-value]


def sleepers_of_server_0_at_the_worst(cell: LockstepCell, table: type[DomainTable]) -> int:
    for core in cell.cores:
        core.cell.table.__class__ = table
    cell.order_entry(Suspected(PASSIVE_0, "late", 0))
    fewest = 1
    for _ in range(20):
        present = [name for name in (PASSIVE_0, FRESH_0) if name in cell.cores[0].cell.domains]
        fewest = min(fewest, sum(role(cell, name) is Role.PASSIVE for name in present))
        cell.pass_time(50)
    assert role(cell, FRESH_0) is Role.PASSIVE
    assert role(cell, PASSIVE_0) is Role.RETIRED
    return fewest


def test_m12_a_suspected_sleeper_is_replaced_first_and_retired_after() -> None:
    """Never destroyed on suspicion alone: it may be the one that is needed meanwhile."""
    assert sleepers_of_server_0_at_the_worst(stored(), DomainTable) == 1


def test_m12_planted_a_suspect_that_is_retired_at_once_leaves_a_server_without_sleeper() -> None:
    """The scenario above finds it."""
    assert sleepers_of_server_0_at_the_worst(stored(), RetiresOnSuspicion) == 0


def test_repair_may_be_left_to_the_next_recovery() -> None:
    """`repair = "next-recovery"`: nothing is booted now."""
    cell = stored(cell=LockstepCell(1, is_repairing=False))
    kill(cell, PASSIVE_0)
    cell.pass_time(2_000)
    assert FRESH_0 not in cell.domains


# -- what donors do ----------------------------------------------------------------------------------------------


class LiesAboutItsState(FakeDomain):
    """Executes well, and gives something else."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        answers = super().receive(frame)
        return [
            StatePart(answer.point, answer.index, answer.is_last, answer.data.replace(b"value", b"lying"))
            if isinstance(answer, StatePart)
            else answer
            for answer in answers
        ]


class TruncatesItsState(FakeDomain):
    """Says that the first part is the last one."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        answers = super().receive(frame)
        return [
            StatePart(answer.point, answer.index, True, answer.data) if isinstance(answer, StatePart) else answer
            for answer in answers[: 1 if isinstance(frame, NextPart) else None]
        ]


class GivesNoState(FakeDomain):
    """Is silent when asked for parts."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        return [] if isinstance(frame, NextPart | TakeState) else super().receive(frame)


@pytest.mark.parametrize("liar", [ACTIVE_0, PASSIVE_1])
@pytest.mark.parametrize("kind", [LiesAboutItsState, TruncatesItsState])
def test_l10_b_a_donor_that_lies_about_its_state_is_convicted_and_nothing_of_it_gets_in(
    kind: type[FakeDomain], liar: DomainId
) -> None:
    """States are counted like replies; two that differ are not enough, so everybody is asked."""
    cell = stored()
    cell.domains[liar].__class__ = kind
    kill(cell, PASSIVE_0)
    cell.pass_time(1_500)
    assert not cell.cores[1].cell.is_counted(liar)
    assert len(donors(cell)[1]) == 3
    assert role(cell, FRESH_0) in (Role.PASSIVE, Role.ACTIVE)
    cell.pass_time(2_000)
    assert b"lying" not in b"".join(cell.domains[FRESH_0].rows.values())
    assert len(cell.domains[FRESH_0].rows) == ROWS
    assert serves(cell)


def test_a_donor_that_does_not_give_its_state_is_suspected_and_another_one_asked() -> None:
    """No proof, so it is replaced, not convicted."""
    cell = stored()
    cell.domains[PASSIVE_1].__class__ = GivesNoState
    kill(cell, PASSIVE_0)
    cell.pass_time(PATIENCE_MS + 1_000)
    assert role(cell, FRESH_0) is Role.PASSIVE
    cell.pass_time(PATIENCE_MS + 1_000)
    assert cell.cores[0].cell.is_counted(PASSIVE_1)
    assert role(cell, PASSIVE_1) is Role.RETIRED, "replaced by a fresh one"
    assert role(cell, FRESH_1) is Role.PASSIVE


def test_a_donor_that_dies_is_not_waited_for() -> None:
    """The next attempt asks everybody, before any patience is used up."""
    cell = stored()
    cell.pause(PASSIVE_1)
    kill(cell, PASSIVE_0)
    cell.pass_time(500)
    assert role(cell, FRESH_0) is Role.STARTING
    kill(cell, PASSIVE_1)
    cell.pass_time(500)
    assert_repaired(cell, FRESH_0, ACTIVE_0)


def test_l6_a_stall_needs_no_sleeper_that_is_busy_giving_its_state() -> None:
    """The donor is activated while its state streams: it votes, and the repair goes on."""
    cell = stored()
    cell.pause(PASSIVE_1)
    kill(cell, PASSIVE_0)
    cell.pass_time(200)
    kill(cell, ACTIVE_1)
    cell.proceed(PASSIVE_1)
    assert serves(cell)
    assert role(cell, PASSIVE_1) is Role.ACTIVE
    assert role(cell, FRESH_0) is Role.PASSIVE


# -- what peers, disks and messages do ---------------------------------------------------------------------------


def cell_whose_own_copy_is_wrong() -> LockstepCell:
    """Server 0's active domain lies about its state: the right copies are on server 1."""
    cell = stored()
    cell.domains[ACTIVE_0].__class__ = LiesAboutItsState
    return cell


def cell_whose_own_copy_is_lost() -> LockstepCell:
    """Server 0's disk takes no parts."""
    cell = stored()
    cell.spools[0].is_full = True
    return cell


def lose(cell: LockstepCell, kind: type[ManagerMessage], count: int) -> list[int]:
    """Lose the first messages of a kind; return the receivers of all of them, as they come."""
    receivers: list[int] = []

    def is_lost(_sender: int, receiver: int, message: ManagerMessage) -> bool:
        if not isinstance(message, kind):
            return False
        receivers.append(receiver)
        return len(receivers) <= count

    cell.is_lost = is_lost
    return receivers


def test_a_question_for_a_part_that_is_lost_is_asked_again_and_the_fresh_domain_stays() -> None:
    """It has done nothing wrong: nothing was handed to it."""
    cell = cell_whose_own_copy_is_wrong()
    asked = lose(cell, FetchPart, 4)
    kill(cell, PASSIVE_0)
    cell.pass_time(PATIENCE_MS + 2_000)
    assert len(asked) > 4
    assert role(cell, FRESH_0) in (Role.PASSIVE, Role.ACTIVE)
    assert len(cell.domains[FRESH_0].rows) == ROWS


def test_digests_that_are_lost_are_told_again() -> None:
    """With a connection, or because the point was not delivered yet."""
    cell = stored()
    lose(cell, StateDigests, 2)
    kill(cell, PASSIVE_0)
    cell.pass_time(3_000)
    assert_repaired(cell, FRESH_0, ACTIVE_0)
    assert cell.told("repair_retried") == []


def test_a_full_disk_loses_a_copy_and_another_servers_is_read() -> None:
    """Failing hardware: said, and worked around."""
    cell = cell_whose_own_copy_is_lost()
    kill(cell, PASSIVE_0)
    cell.pass_time(1_000)
    assert_repaired(cell, FRESH_0, ACTIVE_0)
    assert cell.told("state_part_damaged")


def test_parts_are_forgotten_when_their_point_has_ended() -> None:
    """On every server; so are the digests of a state, which are many if it is large."""
    cell = stored()
    kill(cell, PASSIVE_0)
    cell.pass_time(2_000)
    point = cell.told("repair_ordered")[0]["point"]
    assert isinstance(point, int)
    for core, spool in zip(cell.cores, cell.spools, strict=True):
        assert all(spool.read(point, domain, 0) is None for domain in core.cell.domains)
        assert core.answers.state_reports(point) == []


# -- what fresh domains do ---------------------------------------------------------------------------------------


class Hangs(FakeDomain):
    """Takes one part in, and nothing more."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        if isinstance(frame, SetPart | Ping) and frame != Ping(0) and getattr(frame, "index", 0):
            return []
        return [] if isinstance(frame, Ping) and frame.token else super().receive(frame)


def boots(kinds: dict[DomainId, type[FakeDomain]]) -> Callable[[DomainId], FakeDomain]:
    return lambda domain: kinds.get(domain, FakeDomain)(domain)


@pytest.mark.parametrize("start", [stored, cell_whose_own_copy_is_lost], ids=["own copy", "remote copy"])
def test_a_fresh_domain_that_hangs_is_given_up_and_another_one_booted(start: Callable[[], LockstepCell]) -> None:
    """Wherever the parts come from."""
    cell = start()
    cell.fresh_domain = boots({FRESH_0: Hangs})
    kill(cell, PASSIVE_0)
    cell.pass_time(4 * PATIENCE_MS)
    assert role(cell, FRESH_0) is Role.RETIRED
    assert cell.cores[0].cell.state_point is None
    successor = max(cell.cores[0].feeds, key=lambda name: int(name.split("g")[1]))
    assert role(cell, successor) is Role.PASSIVE
    assert len(cell.domains[successor].rows) == ROWS


def test_a_point_that_a_former_life_ordered_is_not_taken_for_that_of_a_domain_that_still_boots() -> None:
    """It had used the same name, and agreement was slow (`L9`): the new domain would be filled before it runs."""
    cell = stored()
    cell.is_boot_slow = True
    kill(cell, PASSIVE_0)
    cell.pass_time(500)
    assert cell.booting == [FRESH_0]
    cell.order_entry(RepairPoint([FRESH_0], 0, cell.sequence))
    cell.pass_time(500)
    assert cell.cores[0].repair.filling is None
    assert serves(cell)
    cell.finish_boots()
    cell.pass_time(500)
    assert_repaired(cell, FRESH_0, ACTIVE_0)


def test_a_fresh_domain_that_cannot_be_booted_is_tried_again_more_and_more_rarely() -> None:
    """A full disk or a broken image must not keep the server busy; names are never used twice."""
    cell = stored()
    tried: list[tuple[int, DomainId]] = []

    def refuse(domain: DomainId) -> None:
        tried.append((cell.now_ms, domain))

    cell.fresh_domain = refuse
    kill(cell, PASSIVE_0)
    cell.pass_time(200_000, tick_ms=100)
    pauses = [after - before for (before, _), (after, _) in pairwise(tried)]
    assert pauses[:4] == [1_000, 2_000, 4_000, 8_000]
    assert max(pauses) <= BACKOFF_MS_MAX
    assert len({domain for _, domain in tried}) == len(tried)
    assert set(cell.cores[0].feeds) == {ACTIVE_0}, "nothing is left of them"
    cell.fresh_domain = FakeDomain
    cell.pass_time(BACKOFF_MS_MAX, tick_ms=100)
    assert any(record.is_clean_passive for record in cell.cores[0].cell.domains_of(0))


def test_a_repair_that_fails_again_and_again_is_tried_more_and_more_rarely() -> None:
    """Booting costs those that serve CPU time."""
    cell = stored()
    tried: list[int] = []

    def boot(domain: DomainId) -> FakeDomain:
        tried.append(cell.now_ms)
        return Hangs(domain)

    cell.fresh_domain = boot
    kill(cell, PASSIVE_0)
    cell.pass_time(80_000, tick_ms=100)
    pauses = [after - before for before, after in pairwise(tried)]
    longer = [after - before for before, after in pairwise(pauses)]
    assert longer[:3] == [1_000, 2_000, 4_000]


def test_a_fresh_domain_is_not_relied_on_before_its_server_has_stable_what_it_cannot_vote_on() -> None:
    """Its state holds an earlier number that is open here: `DomainReady` waits."""
    cell = stored()
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.is_lost = lambda _sender, receiver, message: receiver == 0 and isinstance(message, Votes | StableNotice)
    cell.submit(1, sink, client, 1, b"append key-001 x")
    kill(cell, PASSIVE_0)
    cell.pass_time(200)
    filling = cell.cores[0].repair.filling
    assert filling is not None
    assert filling.is_set
    assert role(cell, FRESH_0) is Role.STARTING
    cell.is_lost = lambda *_: False
    cell.cores[1].on_peer_up(0)
    cell.settle()
    cell.pass_time(100)
    assert_repaired(cell, FRESH_0, ACTIVE_0)


class DiesAtOnce(LockstepCell):
    """The first fresh domain ends when its point was asked for, and has not been delivered."""

    has_died = False

    def _boot(self, core: ManagerCore, domain: DomainId) -> None:
        super()._boot(core, domain)
        if not self.has_died:
            self.has_died = True
            core.on_domain_gone(domain, "it crashed")


def test_a_fresh_domain_that_ends_before_its_point_is_delivered_leaves_no_point_open() -> None:
    """Nobody would ever end it: no server could be repaired, no checkpoint made."""
    cell = stored(cell=DiesAtOnce(1))
    kill(cell, PASSIVE_0)
    cell.pass_time(200)
    assert cell.cores[1].cell.state_point is None
    assert role(cell, FRESH_0) is Role.RETIRED
    cell.pass_time(2_000)
    assert role(cell, DomainId("s0.g4")) is Role.PASSIVE


# -- one point at a time -----------------------------------------------------------------------------------------


def test_two_servers_that_need_a_repair_are_repaired_one_after_the_other() -> None:
    """The second one's point is refused while the first one's is open; waiting is no failed attempt."""
    cell = stored(2)
    cell.pause(DomainId("s2.g2"))
    kill(cell, PASSIVE_0, PASSIVE_1)
    cell.pass_time(PATIENCE_MS // 2)
    assert {role(cell, name) for name in (FRESH_0, FRESH_1) if name in cell.cores[0].cell.domains} == {Role.STARTING}
    cell.proceed(DomainId("s2.g2"))
    cell.pass_time(2_000)
    for fresh in (FRESH_0, FRESH_1):
        assert_repaired(cell, fresh, ACTIVE_0)
    assert cell.told("repair_retried") == []


def test_a_checkpoint_that_a_domain_keeps_open_gives_way_to_a_repair() -> None:
    """One faulty domain must not cost the cell its redundancy.  Parts for the checkpoint may still come, late."""
    cell = stored()
    cell.pause(PASSIVE_1)
    cell.cores[0].order_checkpoint(7)
    cell.settle()
    assert cell.cores[0].cell.open_point
    kill(cell, PASSIVE_0)
    cell.pass_time(500)
    point = cell.cores[0].cell.state_point
    assert point is not None
    assert point.domains == (FRESH_0,)
    cell.proceed(PASSIVE_1)
    cell.pass_time(500)
    assert_repaired(cell, FRESH_0, ACTIVE_0)
    assert role(cell, PASSIVE_1) is Role.PASSIVE
