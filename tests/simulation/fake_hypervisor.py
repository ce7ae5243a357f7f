"""A hypervisor in virtual time: no thread, process, file or clock, and faults on request.

`SimulatedHypervisor` is the machine: requests in, completions and events through a timer that the caller provides.
`FakeHypervisor` is the same behind the `Hypervisor` protocol, for the contract suite and for asyncio shells.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from replica_manager.hypervisor.domain_process import niceness_of
from replica_manager.hypervisor.domain_xml import check_channel_path
from replica_manager.hypervisor.hypervisor import (
    DomainEvent,
    DomainNotRunning,
    DomainObservation,
    DomainRefused,
    DomainSpec,
    DomainState,
    HypervisorError,
    UnknownDomain,
)
from replica_manager.identifiers import DomainId

CPU_SHARE_RUNNING = 0.1
"""CPU seconds per second of a running domain without work."""

OnDone = Callable[[HypervisorError | None], None]


class Operation(enum.Enum):
    """What can be asked of a domain; the value is its duration in virtual seconds, as measured on real QEMU."""

    DEFINE = 0.010
    START = 0.300
    SUSPEND = 0.0026
    RESUME = 0.0025
    DESTROY = 0.200
    WEIGH = 0.001


@dataclass(slots=True)
class _SimulatedDomain:
    spec: DomainSpec
    state: DomainState = DomainState.DEFINED
    weight: float = 1.0
    cpu_seconds: float = 0.0
    counted_to_s: float = 0.0
    is_hanging: bool = False
    slowness: float = 1.0
    is_busy: bool = False
    waiting: deque[Callable[[], None]] = field(default_factory=deque)
    """What was asked while another operation went on or the domain hung."""


class SimulatedHypervisor:
    """All domains of one server.  Sans time: `now_s` tells it, `call_later` delays."""

    def __init__(
        self,
        now_s: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], None],
        on_event: Callable[[DomainEvent], None],
    ) -> None:
        """Start without domains.

        Args:
            now_s: The virtual clock.
            call_later: Runs a callback after that many virtual seconds.
            on_event: Hears every change of state, in order.
        """
        self.now_s = now_s
        self._call_later = call_later
        self.on_event = on_event
        self.domains: dict[DomainId, _SimulatedDomain] = {}
        self.disks: set[Path] = set()
        """The disks that exist."""

    # -- operations

    def define(self, spec: DomainSpec, on_done: OnDone) -> None:
        """Create a domain and its disk."""
        known = self.domains.get(spec.domain_id)
        if known is not None and known.spec != spec:
            on_done(DomainRefused(f"Domain {spec.domain_id} is already defined with another specification."))
            return
        try:
            check_channel_path(spec)
        except DomainRefused as error:
            on_done(error)
            return
        domain = self.domains.setdefault(spec.domain_id, _SimulatedDomain(spec, counted_to_s=self.now_s()))
        self._perform(domain, Operation.DEFINE, lambda: self.disks.add(spec.disk_path), on_done)

    def start(self, domain_id: DomainId, on_done: OnDone) -> None:
        """Boot a domain."""
        self._change(domain_id, Operation.START, DomainState.RUNNING, on_done)

    def suspend(self, domain_id: DomainId, on_done: OnDone) -> None:
        """Suspend a domain."""
        self._change(domain_id, Operation.SUSPEND, DomainState.SUSPENDED, on_done)

    def resume(self, domain_id: DomainId, on_done: OnDone) -> None:
        """Resume a domain."""
        self._change(domain_id, Operation.RESUME, DomainState.RUNNING, on_done)

    def destroy(self, domain_id: DomainId, on_done: OnDone, *, keep_disk: bool = False) -> None:
        """End and forget a domain."""
        domain = self.domains.get(domain_id)
        if domain is None:
            on_done(None)
            return

        def forget() -> None:
            self._enter(domain, DomainState.STOPPED, "destroyed")
            self.domains.pop(domain_id, None)
            if not keep_disk:
                self.disks.discard(domain.spec.disk_path)

        self._perform(domain, Operation.DESTROY, forget, on_done)

    def set_cpu_weight(self, domain_id: DomainId, weight: float, on_done: OnDone) -> None:
        """Slow a domain down."""
        domain = self.domains.get(domain_id)
        if domain is None:
            on_done(_unknown(domain_id))
            return
        niceness_of(weight)

        def weigh() -> None:
            self._count(domain)
            domain.weight = weight

        self._perform(domain, Operation.WEIGH, weigh, on_done)

    def observe(self) -> Mapping[DomainId, DomainObservation]:
        """Look at all domains."""
        for domain in self.domains.values():
            self._count(domain)
        return {
            domain_id: DomainObservation(domain_id, domain.state, domain.cpu_seconds, _memory_bytes(domain))
            for domain_id, domain in self.domains.items()
        }

    # -- faults

    def hang(self, domain_id: DomainId) -> None:
        """From now on nothing asked of the domain comes to an end."""
        self.domains[domain_id].is_hanging = True

    def end_hang(self, domain_id: DomainId) -> None:
        """Do at last what was asked meanwhile, in order."""
        domain = self.domains[domain_id]
        domain.is_hanging = False
        self._next(domain)

    def slow_down(self, domain_id: DomainId, factor: float) -> None:
        """From now on everything asked of the domain takes `factor` times as long."""
        self.domains[domain_id].slowness = factor

    def vanish(self, domain_id: DomainId, reason: str = "killed by SIGKILL") -> None:
        """End the domain as if its process had been killed."""
        self._enter(self.domains[domain_id], DomainState.STOPPED, reason)

    # -- inside

    def _change(self, domain_id: DomainId, operation: Operation, wanted: DomainState, on_done: OnDone) -> None:
        domain = self.domains.get(domain_id)
        if domain is None:
            on_done(_unknown(domain_id))
            return

        def change() -> None:
            is_up = domain.state in (DomainState.RUNNING, DomainState.SUSPENDED)
            if operation is Operation.START and is_up:
                return
            if operation is not Operation.START and not is_up:
                raise DomainNotRunning(f"Domain {domain_id} is {domain.state.value}, not running.")
            self._enter(domain, wanted, operation.name.lower())

        self._perform(domain, operation, change, on_done)

    def _perform(
        self, domain: _SimulatedDomain, operation: Operation, effect: Callable[[], None], on_done: OnDone
    ) -> None:
        """Let `effect` happen after the operation's time, behind everything asked of the domain before."""

        def finish() -> None:
            error: HypervisorError | None = None
            try:
                effect()
            except HypervisorError as raised:
                error = raised
            domain.is_busy = False
            on_done(error)
            self._next(domain)

        domain.waiting.append(lambda: self._call_later(operation.value * domain.slowness, finish))
        self._next(domain)

    def _next(self, domain: _SimulatedDomain) -> None:
        if domain.waiting and not domain.is_busy and not domain.is_hanging:
            domain.is_busy = True
            domain.waiting.popleft()()

    def _enter(self, domain: _SimulatedDomain, state: DomainState, reason: str) -> None:
        is_silent = domain.state is state or (state is DomainState.STOPPED and domain.state is DomainState.DEFINED)
        self._count(domain)
        domain.state = state
        if not is_silent:
            self.on_event(DomainEvent(domain.spec.domain_id, state, reason, self.now_s()))

    def _count(self, domain: _SimulatedDomain) -> None:
        now_s = self.now_s()
        if domain.state is DomainState.RUNNING:
            domain.cpu_seconds += (now_s - domain.counted_to_s) * CPU_SHARE_RUNNING * domain.weight
        domain.counted_to_s = now_s


class FakeHypervisor:
    """`SimulatedHypervisor` behind the `Hypervisor` protocol."""

    def __init__(self, now_s: Callable[[], float], call_later: Callable[[float, Callable[[], None]], None]) -> None:
        """Take the virtual clock of `SimulatedHypervisor`."""
        self.simulated = SimulatedHypervisor(now_s, call_later, lambda _event: None)

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """Report events from now on."""
        self.simulated.on_event = on_event

    async def close(self) -> None:
        """Report nothing any more; domains stay."""
        self.simulated.on_event = lambda _event: None

    async def define(self, spec: DomainSpec) -> None:
        """Create a domain."""
        await _completion(lambda on_done: self.simulated.define(spec, on_done))

    async def start(self, domain_id: DomainId) -> None:
        """Boot a domain."""
        await _completion(lambda on_done: self.simulated.start(domain_id, on_done))

    async def suspend(self, domain_id: DomainId) -> None:
        """Suspend a domain."""
        await _completion(lambda on_done: self.simulated.suspend(domain_id, on_done))

    async def resume(self, domain_id: DomainId) -> None:
        """Resume a domain."""
        await _completion(lambda on_done: self.simulated.resume(domain_id, on_done))

    async def destroy(self, domain_id: DomainId, *, keep_disk: bool = False) -> None:
        """End a domain."""
        await _completion(lambda on_done: self.simulated.destroy(domain_id, on_done, keep_disk=keep_disk))

    async def set_cpu_weight(self, domain_id: DomainId, weight: float) -> None:
        """Slow a domain down."""
        await _completion(lambda on_done: self.simulated.set_cpu_weight(domain_id, weight, on_done))

    async def observe(self) -> Mapping[DomainId, DomainObservation]:
        """Look at all domains."""
        return self.simulated.observe()


async def _completion(request: Callable[[OnDone], None]) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(error: HypervisorError | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    request(finish)
    await done


def _memory_bytes(domain: _SimulatedDomain) -> int:
    is_up = domain.state in (DomainState.RUNNING, DomainState.SUSPENDED)
    return domain.spec.memory_mib * 1024 * 1024 if is_up else 0


def _unknown(domain_id: DomainId) -> UnknownDomain:
    return UnknownDomain(f"Domain {domain_id} is not defined here.")
