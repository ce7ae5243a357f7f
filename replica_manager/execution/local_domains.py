"""The shell around the domains of one server: boots them, carries frames, gives and takes their CPU time.

Decides nothing: the core says what to do, this module does it and tells what happened.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from exec_wrapper.wire import FromWrapper, ToWrapper, WrapperHello
from replica_manager.execution.errors import LinkError
from replica_manager.execution.feed import PowerAction
from replica_manager.hypervisor.hypervisor import (
    DomainEvent,
    DomainObservation,
    DomainSpec,
    DomainState,
    Hypervisor,
    HypervisorError,
    UnknownDomain,
)
from replica_manager.identifiers import DomainId
from replica_manager.loop_failures import raise_failure

HYPERVISOR_TIMEOUT_S = 60.0
"""A hypervisor that is silent for so long has lost the domain, as far as this server can know."""
DESTROY_AGAIN_S = 5.0


class DomainHandler(Protocol):
    """Who hears of the domains; called in the event loop."""

    def on_domain_linked(self, domain: DomainId, hello: WrapperHello) -> None:
        """The wrapper said Hello."""
        ...

    def on_domain_frames(self, domain: DomainId, frames: Sequence[FromWrapper]) -> None:
        """The wrapper sent frames."""
        ...

    def on_domain_gone(self, domain: DomainId, reason: str) -> None:
        """The domain stopped, or its link ended."""
        ...

    def on_power_done(self, domain: DomainId, action: PowerAction) -> None:
        """What was asked of the hypervisor is done."""
        ...

    def on_domain_event(self, kind: str, domain: DomainId, **data: Any) -> None:
        """Something an operator may ask about."""
        ...


class DomainLink(Protocol):
    """What this module needs of a connected wrapper link."""

    def send(self, message: ToWrapper) -> None:
        """Send one frame; frames of one turn of the loop go out together."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


ConnectLink = Callable[
    [DomainSpec, Callable[[Sequence[FromWrapper]], None], Callable[[str], None]],
    Coroutine[Any, Any, tuple[DomainLink, WrapperHello]],
]
"""Connects a domain's channel and exchanges Hello: `(spec, on_frames, on_closed) -> (link, hello)`."""


@dataclass(slots=True)
class _Domain:
    spec: DomainSpec
    link: DomainLink | None = None
    service: str = ""
    """As its wrapper calls it."""
    is_gone: bool = False
    is_ending: bool = False
    """Whether its destruction was asked for."""
    suspended_since_s: float | None = None
    suspended_s: float = 0.0
    power_chain: asyncio.Task[None] | None = None
    """The newest hypervisor call of this domain; the next one waits for it."""


class LocalDomains:
    """The domains that one server hosts."""

    def __init__(
        self, hypervisor: Hypervisor, connect: ConnectLink, handler: DomainHandler, background_weight: float
    ) -> None:
        """Drive `hypervisor`; `start` boots domains, with `background_weight` of a CPU share until they serve."""
        self._background_weight = background_weight
        self._hypervisor = hypervisor
        self._connect = connect
        self._handler = handler
        self._domains: dict[DomainId, _Domain] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.observed: Mapping[DomainId, DomainObservation] = {}
        """The newest answer of the hypervisor."""
        self._is_closing = False

    # -- life --------------------------------------------------------------------------------------------------

    async def open(self, *, keep_disks: bool) -> None:
        """Connect to the hypervisor and destroy domains that a former process left; their disks too, or not."""
        await self._hypervisor.open(self._on_event)
        for domain in await self._hypervisor.observe():
            self._handler.on_domain_event("leftover_destroyed", domain)
            await self._hypervisor.destroy(domain, keep_disk=keep_disks)

    async def start(self, spec: DomainSpec, *, is_filled: bool = True) -> None:
        """Create, boot and connect one domain; `on_domain_linked` follows, or `on_domain_gone` if no wrapper answers.

        Args:
            spec: what to boot.
            is_filled: whether it serves at once; else it has its full CPU share from `PowerAction.SERVE` on.

        Raises:
            HypervisorError: the hypervisor refuses.
        """
        domain = spec.domain_id
        self._domains[domain] = record = _Domain(spec)
        started_s = time.monotonic()
        await self._hypervisor.define(spec)
        # A domain that does not serve yet must not take the CPU from those that do.
        await self._hypervisor.set_cpu_weight(domain, self._background_weight)
        await self._hypervisor.start(domain)
        try:
            record.link, hello = await self._connect(
                spec,
                lambda frames: self._handler.on_domain_frames(domain, frames),
                lambda reason: self._on_closed(domain, reason),
            )
        except LinkError as error:
            # One bad domain must not keep the others from serving.
            self._gone(domain, str(error))
            return
        record.service = hello.service
        if is_filled:
            await self._hypervisor.set_cpu_weight(domain, 1.0)
        self._handler.on_domain_event("domain_booted", domain, boot_ms=round(1000 * (time.monotonic() - started_s)))
        self._handler.on_domain_linked(domain, hello)

    async def close(self) -> None:
        """End every domain and disconnect; disks stay, for a cell may start again from them."""
        self._is_closing = True
        for record in self._domains.values():
            if record.link is not None:
                record.link.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for domain in await self._hypervisor.observe():
            await self._hypervisor.destroy(domain, keep_disk=True)
        await self._hypervisor.close()

    # -- what the core asks ------------------------------------------------------------------------------------

    def send(self, domain: DomainId, message: ToWrapper) -> None:
        """Send a frame; silently nothing if the domain is gone (its end is reported separately)."""
        record = self._domains.get(domain)
        if record is not None and record.link is not None:
            record.link.send(message)

    def power(self, domain: DomainId, action: PowerAction) -> None:
        """Suspend, resume or destroy; `on_power_done` follows.  Calls for one domain happen in order."""
        record = self._domains.get(domain)
        if record is None and action is PowerAction.DESTROY:
            self._handler.on_power_done(domain, action)  # it never came to be
        if record is None or record.is_ending:
            return  # who is retired twice, stopped and then convicted, is destroyed once
        if action is PowerAction.DESTROY:
            record.is_gone = record.is_ending = True
        record.power_chain = self._spawn(self._do_power(record, action, record.power_chain))

    async def _do_power(self, record: _Domain, action: PowerAction, before: "asyncio.Task[None] | None") -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        domain = record.spec.domain_id
        try:
            async with asyncio.timeout(HYPERVISOR_TIMEOUT_S):
                await self._ask(record, action)
        except (HypervisorError, TimeoutError) as error:
            reason = str(error) or f"no answer in {HYPERVISOR_TIMEOUT_S:g} s"
            if action is PowerAction.DESTROY:
                self._spawn(self._destroy_later(record, reason))
            else:
                self._gone(domain, f"the hypervisor failed to {action.value} it: {reason}")
            return
        self._handler.on_power_done(domain, action)

    async def _destroy_later(self, record: _Domain, reason: str) -> None:
        """A domain that was given up must not run on, however long the hypervisor refuses."""
        self._handler.on_domain_event("destroy_failed", record.spec.domain_id, reason=reason)
        await asyncio.sleep(DESTROY_AGAIN_S)
        await self._do_power(record, PowerAction.DESTROY, None)

    async def _ask(self, record: _Domain, action: PowerAction) -> None:
        domain = record.spec.domain_id
        match action:
            case PowerAction.SUSPEND:
                await self._hypervisor.suspend(domain)
            case PowerAction.RESUME:
                await self._hypervisor.resume(domain)
            case PowerAction.SERVE:
                await self._hypervisor.set_cpu_weight(domain, 1.0)
            case PowerAction.DESTROY:
                if record.link is not None:
                    record.link.close()
                    record.link = None
                await self._hypervisor.destroy(domain)
                self._domains.pop(domain, None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else, until `close`."""
        self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(raise_failure)
        return task

    async def strike(self, domain: DomainId, how: Literal["destroy", "suspend"]) -> None:
        """Have the hypervisor do something that nobody here asked for, to see what comes of it.

        Raises:
            HypervisorError: there is no such domain, or the hypervisor refuses.
        """
        if domain not in self._domains:
            raise UnknownDomain(f"{domain} is not a domain of this server")
        if how == "destroy":
            await self._hypervisor.destroy(domain, keep_disk=True)
        else:
            await self._hypervisor.suspend(domain)

    # -- what happens to domains -------------------------------------------------------------------------------

    def _on_closed(self, domain: DomainId, reason: str) -> None:
        self._gone(domain, f"its channel ended: {reason}")

    def _on_event(self, event: DomainEvent) -> None:
        record = self._domains.get(event.domain_id)
        if record is None:
            return
        if event.state is DomainState.SUSPENDED:
            record.suspended_since_s = event.monotonic_s
        elif record.suspended_since_s is not None:
            record.suspended_s += event.monotonic_s - record.suspended_since_s
            record.suspended_since_s = None
        if event.state is DomainState.STOPPED:
            self._gone(event.domain_id, f"the hypervisor reports it stopped: {event.reason}")

    def _gone(self, domain: DomainId, reason: str) -> None:
        record = self._domains.get(domain)
        if record is None or record.is_gone or self._is_closing:
            return
        record.is_gone = True
        if record.link is not None:
            record.link.close()
            record.link = None
        self._handler.on_domain_gone(domain, reason)

    # -- looking -----------------------------------------------------------------------------------------------

    async def observe(self) -> Mapping[DomainId, DomainObservation]:
        """Ask the hypervisor and remember the answer."""
        self.observed = await self._hypervisor.observe()
        return self.observed

    def storage_of(self) -> list[Path]:
        """Return the directories in which present domains have their disks."""
        return [record.spec.disk_path.parent for record in self._domains.values()]

    def service(self) -> str:
        """Return what the domains here call their service; empty if they do not agree, for one of them may lie."""
        names = {record.service for record in self._domains.values() if record.link is not None}
        return names.pop() if len(names) == 1 else ""

    def suspended_s(self, domain: DomainId) -> float:
        """Return how long the hypervisor has reported the domain suspended, in seconds, until now."""
        record = self._domains.get(domain)
        if record is None:
            return 0.0
        running = 0.0 if record.suspended_since_s is None else time.monotonic() - record.suspended_since_s
        return record.suspended_s + running
