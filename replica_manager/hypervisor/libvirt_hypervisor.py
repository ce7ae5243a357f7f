"""The hypervisor protocol over libvirt: domains as virtual machines.

libvirt calls run in threads of the session; all state lives in the event loop.  Domains are transient in libvirt: one
that has ended leaves nothing behind there, also after a crash of this process.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, ParamSpec

from replica_manager.hypervisor.console import cut_console
from replica_manager.hypervisor.disk_overlay import create_overlay
from replica_manager.hypervisor.domain_process import ProcessUsage, find_process, niceness_of, set_niceness
from replica_manager.hypervisor.domain_xml import (
    DomainType,
    MachineSettings,
    channel_paths,
    check_spec,
    disk_paths,
    domain_xml,
)
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
from replica_manager.hypervisor.libvirt_driver import Machine
from replica_manager.hypervisor.libvirt_session import LibvirtOptions, LibvirtSession
from replica_manager.hypervisor.machine_record import (
    MachineLife,
    MachineRecord,
    delete_files,
    look_at_process,
)
from replica_manager.hypervisor.process_watch import ProcessEnd, ProcessWatch
from replica_manager.identifiers import DomainId, server_of

Arguments = ParamSpec("Arguments")

END_EVENT_TIMEOUT_S: Final = 1.0
"""How long `destroy` waits until the end was noticed, so that events keep their order."""


class LibvirtHypervisor:
    """Domains as virtual machines.  Implements `Hypervisor`."""

    def __init__(self, options: LibvirtOptions, choose_type: Callable[[Path], Awaitable[DomainType]]) -> None:
        """Prepare; nothing is touched before `open`.

        Args:
            options: How to reach libvirt.
            choose_type: Tells how a guest with this kernel is to be accelerated.
        """
        self._options = options
        self._choose_type = choose_type
        self._session = LibvirtSession(options)
        self._connection = self._session.connection
        self._watch = ProcessWatch()
        self._records: dict[DomainId, MachineRecord] = {}
        self._on_event: Callable[[DomainEvent], None] | None = None
        self._in_progress: set[asyncio.Task[None]] = set()

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """See `Hypervisor.open`."""
        self._on_event = on_event
        await self._session.open(self._on_lifecycle)
        await self._take_in(await self._session.in_thread(self._connection.machines))

    async def close(self) -> None:
        """See `Hypervisor.close`."""
        self._on_event = None
        self._watch.close()
        await self._session.close()

    async def define(self, spec: DomainSpec) -> None:
        """See `Hypervisor.define`."""
        record = self._records.get(spec.domain_id)
        if record is None:
            check_spec(spec)
            # The console stays when the domain goes: it says why.
            files, sockets = [spec.disk_path], [spec.channel_path]
            record = MachineRecord(spec.domain_id, self._name(spec.domain_id), spec, files, sockets)
            self._records[spec.domain_id] = record
        elif record.spec not in (None, spec):
            raise DomainRefused(f"Domain {spec.domain_id} is already defined with another specification.")
        record.spec = spec
        await self._in_turn(record, self._make_files, record, spec)

    async def start(self, domain_id: DomainId) -> None:
        """See `Hypervisor.start`."""
        record = self._known(domain_id)
        await self._in_turn(record, self._start, record)

    async def suspend(self, domain_id: DomainId) -> None:
        """See `Hypervisor.suspend`."""
        record = self._known(domain_id)
        await self._in_turn(record, self._change, record, self._connection.suspend)

    async def resume(self, domain_id: DomainId) -> None:
        """See `Hypervisor.resume`."""
        record = self._known(domain_id)
        await self._in_turn(record, self._change, record, self._connection.resume)

    async def destroy(self, domain_id: DomainId, *, keep_disk: bool = False) -> None:
        """See `Hypervisor.destroy`."""
        record = self._records.get(domain_id)
        if record is not None:
            await self._in_turn(record, self._destroy, record, keep_disk)

    async def set_cpu_weight(self, domain_id: DomainId, weight: float) -> None:
        """See `Hypervisor.set_cpu_weight`."""
        record = self._known(domain_id)
        niceness_of(weight)  # refuses a weight out of range before it is remembered
        record.weight = weight
        await self._in_turn(record, self._apply_weight, record)

    async def observe(self) -> Mapping[DomainId, DomainObservation]:
        """See `Hypervisor.observe`."""
        await self._session.reconnect_if_lost()
        up_before = [life for life in (record.life for record in self._records.values()) if life and life.is_up]
        machines = await self._session.in_thread(self._connection.machines)
        await self._take_in(machines)
        states = {machine.uuid: machine.state for machine in machines}
        self._end_missing(up_before, states)
        await self._session.in_thread(self._look, list(self._records.values()))
        return {record.domain_id: _observation(record, states) for record in self._records.values()}

    # -- names and turns

    def _name(self, domain_id: DomainId) -> str:
        return self._options.name_prefix + domain_id

    def _domain_id(self, name: str) -> DomainId | None:
        """Return the domain that a libvirt name stands for, or `None` if it is not ours."""
        if not name.startswith(self._options.name_prefix):
            return None
        domain_id = DomainId(name.removeprefix(self._options.name_prefix))
        try:
            server_of(domain_id)
        except ValueError:
            return None
        return domain_id

    def _known(self, domain_id: DomainId) -> MachineRecord:
        record = self._records.get(domain_id)
        if record is None:
            raise UnknownDomain(f"Domain {domain_id} is not defined here.")
        return record

    async def _in_turn(
        self,
        record: MachineRecord,
        work: Callable[Arguments, Coroutine[Any, Any, None]],
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> None:
        """Do `work` after what is already to be done with this domain, to its end, even if the caller gives up."""

        async def when_free() -> None:
            async with record.lock:
                await self._session.reconnect_if_lost()
                await work(*arguments, **keywords)

        task = asyncio.ensure_future(when_free())
        self._in_progress.add(task)
        task.add_done_callback(self._in_progress.discard)
        await asyncio.shield(task)

    # -- operations

    async def _make_files(self, record: MachineRecord, spec: DomainSpec) -> None:
        if record.has_files:
            return
        for path in (spec.disk_path, spec.channel_path, spec.console_path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not spec.reuse_disk:
            spec.console_path.unlink(missing_ok=True)
        try:
            if spec.disk_base is not None:
                await self._session.in_thread(create_overlay, spec.disk_base, spec.disk_path, reuse=spec.reuse_disk)
        except HypervisorError:
            self._records.pop(spec.domain_id, None)
            raise
        record.has_files = True

    async def _start(self, record: MachineRecord) -> None:
        if record.life is not None:
            return
        spec = record.spec
        if spec is None or spec.kernel is None:
            raise DomainRefused(f"Domain {record.domain_id} was left by a former process: define it before its start.")
        domain_type = await self._choose_type(spec.kernel)
        if record.was_started:
            # libvirt may not have buried the former life yet, which we saw end earlier than it.
            await self._session.in_thread(self._connection.destroy, record.name)
        life = MachineLife(str(uuid.uuid4()))
        xml = domain_xml(spec, MachineSettings(record.name, life.uuid, domain_type, self._options.disk_cache))
        record.life = life
        try:
            await self._session.in_thread(self._connection.create, record.name, xml)
        except HypervisorError:
            record.life = None
            raise
        record.was_started = life.is_up = True
        await self._watch_process(record, life)
        if record.weight != 1.0:
            await self._apply_weight(record)

    async def _watch_process(self, record: MachineRecord, life: MachineLife) -> None:
        """Watch the machine's process, if it is on this host: its end is noticed 0.2 s earlier than by libvirt."""
        pid = await self._session.in_thread(find_process, life.uuid)
        if pid is not None and self._watch.watch(pid, lambda end: self._on_process_end(record, life, end)):
            life.pid = pid

    async def _change(self, record: MachineRecord, call: Callable[[str], None]) -> None:
        if record.life is None:
            raise DomainNotRunning(f"Domain {record.domain_id} is {record.resting_state.value}, not running.")
        await self._session.in_thread(call, record.name)

    async def _destroy(self, record: MachineRecord, keep_disk: bool) -> None:
        life = record.life
        if life is not None:
            life.is_ending = True
        await self._session.in_thread(self._connection.destroy, record.name)
        if life is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(life.ended.wait(), END_EVENT_TIMEOUT_S)
            self._end_life(record, life, "destroyed")
        await self._session.in_thread(delete_files, record.sockets + ([] if keep_disk else record.files))
        self._records.pop(record.domain_id, None)

    async def _apply_weight(self, record: MachineRecord) -> None:
        if record.life is None:
            return
        pid = record.life.pid
        shares = await self._session.in_thread(
            self._connection.set_cpu_shares, record.name, record.weight, record.normal_shares
        )
        if shares is not None:
            record.normal_shares = shares
        elif pid is not None:
            await self._session.in_thread(_set_priority, record.domain_id, pid, niceness_of(record.weight))
        else:
            raise HypervisorError(f"Domain {record.domain_id} has neither CPU shares nor a process on this host.")

    # -- what the hypervisor says

    async def _take_in(self, machines: list[Machine]) -> None:
        """Adopt the machines that a former process left."""
        for machine in machines:
            domain_id = self._domain_id(machine.name)
            if domain_id is None or domain_id in self._records or machine.state is DomainState.STOPPED:
                continue
            try:
                xml = await self._session.in_thread(self._connection.describe, machine.name)
            except HypervisorError:
                continue  # it has ended since it was listed
            life = MachineLife(machine.uuid, reported=machine.state, is_up=True)
            record = MachineRecord(domain_id, machine.name, None, disk_paths(xml), channel_paths(xml), life)
            record.was_started = record.has_files = True
            if self._records.setdefault(domain_id, record) is record:
                await self._watch_process(record, life)

    def _end_missing(self, lives: list[MachineLife], states: Mapping[str, DomainState]) -> None:
        """End the lives that the hypervisor does not know any more, such as after its own restart."""
        for record in list(self._records.values()):
            life = record.life
            if life is not None and life in lives and states.get(life.uuid) in (None, DomainState.STOPPED):
                self._end_life(record, life, "ended unnoticed")

    def _look(self, records: list[MachineRecord]) -> None:
        """Look at processes and files; runs in a thread."""
        for record in records:
            life = record.life  # may end meanwhile
            look_at_process(record, life)
            if record.spec is not None:
                cut_console(record.spec.console_path)
            if life is not None and life.pid is None:
                with contextlib.suppress(HypervisorError):
                    usage = self._connection.usage(record.name)
                    record.usage = ProcessUsage(usage.cpu_seconds, usage.memory_bytes, "")

    def _on_lifecycle(self, name: str, life_uuid: str, state: DomainState, reason: str, monotonic_s: float) -> None:
        domain_id = self._domain_id(name)
        record = self._records.get(domain_id) if domain_id is not None else None
        # An event of an earlier life may come late.
        if record is None or record.life is None or record.life.uuid != life_uuid:
            return
        if state is DomainState.STOPPED:
            self._end_life(record, record.life, reason)
        elif record.life.reported is not state:
            record.life.reported = state
            self._report(DomainEvent(record.domain_id, state, reason, monotonic_s))

    def _on_process_end(self, record: MachineRecord, life: MachineLife, end: ProcessEnd) -> None:
        if end.usage is not None and record.life in (life, None):
            record.usage = end.usage
        self._end_life(record, life, end.reason)

    def _end_life(self, record: MachineRecord, life: MachineLife, reason: str) -> None:
        life.ended.set()
        if record.life is not life:
            return
        look_at_process(record, life)  # the process may live on for a moment after its guest
        record.life = None
        words = "destroyed" if life.is_ending else reason
        self._report(DomainEvent(record.domain_id, DomainState.STOPPED, words, time.monotonic()))

    def _report(self, event: DomainEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _observation(record: MachineRecord, states: Mapping[str, DomainState]) -> DomainObservation:
    seen = states.get(record.life.uuid) if record.life is not None else None
    return DomainObservation(record.domain_id, record.state(seen), record.usage.cpu_seconds, record.usage.memory_bytes)


def _set_priority(domain_id: DomainId, pid: int, nice: int) -> None:
    try:
        set_niceness(pid, nice)
    except OSError as error:
        raise HypervisorError(f"The priority of domain {domain_id} cannot be set: {error}.") from error
