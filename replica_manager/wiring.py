"""Puts one server together: storage, agreement, links, domains, listeners, control; and takes it apart again."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agreement.errors import StorageError
from agreement.identifiers import Identity, MemberId
from agreement.node import Node
from agreement.records import PREFIX, PREFIX_END
from exec_wrapper.wire import FromWrapper, WrapperHello
from images.errors import ImageError
from replica_manager.audit.audit_file import AuditFile
from replica_manager.audit.audit_log import SYNC_INTERVAL_S, AuditLog
from replica_manager.cell_checkpoints import delete_all_checkpoints
from replica_manager.cell_paths import CellPaths
from replica_manager.clean_stop import leave_mark, take_mark
from replica_manager.clock import OffsetClock, SystemClock
from replica_manager.config import Config
from replica_manager.config_addresses import Address, parse_address
from replica_manager.control.admin_http import AdminServer
from replica_manager.control.alarm_hook import AlarmHook
from replica_manager.control.control_socket import ControlSocket
from replica_manager.control.event_file import EventFile
from replica_manager.control.event_log import EventLog
from replica_manager.control.fault_commands import FaultCommands
from replica_manager.control.leftovers import mark_served
from replica_manager.control.member_process import PUBLISH_VARIABLE
from replica_manager.control.state_watch import StateWatch
from replica_manager.domain_specs import DomainSpecs
from replica_manager.errors import CellHasServed
from replica_manager.execution.local_domains import DomainLink, LocalDomains
from replica_manager.execution.wrapper_link import LinkSettings, UnixWrapperLink
from replica_manager.execution.wrapper_session import WrapperLimits
from replica_manager.faults.fencing import Fencing
from replica_manager.fence_runner import FenceRunner, fence_of
from replica_manager.file_limit import admit_connections
from replica_manager.hypervisor.hypervisor import DomainSpec, HypervisorError
from replica_manager.hypervisor.selection import open_hypervisor
from replica_manager.identifiers import DomainId
from replica_manager.intake.framed_listener import FramedListener
from replica_manager.intake.http_listener import HttpListener
from replica_manager.intake.http_payloads import HttpPayloads
from replica_manager.intake.port import IntakePort
from replica_manager.loop_failures import end_on_failure, raise_failure
from replica_manager.manager_core import ManagerCore
from replica_manager.member_addresses import framed_address, peer_credentials, private_addresses, public_address
from replica_manager.memory import recall
from replica_manager.operator_orders import OperatorOrders
from replica_manager.ordering.agreement_driver import AgreementDriver
from replica_manager.ordering.member_driver import DriverHandler
from replica_manager.ordering.peer_channel import ChannelHandler, PeerChannel
from replica_manager.ordering.peer_tls import PeerTls
from replica_manager.ordering.peer_transport import TlsPeerTransport
from replica_manager.ordering.stable_log import SqliteStableStorage
from replica_manager.part_spool import DirectorySpool
from replica_manager.peer_messages import PeerMessage
from replica_manager.recording.recorder import Recorder, recording_path
from replica_manager.recording.recording_format import RecordingHead
from replica_manager.replica_server import ReplicaServer, monotonic_ms
from replica_manager.server_handlers import ServerHandlers
from replica_manager.server_settings import (
    agreement_settings,
    core_settings,
    first_members,
    lower_timestamp,
    request_bytes_max,
)
from replica_manager.standing import Standing
from replica_manager.state_export import StateSource
from replica_manager.state_files.fitting import ImportedState, require_fit
from replica_manager.state_files.state_disk import OpenStateFile
from replica_manager.state_import import StateImport

OBSERVE_INTERVAL_S = 1.0
SWEEP_INTERVAL_S = 5.0
STATE_INTERVAL_S = 0.5
FENCE_TICK_S = 0.1
BACKLOG = 1024


async def run_server(
    config: Config,
    server_id: int,
    *,
    is_born: bool,
    vouched: Collection[int] = (),
    is_loss_accepted: bool = False,
    imported: ImportedState | None = None,
) -> int:
    """Run server `server_id` until it is told to stop; return the exit code of the process.

    A server that starts again first comes back with its memory.  If the cell has gone on without it, it gives that up,
    here or at any later time, and joins as somebody new.

    Args:
        config: complete configuration, checked.
        server_id: a server of it.
        is_born: whether the cell starts for the first time.
        vouched: servers for which the operator vouches that they have stopped for ever; without witnesses only.
        is_loss_accepted: take the log for complete although it was not synced before an unclean end.
        imported: with what the domains of a cell that starts for the first time are filled; None: with nothing.

    Raises:
        StorageError, TransportError, HypervisorError, ImageError: what it needs cannot be had.
        StateFileError, OSError: the state cannot be imported.
    """
    standing = Standing.SERVING if is_born else Standing.RETURNING
    clock = OffsetClock(SystemClock())
    former_incarnation = 0
    while True:
        async with contextlib.AsyncExitStack() as stack:
            assembly = ServerAssembly(config, server_id, stack, standing, clock)
            assembly.vouched, assembly.is_loss_accepted = frozenset(vouched), is_loss_accepted
            assembly.former_incarnation = former_incarnation
            assembly.imported = imported
            try:
                await assembly.build()
            except asyncio.CancelledError:
                if not assembly.is_over:
                    raise
            code = await assembly.serve()
        if not assembly.has_to_rejoin:
            if code == 0:
                await asyncio.to_thread(leave_mark, CellPaths.of(config).state("server", server_id))
            return code
        standing, former_incarnation = Standing.LEARNING, assembly.former_incarnation


class ServerAssembly:
    """The parts of one server; each is closed in the reverse order of its making."""

    def __init__(
        self,
        config: Config,
        server_id: int,
        stack: contextlib.AsyncExitStack,
        standing: Standing,
        clock: OffsetClock,
    ) -> None:
        """Prepare; `build` does the work.

        Args:
            config: complete configuration.
            server_id: a server of it.
            stack: closes the parts.
            clock: the wall clock, which an order may set wrong.
            standing: `SERVING` in a new cell, `RETURNING` with a memory (or the loss of it), `LEARNING` without.
        """
        self._standing = standing
        self._clock = clock
        self._config = config
        self._id = server_id
        self._stack = stack
        self._paths = CellPaths.of(config)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._building: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._halting: list[Callable[[], None]] = []
        self.vouched: frozenset[int] = frozenset()
        self.is_loss_accepted = False
        self.imported: ImportedState | None = None
        """With what the first domains of a new cell are filled."""
        self._import: StateImport | None = None
        self.former_incarnation = 0
        """Of this server, the newest that is known: a clock that was set back gives a lower one, which nobody takes."""
        self._is_leaving = False
        """Whether the operator wants this server to leave the cell, and its process to end then."""
        self.has_failed = False
        """Whether something went wrong that ends the process."""
        self.has_to_rejoin = False
        """Whether the cell went on without this server, which is to come back as somebody new."""

    @property
    def is_over(self) -> bool:
        """Whether this assembly has nothing more to do: it was told to stop, has failed, or has to rejoin."""
        return self._ended.done()

    # -- building ----------------------------------------------------------------------------------------------

    async def build(self) -> None:
        """Make everything up to and including the boot of the domains.

        Raises:
            CancelledError: see `is_over`.
        """
        # From here on no signal raises KeyboardInterrupt: uvloop would take one that is raised in a protocol's
        # `get_buffer` for an error of that protocol, "unhandled error (or an empty buffer) in get_buffer()".
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, f"signal {number.name}")
        self._make_directories()
        self.events = EventLog(self._id, self._clock.wall_us, EventFile(self._paths.event_file(self._id)))
        self._stack.callback(self.events.close)
        if self._config.alarm.command:
            hook = AlarmHook(self._config.alarm, self._config.cell.name, self.events)
            self._stack.push_async_callback(hook.close)
        self.events.record("manager_started", pid=os.getpid(), standing=self._standing.value)
        self._open_storage()
        self._open_audit()
        settings = core_settings(self._config, self._id)
        core = ManagerCore(settings, monotonic_ms(), self._standing, self._memory.cell, self._clock.wall_us())
        self.server = ReplicaServer(
            core,
            self.events,
            self._fail,
            self._rejoin,
            partial(mark_served, self._paths.state_dir),
            self._on_standing,
            self._clock,
            self._config.limits.log_entries_max,
        )
        self.server.audit = self._audit
        self._audit.open(self._standing.value, core.cell, is_loss=self._has_loss)
        self._spawn(_every(SYNC_INTERVAL_S, self._audit.tend))
        self._halting.append(self.server.halt)
        # Who rejoins lives on in this process, as another server: this one must not go on beside it.
        self._stack.callback(self.server.halt)
        end_on_failure(self._loop, self._record, self._halt)
        self._maybe_record()
        self._make_agreement()
        await self._open_import()
        self._make_domains()
        spool = DirectorySpool(self._paths.state("server", self._id))
        self._stack.callback(spool.close)
        part_bytes_max = self._config.limits.state_part_bytes_max
        source = StateSource(self._config.cell.name, part_bytes_max, self.domains.service, self._clock.wall_us)
        self.server.attach(self.driver, self._channel, self.domains, spool, self._boot_later, source)
        # These are never cancelled, and so never left half open: a server whose log says that it has left rejoins while
        # it still opens its ports, and would find them taken by itself.
        await self._open_control()
        await self._open_domains()
        # Not before: a learner boots a fresh domain at once, and its disk would be deleted with the old ones.
        self.server.begin()
        await self._channel.transport.open()
        self._stack.push_async_callback(self._channel.transport.close)
        if self._standing is Standing.SERVING and not self._ended.done():
            self._building = asyncio.current_task()
            await self._boot_domains()
            await self._open_intake()
            self._building = None

    def _make_directories(self) -> None:
        runtime, state = self._paths.runtime("server", self._id), self._paths.state("server", self._id)
        own = next(server for server in self._config.server if server.id == self._id)
        for directory in (runtime, state, self._paths.state_dir / "log", *map(Path, own.storage)):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _open_storage(self) -> None:
        directory, durability = self._paths.state("server", self._id), self._config.cell.durability
        is_whole = take_mark(directory) or durability == "sync"
        is_complete = is_whole or self.is_loss_accepted
        self._has_loss = self.is_loss_accepted and not is_whole
        try:
            self.storage = SqliteStableStorage(directory / "agreement.db", durability)
        except StorageError as error:
            self.events.record("storage_failed", reason=str(error))
            raise
        self._stack.callback(self.storage.close)
        is_empty = next(iter(self.storage.scan(PREFIX, PREFIX_END)), None) is None
        if self._standing is Standing.SERVING and not is_empty:
            raise CellHasServed(self._paths.state_dir)
        self._memory = recall(self.storage, self._standing, is_complete=is_complete)
        self._standing = self._memory.standing
        if self._memory.objection:
            self.events.record("memory_lost", reason=self._memory.objection)

    def _open_audit(self) -> None:
        """Before the server is made, so that it is closed after it: nothing is recorded behind the last record."""
        self._audit = AuditLog(
            self._id,
            self._clock.wall_us,
            AuditFile(self._paths.audit_log(self._id), self._paths.audit_head(self._id)),
            self._record,
            is_synced=self._config.cell.durability != "none",
        )
        self._stack.callback(self._audit.close)

    def _maybe_record(self) -> None:
        if not self._config.service.record:
            return
        limits = self._config.limits
        recorder = Recorder(
            recording_path(Path(self._config.service.record), self._id),
            RecordingHead(self._id, limits.state_part_bytes_max, limits.frame_bytes_max),
            limits.record_bytes_max,
            lambda kind, data: self.events.record(kind, **data),
        )
        self._stack.callback(recorder.close)
        self.server.recorder = recorder
        self.server.core.voter.on_prefix = recorder.record

    def _make_agreement(self) -> None:
        own = MemberId.server(self._id)
        node = self._make_node(own)
        self.server.core.membership.incarnation = node.identity.incarnation
        tls = PeerTls(peer_credentials(self._paths.keys, self._config.cell.name, own))
        addresses = private_addresses(self._config)
        self._channel: PeerChannel[PeerMessage] = PeerChannel(
            PeerMessage,
            ChannelHandler(
                on_messages=self.server.on_peer_messages,
                on_up=self.server.on_peer_up,
                on_down=self.server.on_peer_down,
                on_event=self.server.on_peer_event,
            ),
            lambda handler: TlsPeerTransport(addresses, own, tls, handler, generator=random.Random()),
        )
        self.driver = AgreementDriver(
            node,
            self.storage,
            post=self._channel.post,
            flush=self._channel.flush,
            handler=DriverHandler(
                on_deliveries=self.server.on_deliveries,
                on_events=self.server.on_agreement_events,
                on_failure=self._on_storage_failure,
            ),
        )
        if self._standing is Standing.LEARNING:
            self.driver.write_application((delete_all_checkpoints(),), lambda: None)
        self._stack.callback(self.driver.close)
        self._halting.append(self.driver.close)

    def _on_storage_failure(self, error: Exception) -> None:
        self.events.record("storage_failed", reason=str(error))
        self._fail(f"the agreement log cannot be written: {error}")

    def _make_fencing(self) -> None:
        """Without witnesses a silent server blocks the cell until it has surely stopped."""
        if self._config.cell.witnesses:
            return
        timeouts = self._config.timeouts
        fencing = self.server.fencing = Fencing(self._id, timeouts.fence_delay_ms, 3 * timeouts.crash_ms)
        runner = FenceRunner(fencing, fence_of(self._config), self.server.declare_fenced, self.events.record)
        self._stack.push_async_callback(runner.close)

        def tick() -> None:
            core = self.server.core
            runner.on_tick(monotonic_ms, core.cell.live_servers, may_fence=core.standing is Standing.SERVING)

        self._spawn(_every(FENCE_TICK_S, tick))

    def _make_node(self, own: MemberId) -> Node:
        settings, members = agreement_settings(self._config), first_members(self._config)
        skew_us = self._config.cell.max_clock_skew_ms * 1000

        def admit(payload: bytes) -> bytes:
            return lower_timestamp(payload, self._clock.wall_us(), skew_us)

        if self._standing is Standing.SERVING:
            return Node.born(Identity(own, 1), settings, members, random.Random(), monotonic_ms(), admit)
        known, content = self._memory.identity, self._memory.content
        if known is not None:
            return Node.recovered(
                known, settings, members, content, random.Random(), monotonic_ms(), admit, self.vouched
            )
        incarnation = max(self._clock.wall_us(), self.former_incarnation + 1)
        return Node.amnesiac(Identity(own, incarnation), settings, members, random.Random(), monotonic_ms(), admit)

    async def _open_import(self) -> None:
        """Read the whole state that is to be imported, in a thread: it may be large."""
        if self.imported is None or self._standing is not Standing.SERVING:
            return
        file = OpenStateFile(self.imported.path)
        self._stack.callback(file.close)
        state = await asyncio.to_thread(file.verify)
        require_fit(state, file.name, self._config, self._clock.wall_us(), self.imported.digest)
        first, patience_s = list(self.server.core.feeds), self._config.timeouts.state_ms / 1000
        self._import = StateImport(state, file.name, first, self._connect, patience_s, self._record)
        self.server.importing = self._import.report

    def _make_domains(self) -> None:
        limits = self._config.limits
        self._link_settings = LinkSettings(
            WrapperLimits(limits.frame_bytes_max, limits.state_part_bytes_max),
            write_buffer_bytes_max=4 * limits.frame_bytes_max,
            open_timeout_ms=self._config.timeouts.boot_ms,
        )
        weight = self._config.hypervisor.cpu_weight_background
        self._specs = DomainSpecs(self._config, self._id)
        hypervisor = open_hypervisor(self._config, self._id)
        connect = self._connect if self._import is None else self._import.connect
        self.domains = LocalDomains(hypervisor, connect, self.server, weight)

    async def _connect(
        self,
        spec: DomainSpec,
        on_frames: Callable[[Sequence[FromWrapper]], None],
        on_closed: Callable[[str], None],
    ) -> tuple[DomainLink, WrapperHello]:
        link = UnixWrapperLink(spec.channel_path, self._link_settings, on_frames, lambda end: on_closed(str(end)))
        hello = await link.open(os.urandom(16))
        return link, hello

    async def _open_domains(self) -> None:
        await self.domains.open(keep_disks=self._standing is Standing.RETURNING)
        self._stack.push_async_callback(self.domains.close)
        if self._standing is Standing.LEARNING:
            await asyncio.to_thread(self._specs.delete_disks)

    async def _boot_domains(self) -> None:
        for index, domain in enumerate(list(self.server.core.feeds)):
            # One after the other: with several servers on one machine, more at a time only slow each other down.
            # In a thread: comparing the image's digests takes seconds, in which peers would miss our heartbeats.
            await self.domains.start(await asyncio.to_thread(self._specs.make, domain, index))

    async def _boot_later(self, domain: DomainId, is_fresh: bool) -> str | None:
        """Boot a domain from a clean image, or from its own disk; return why that is impossible, or None."""
        try:
            index = self._emptiest_storage() if is_fresh else self._specs.disk_of(domain)
            if index is None:
                return "its disk is not there"
            make = partial(self._specs.make, domain, index, reuse_disk=not is_fresh)
            spec = await asyncio.to_thread(make)
            if domain not in self.server.core.feeds:
                return "it is not wanted any more"
            await self.domains.start(spec, is_filled=not is_fresh)
        except (HypervisorError, ImageError, OSError) as error:
            return str(error)
        return None

    def _emptiest_storage(self) -> int:
        """Return the storage directory with the fewest disks: active and passive domain use different ones."""
        used = Counter(self.domains.storage_of())
        counts = [used[Path(directory)] for directory in self._specs.storage]
        return counts.index(min(counts))

    # -- listening ---------------------------------------------------------------------------------------------

    async def _open_control(self) -> None:
        handlers = ServerHandlers(self._config, self.server, self.storage, self._channel.transport, self._stop)
        faults = FaultCommands(self._config, self._clock, self.domains, self._specs, self.events)
        control = ControlSocket(
            self._paths.control_socket(self._id),
            handlers.by_name() | OperatorOrders(self.server, self._leave).by_name() | {"inject": faults.inject},
            self._record,
        )
        await control.open()
        self._stack.push_async_callback(control.close)
        address = next(server for server in self._config.server if server.id == self._id).admin_address
        if address:
            admin = AdminServer(parse_address(address), handlers.status, on_event=self._record)
            await admin.open()
            self._stack.push_async_callback(admin.close)

    async def _open_intake(self) -> None:
        """Listen for clients; a cell that serves HTTP listens for those of the framed protocol beside it."""
        public, framed = public_address(self._config, self._id), framed_address(self._config, self._id)
        if self._config.service.listen == "framed":
            await self._open_listener(FramedListener, self.server, public, self._admit_connections(1))
            return
        connections_max = self._admit_connections(1 if framed is None else 2)
        if framed is not None:
            payloads = HttpPayloads(self.server, request_bytes_max(self._config))
            await self._open_listener(FramedListener, payloads, framed, connections_max)
        await self._open_listener(HttpListener, self.server, public, connections_max)

    def _admit_connections(self, listener_count: int) -> int:
        """Return how many connections each of the listeners may have."""
        wanted = self._config.limits.connections_max
        admitted = admit_connections(wanted * listener_count) // listener_count
        if admitted < wanted:
            detail = f"{admitted} of {wanted}: the system allows no more open files"
            self.events.record("limit_reached", limit="connections_max", detail=detail)
        return admitted

    async def _open_listener(
        self, kind: type[HttpListener] | type[FramedListener], port: IntakePort, address: Address, connections_max: int
    ) -> None:
        listener = kind(port, request_bytes_max(self._config), connections_max, self._rejected, _now_ms)
        self._stack.callback(listener.close)
        self._spawn(_every(SWEEP_INTERVAL_S, listener.sweep))
        is_public = address == public_address(self._config, self._id)
        for sock in [_listen(address), *(self._published_sockets() if is_public else ())]:
            server = await self._loop.create_server(listener.connection, sock=sock, backlog=BACKLOG)
            self._stack.callback(server.close)
        self.events.record("intake_open", address=f"{address.host}:{address.port}")

    def _published_sockets(self) -> list[socket.socket]:
        inherited = os.environ.get(PUBLISH_VARIABLE)
        # A copy: the inherited one stays open for a later life of this server in the same process.
        return [socket.socket(fileno=os.dup(int(inherited)))] if inherited else []

    def _record(self, kind: str, data: Mapping[str, Any]) -> None:
        self.events.record(kind, **data)

    def _rejected(self, reason: str) -> None:
        self.events.record("client_rejected", reason=reason)

    # -- serving -----------------------------------------------------------------------------------------------

    async def serve(self) -> int:
        """Serve until told to stop; return the exit code."""
        if not self.is_over:
            self._spawn(_every(OBSERVE_INTERVAL_S, self._observe))
            self._spawn(_every(STATE_INTERVAL_S, partial(StateWatch(self.events.record).note, self.server)))
            self._make_fencing()
        reason = await self._ended
        for task in self._tasks:
            task.cancel()
        self.events.record("manager_stopping", reason=reason)
        return 1 if self.has_failed else 0

    async def _observe(self) -> None:
        try:
            await self.domains.observe()
        except (HypervisorError, OSError) as error:
            self.events.record("hypervisor_failed", reason=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(raise_failure)

    def _stop(self, reason: str) -> None:
        """The operator's word is the last one, also for a server that was about to rejoin."""
        self.has_to_rejoin = False
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self.is_over:
            return
        self._ended.set_result(reason)
        if self._building is not None:
            # What is built may wait for a domain for minutes.
            self._building.cancel()

    def _fail(self, reason: str) -> None:
        self.has_failed = True
        self._end(reason)

    def _rejoin(self, reason: str, former_incarnation: int) -> None:
        if self._is_leaving:
            self._end("the operator had this server leave the cell")
        elif not self.is_over:
            self.has_to_rejoin = True
            self.former_incarnation = max(self.former_incarnation, former_incarnation)
            self.events.record("rejoining", reason=reason)
            self._end(reason)

    def _leave(self) -> None:
        self._is_leaving = True
        self.events.record("leaving", reason="the operator wishes it")
        self.server.leave_cell()

    def _on_standing(self, standing: Standing) -> None:
        if standing is Standing.SERVING:
            self._spawn(self._open_intake())

    def _halt(self, reason: str) -> None:
        """A broken invariant: nothing that was computed since may leave the process."""
        for halt in self._halting:
            halt()
        self._fail(reason)


async def _every(interval_s: float, action: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        result = action()
        if asyncio.iscoroutine(result):
            await result


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(address, family=family, backlog=BACKLOG)


def _now_ms() -> float:
    return time.monotonic() * 1000
