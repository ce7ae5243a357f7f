"""What a server knows alone of its own domains.

Source: design "Noticing", "Passive replicas", "More rounds, and more than f faults"; `M1`, `M7` of its list of traps.
"""

import pytest

from exec_wrapper.wire import ApplyUpdates, Execute, FromWrapper, NextPart, Sync, TakeState, ToWrapper
from replica_manager.cell.roles import Role
from replica_manager.identifiers import DomainId
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink
from tests.simulation.fake_domain import FakeDomain

ACTIVE_0, PASSIVE_0, ACTIVE_1 = DomainId("s0.g1"), DomainId("s0.g2"), DomainId("s1.g1")
APPLIED_TIMEOUT_MS, EXECUTION_LIMIT_MS = 5_000, 20_000


class AppliesNothing(FakeDomain):
    """Takes updates in and does not say so."""

    silent: tuple[type[ToWrapper], ...] = (ApplyUpdates,)

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        answers = super().receive(frame)
        return [] if isinstance(frame, self.silent) else answers


class SyncsNothing(AppliesNothing):
    """Never makes its state durable."""

    silent = (Sync,)


class GivesNothing(AppliesNothing):
    """Never gives its state."""

    silent = (TakeState, NextPart)


class GivesSlowly(FakeDomain):
    """Gives a part whenever it is told to."""

    def release(self) -> list[FromWrapper]:
        return super().receive(NextPart(1))

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        return [] if isinstance(frame, NextPart) else super().receive(frame)


def cell_with(domain: DomainId, kind: type[FakeDomain]) -> LockstepCell:
    cell = LockstepCell(1, is_repairing=False)
    cell.domains[domain].__class__ = kind
    cell.pass_time(100)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 30):
        cell.submit(0, sink, client, number, b"set key-%03d value" % number)
    return cell


def suspicions(cell: LockstepCell) -> dict[str, object]:
    return {str(data["domain"]): data["reason"] for data in cell.told("domain_suspected")}


@pytest.mark.parametrize(
    ("domain", "kind", "reason", "asked_ms"),
    [
        (PASSIVE_0, AppliesNothing, "not confirmed in time", 0),
        (ACTIVE_1, SyncsNothing, "not on its disk in time", 1_900),
    ],
)
def test_a_domain_that_does_not_confirm_in_time_is_suspected(
    domain: DomainId, kind: type[FakeDomain], reason: str, asked_ms: int
) -> None:
    """No vote shows it; its own manager does."""
    cell = cell_with(domain, kind)
    cell.pass_time(asked_ms + APPLIED_TIMEOUT_MS - 50)
    assert suspicions(cell) == {}
    cell.pass_time(200)
    assert list(suspicions(cell)) == [domain]
    assert reason in str(suspicions(cell)[domain])


def test_a_suspicion_is_ordered_once() -> None:
    """The order is not flooded."""
    cell = cell_with(PASSIVE_0, AppliesNothing)
    before = cell.sequence
    cell.pass_time(10 * APPLIED_TIMEOUT_MS)
    assert len([1 for server, kind, _ in cell.events if kind == "domain_suspected" and server == 0]) == 1
    assert cell.sequence < before + 20


def test_a_domain_that_does_not_give_its_state_is_suspected() -> None:
    """A checkpoint waits for nobody for ever."""
    cell = cell_with(PASSIVE_0, GivesNothing)
    cell.cores[1].order_checkpoint(1)
    cell.settle()
    cell.pass_time(APPLIED_TIMEOUT_MS - 200)
    assert cell.cores[0].cell.state_point is not None
    cell.pass_time(1_000)
    assert list(suspicions(cell)) == [PASSIVE_0]
    assert cell.cores[0].cell.state_point is None
    assert cell.cores[0].feeds[PASSIVE_0].state_point == 0, "it may sleep, and be asked again"


def test_a_large_state_may_take_long_as_long_as_parts_come() -> None:
    """The limit is for one part."""
    cell = cell_with(PASSIVE_0, GivesSlowly)
    domain = cell.domains[PASSIVE_0]
    assert isinstance(domain, GivesSlowly)
    cell.cores[1].order_checkpoint(1)
    cell.settle()
    while cell.cores[0].cell.state_point is not None:
        cell.pass_time(APPLIED_TIMEOUT_MS - 500)
        cell.cores[0].on_domain_frames(PASSIVE_0, domain.release(), cell.now_ms)
        cell.settle()
    assert suspicions(cell) == {}


def test_a_sleeping_domain_owes_nothing() -> None:
    """It has no CPU time."""
    cell = cell_with(PASSIVE_0, FakeDomain)
    cell.pass_time(10 * APPLIED_TIMEOUT_MS)
    assert suspicions(cell) == {}


def test_m1_a_pause_of_the_manager_is_no_lateness_of_its_domains() -> None:
    """It restarts their clocks too."""
    cell = cell_with(PASSIVE_0, FakeDomain)
    cell.pause(PASSIVE_0)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 30):
        cell.submit(0, sink, client, number, b"append a x")
    cell.pass_time(100)
    cell.tick(2 * APPLIED_TIMEOUT_MS)
    cell.proceed(PASSIVE_0)
    cell.pass_time(500)
    assert suspicions(cell) == {}


def test_a_request_that_takes_longer_than_any_may_stops_its_domain() -> None:
    """L13: or was stopped for exceeding the limit; its votes on others count."""

    class Loops(FakeDomain):
        """Never ends one request."""

        def receive(self, frame: ToWrapper) -> list[FromWrapper]:
            is_endless = isinstance(frame, Execute) and frame.payload.startswith(b"append endless")
            return [] if is_endless else super().receive(frame)

    cell = LockstepCell(1, is_repairing=False)
    cell.domains[ACTIVE_1].__class__ = Loops
    for server in (0, 1):
        cell.cores[server].on_domain_gone(DomainId(f"s{server}.g2"), "killed: nobody can take its place")
        cell.settle()
    cell.pass_time(100)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append endless x")
    sequence = cell.cores[0].requests.last
    cell.pass_time(EXECUTION_LIMIT_MS - 200)
    assert cell.cores[0].cell.domains[ACTIVE_1].role is not Role.RETIRED
    cell.pass_time(1_000)
    record = cell.cores[0].cell.domains[ACTIVE_1]
    assert record.role is Role.RETIRED
    assert record.reason == f"request {sequence} exceeded the execution limit"
    assert record.is_counted
