"""The simulator's hypervisor: its faults and its virtual time.  The rest is in the contract suite."""

import heapq
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from replica_manager.hypervisor.hypervisor import DomainEvent, DomainSpec, DomainState, HypervisorError
from replica_manager.identifiers import DomainId
from tests.simulation.fake_hypervisor import Operation, SimulatedHypervisor

DOMAIN = DomainId("s0.g1")
SPEC = DomainSpec(DOMAIN, "image", Path("/c"), Path("/d"), Path("/l"))


class VirtualTime:
    """Timers that a test runs by hand."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now_s = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Remember a timer."""
        heapq.heappush(self._timers, (self.now_s + delay_s, next(self._count), callback))

    def run_to(self, end_s: float) -> None:
        """Run all timers up to `end_s`."""
        while self._timers and self._timers[0][0] <= end_s:
            self.now_s, _, callback = heapq.heappop(self._timers)
            callback()
        self.now_s = end_s


class Recorder:
    """One started domain, and everything that was heard of it."""

    def __init__(self) -> None:
        """Boot the domain."""
        self.time = VirtualTime()
        self.events: list[DomainEvent] = []
        self.done: list[HypervisorError | None] = []
        self.hypervisor = SimulatedHypervisor(lambda: self.time.now_s, self.time.call_later, self.events.append)
        self.hypervisor.define(SPEC, self.done.append)
        self.hypervisor.start(DOMAIN, self.done.append)
        self.time.run_to(1.0)
        assert self.done == [None, None]
        self.done.clear()
        self.events.clear()

    @property
    def state(self) -> DomainState:
        """The domain's state now."""
        return self.hypervisor.observe()[DOMAIN].state


@pytest.fixture
def recorder() -> Recorder:
    """A started domain at 1 s."""
    return Recorder()


def test_an_operation_takes_its_time(recorder: Recorder) -> None:
    """Nothing has changed before; event and completion come at the same virtual time."""
    recorder.hypervisor.suspend(DOMAIN, recorder.done.append)
    recorder.time.run_to(1.0 + Operation.SUSPEND.value - 1e-9)
    assert (recorder.state, recorder.done) == (DomainState.RUNNING, [])
    recorder.time.run_to(1.0 + Operation.SUSPEND.value)
    assert (recorder.state, recorder.done) == (DomainState.SUSPENDED, [None])
    assert recorder.events[0].monotonic_s == pytest.approx(1.0 + Operation.SUSPEND.value)


def test_cpu_time_is_running_time(recorder: Recorder) -> None:
    """A suspended domain uses none, a weighted one less."""
    before = recorder.hypervisor.observe()[DOMAIN].cpu_seconds
    recorder.time.run_to(11.0)
    running = recorder.hypervisor.observe()[DOMAIN].cpu_seconds - before
    recorder.hypervisor.suspend(DOMAIN, recorder.done.append)
    recorder.time.run_to(12.0)
    asleep = recorder.hypervisor.observe()[DOMAIN].cpu_seconds
    recorder.time.run_to(100.0)
    assert running == pytest.approx(1.0)
    assert recorder.hypervisor.observe()[DOMAIN].cpu_seconds == asleep


def test_a_hanging_domain_answers_nothing_until_it_wakes(recorder: Recorder) -> None:
    """Everything asked meanwhile is done then, in order."""
    recorder.hypervisor.hang(DOMAIN)
    recorder.hypervisor.suspend(DOMAIN, recorder.done.append)
    recorder.hypervisor.resume(DOMAIN, recorder.done.append)
    recorder.time.run_to(1000.0)
    assert (recorder.state, recorder.done, recorder.events) == (DomainState.RUNNING, [], [])
    recorder.hypervisor.end_hang(DOMAIN)
    recorder.time.run_to(1001.0)
    assert [event.state for event in recorder.events] == [DomainState.SUSPENDED, DomainState.RUNNING]
    assert recorder.done == [None, None]


def test_a_slow_hypervisor_takes_longer(recorder: Recorder) -> None:
    """Everything is slower by the same factor."""
    recorder.hypervisor.slow_down(DOMAIN, 1000)
    recorder.hypervisor.suspend(DOMAIN, recorder.done.append)
    recorder.time.run_to(1.0 + 999 * Operation.SUSPEND.value)
    assert recorder.done == []
    recorder.time.run_to(1.0 + 1000 * Operation.SUSPEND.value)
    assert recorder.done == [None]


def test_a_vanished_domain_is_reported_and_cannot_be_resumed(recorder: Recorder) -> None:
    """Also when something was asked of it at that moment."""
    recorder.hypervisor.suspend(DOMAIN, recorder.done.append)
    recorder.hypervisor.vanish(DOMAIN)
    assert [(event.state, event.reason) for event in recorder.events] == [(DomainState.STOPPED, "killed by SIGKILL")]
    recorder.time.run_to(2.0)
    assert recorder.state is DomainState.STOPPED
    assert "stopped" in str(recorder.done[0])
