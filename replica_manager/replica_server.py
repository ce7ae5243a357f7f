"""The asyncio shell of one replica manager: carries what comes in to the core and does what the core wants done.

The order of work is fixed: propose, tell peers, feed domains, ask the hypervisor, answer clients, record events.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from agreement.changes import ServerJoined, ServerLeft
from agreement.errors import MalformedMessage, ProposalError
from agreement.identifiers import MemberId
from agreement.output import (
    ChangeRefused,
    ConfigurationChanged,
    Delivery,
    Event,
    LeaderChanged,
    LimitReached,
    RejoinNeeded,
    Removed,
    ServerRestarted,
    ServerSuspected,
    SnapshotInstalled,
    SnapshotWanted,
    WitnessUsed,
)
from exec_wrapper.wire import FromWrapper, WrapperHello
from replica_manager.audit.audit_log import AuditLog
from replica_manager.cell.cell_state import CellState, encode_joiners
from replica_manager.cell.effects import RequestResolved, StateCompared, StateRefused
from replica_manager.cell.roles import Role
from replica_manager.clock import Clock, SystemClock
from replica_manager.control.event_log import EventLog
from replica_manager.core_output import CoreOutput
from replica_manager.errors import CheckpointUnderWay
from replica_manager.execution.feed import Power, PowerAction
from replica_manager.execution.local_domains import LocalDomains
from replica_manager.faults.fencing import Fencing
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import ReplySink, Submission
from replica_manager.log_keeping import LogKeeping, LogStep
from replica_manager.manager_core import ManagerCore
from replica_manager.ordering.agreement_driver import AgreementDriver
from replica_manager.ordering.errors import RefusalReason
from replica_manager.ordering.peer_channel import PeerChannel
from replica_manager.ordering.peer_port import PeerEvent
from replica_manager.part_spool import PartSpool
from replica_manager.peer_messages import (
    FetchPart,
    FetchResult,
    ManagerMessage,
    Part,
    PeerMessage,
    Position,
    Presence,
    Relay,
    Result,
    StableNotice,
    StateDigests,
    Votes,
)
from replica_manager.recording.recorder import Recorder
from replica_manager.repair_shell import BootDomain, RepairShell
from replica_manager.standing import Standing
from replica_manager.state_export import StateExport, StateSource

TICK_S = 0.05
RANDOM_BYTES = 16
MANAGER_MESSAGES = (Votes, StableNotice, FetchResult, Result, StateDigests, Position, FetchPart, Part, Presence, Relay)


def monotonic_ms() -> int:
    """Return the monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


class ReplicaServer:
    """One server of a cell at work; an `IntakePort` and a `DomainHandler`.

    `attach` completes it: driver, channel and domains call back into it and are made after it.
    """

    def __init__(
        self,
        core: ManagerCore,
        events: EventLog,
        stop: Callable[[str], None],
        rejoin: Callable[[str, int], None],
        before_first_answer: Callable[[], None] = lambda: None,
        on_standing: Callable[[Standing], None] = lambda _standing: None,
        clock: Clock | None = None,
        log_entries_max: int = 20_000,
    ) -> None:
        """Make the shell around `core`.

        Args:
            core: what decides.
            events: takes named events.
            stop: ends the process with a reason.
            rejoin: has this server come back without its memory, with a reason; as an incarnation above the number.
            on_standing: called when this server has become something else to the cell.
            clock: of the machine, by default.
            before_first_answer: called once, before anything is told to a client that must not be forgotten.
            log_entries_max: entries between two durable checkpoints of the cell state, at which the log is cut.
        """
        self._before_first_answer: Callable[[], None] | None = before_first_answer
        self.core = core
        self.events = events
        self._stop = stop
        self._clock: Clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        self.started_s = time.monotonic()
        self._rejoin = rejoin
        self._flush_handle: asyncio.Handle | None = None
        self._timer_handle: asyncio.TimerHandle | None = None
        self._on_standing = on_standing
        self._resolving: dict[int, asyncio.Future[str]] = {}
        self._checkpoints: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._refresh_started_ms: dict[DomainId, int] = {}
        self._told: dict[int, Position] = {}
        self._log = LogKeeping(log_entries_max)
        self.has_left = False
        self.recorder: Recorder | None = None
        self.audit: AuditLog | None = None
        self.fencing: Fencing | None = None
        """What is done about silent servers; only without witnesses."""
        self.importing: Callable[[], dict[str, Any] | None] = lambda: None
        """How far the import of a state into the first domains is; its owner sets it."""
        self._is_halted = False
        self.last_refresh: dict[str, Any] | None = None
        self.refresh_count = 0
        self.vote_count = 0

    def attach(
        self,
        driver: AgreementDriver,
        channel: PeerChannel[PeerMessage],
        domains: LocalDomains,
        spool: PartSpool,
        boot: BootDomain,
        source: StateSource,
    ) -> None:
        """Complete the shell; its time begins with `begin`."""
        self.driver, self.channel, self.domains = driver, channel, domains
        self.exports = StateExport(self.core, source, self._touch, self._record)
        self._repairs = RepairShell(self.core, spool, boot, self._post, domains.spawn, self._touch, self._record)

    def begin(self) -> None:
        """Let the core's time begin: from now on it may ask for domains."""
        self._tick()

    def halt(self) -> None:
        """Let nothing out any more: what the core computes from here on is not to be believed."""
        self._is_halted = True
        if self._flush_handle is not None:
            self._flush_handle.cancel()

    def _tick(self) -> None:
        if self._is_halted:
            return
        self.core.on_timer(monotonic_ms())
        self._touch()
        for server in self._peers():
            if self._told.get(server) != self.core.position:
                self._tell_position(server)
        durable = self.core.retention.durable
        self._keep_log(self._log.next_step(self.core.cell, self.core.standing, durable))
        self._loop.call_later(TICK_S, self._tick)

    def _arm(self) -> None:
        """Have the core's timer called when something is due that cannot wait for the next tick."""
        due_ms = self.core.next_due_ms()
        if due_ms is not None and self._timer_handle is None:
            self._timer_handle = self._loop.call_later(max(0, due_ms - monotonic_ms()) / 1000, self._on_due)

    def _on_due(self) -> None:
        self._timer_handle = None
        if not self._is_halted:
            self.core.on_timer(monotonic_ms())
            self._touch()

    # -- IntakePort --------------------------------------------------------------------------------------------

    def open_client(self, sink: ReplySink, token: int) -> None:
        """Order a client id."""
        self.core.open_client(sink, token, os.urandom(RANDOM_BYTES))
        self._touch()

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """Order a request."""
        self.core.submit(sink, submission, self._clock.wall_us(), os.urandom(RANDOM_BYTES))
        self._touch()

    def forget(self, sink: ReplySink) -> None:
        """A connection is gone; its sink ignores what still comes."""

    # -- agreement ---------------------------------------------------------------------------------------------

    def on_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Entries of the agreed order."""
        for delivery in deliveries:
            if delivery.sequence > self.core.cell.sequence:  # else the checkpoint covers it
                self.core.deliver(delivery.sequence, delivery.entry)
        self._touch()

    def _keep_log(self, step: LogStep | None) -> None:
        """Write the cell state down every so often, and let the log below it go."""
        if step is None:
            return
        if step.compact_through:
            self.driver.compact(step.compact_through)

        def written() -> None:
            if step.position:
                self._log.on_written(step.position)

        self.driver.write_application((step.write,), written)

    def on_agreement_events(self, events: Sequence[Event]) -> None:
        """What the agreement stage reports."""
        for event in events:
            match event:
                case LeaderChanged(configuration=number, leader=leader):
                    self.events.record("leader_changed", configuration=number, leader=str(leader or "none"))
                    if self.fencing is not None and leader is not None:
                        self.fencing.on_leader()
                case ConfigurationChanged(configuration=configuration):
                    self.events.record("configuration_changed", number=configuration.number)
                case WitnessUsed(silent=silent):
                    self.events.record("witness_used", silent=[str(member) for member in silent])
                case ServerSuspected(server=server, silent_ms=silent_ms):
                    self.events.record("server_suspected", suspect=server, silent_ms=silent_ms)
                    if self.fencing is not None:
                        self.fencing.on_suspected(server, monotonic_ms())
                case ServerRestarted(server=server, incarnation=incarnation):
                    self.events.record("server_restarted", peer=server, incarnation=incarnation)
                case Removed() | RejoinNeeded():
                    self.has_left = True
                    self.events.record("removed", configuration=event.configuration)
                    latest = event.latest_incarnation if isinstance(event, Removed) else 0
                    self._come_back("the cell went on without this server", latest)
                case SnapshotWanted(member=member):
                    cell = self.core.cell
                    self.driver.provide_snapshot(member, cell.sequence, cell.encode())
                case SnapshotInstalled(sequence=sequence, application=application):
                    self._on_snapshot(sequence, application)
                case ChangeRefused(reason=reason):
                    self.events.record("change_refused", reason=reason)
                case LimitReached(limit=limit, detail=detail):
                    self.events.record("limit_reached", limit=limit, detail=detail)
                case _:
                    assert_never(event)

    def _on_snapshot(self, sequence: int, application: bytes) -> None:
        """What lay between is not kept anywhere any more."""
        self.events.record("snapshot_installed", sequence=sequence, bytes=len(application))
        if self.core.standing is not Standing.LEARNING:
            self._come_back("the log has gone on too far: the domains here cannot be fed what is missing")
            return
        self.core.install_snapshot(sequence, CellState.decode(application))
        if self.audit is not None:
            self.audit.skip_to(self.core.cell)
        self._keep_log(self._log.write(self.core.cell))
        self._touch()

    # -- peers -------------------------------------------------------------------------------------------------

    def on_peer_messages(self, member: MemberId, messages: Sequence[PeerMessage]) -> None:
        """Messages of another member, in its order."""
        now_ms = monotonic_ms()
        try:
            for message in messages:
                if not isinstance(message, MANAGER_MESSAGES):
                    self.driver.receive(member, message)
                elif member.is_server:
                    self.core.on_peer_message(member.number, message, now_ms)
                else:
                    raise MalformedMessage(f"{type(message).__name__} of a witness, which has no replica manager")
        except MalformedMessage as error:
            # What came after it is dropped with the connection; whoever sends it again finds a new one.
            self.channel.transport.disconnect(member, RefusalReason.MESSAGE, str(error))
        self._touch()

    def on_peer_up(self, member: MemberId) -> None:
        """A link to another member is there (again)."""
        self.events.record("peer_up", member=str(member))
        if member.is_server:
            self._told.pop(member.number, None)
            self.core.on_peer_up(member.number)
            self._touch()

    def on_peer_down(self, member: MemberId) -> None:
        """A link broke."""
        self.events.record("peer_down", member=str(member))
        if member.is_server:
            self.core.on_peer_down(member.number)
            self._touch()

    def on_peer_event(self, event: PeerEvent) -> None:
        """Something about the private network."""
        data = {name: str(getattr(event, name)) for name in event.__slots__}
        self.events.record(_snake_case(type(event).__name__), **data)

    def _peers(self) -> list[int]:
        own = self.core.settings.server
        return [server for server in {*self.core.cell.live_servers, *self.core.membership.learners} if server != own]

    def _post(self, server: int, message: ManagerMessage) -> None:
        self.channel.post(MemberId.server(server), message)

    def _tell_position(self, server: int) -> None:
        position = self.core.position
        self._told[server] = position
        self._post(server, position)

    # -- DomainHandler -----------------------------------------------------------------------------------------

    def on_domain_linked(self, domain: DomainId, hello: WrapperHello) -> None:
        """A wrapper said Hello."""
        self.core.on_domain_linked(domain, hello)
        self._touch()

    def on_domain_frames(self, domain: DomainId, frames: Sequence[FromWrapper]) -> None:
        """A wrapper sent frames."""
        self.core.on_domain_frames(domain, frames, monotonic_ms())
        self._touch()

    def on_domain_gone(self, domain: DomainId, reason: str) -> None:
        """A domain stopped."""
        self.core.on_domain_gone(domain, reason)
        self._touch()

    def on_power_done(self, domain: DomainId, action: PowerAction) -> None:
        """The hypervisor did what was asked."""
        self.core.on_power_done(domain, action)
        started = self._refresh_started_ms
        if action is PowerAction.SUSPEND and domain in started and self.last_refresh is not None:
            self.last_refresh["duration_ms"] = monotonic_ms() - started.pop(domain)
        self._touch()

    def on_domain_event(self, kind: str, domain: DomainId, **data: Any) -> None:
        """Something about a domain."""
        self.events.record(kind, domain=domain, **data)

    # -- doing what the core wants -----------------------------------------------------------------------------

    def _touch(self) -> None:
        if self._flush_handle is None and not self._is_halted:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        output = self.core.take_output()
        for payload in output.proposals:
            self._propose(payload)
        self._tell_peers(output)
        for domain, frame in output.frames:
            self.domains.send(domain, frame)
        for domain, action in output.power:
            self._ask_power(domain, action)
        if self._before_first_answer is not None and (output.openings or output.replies):
            self._before_first_answer()
            self._before_first_answer = None
        for opening in output.openings:
            opening.sink.client_opened(opening.token, opening.client)
        for reply in output.replies:
            reply.sink.replied(reply.client, reply.number, reply.outcome, reply.reply)
        for event in output.events:
            if self.audit is not None:
                self.audit.note(event.kind, event.data)
            self._record(event.kind, event.data)
        for point in output.points:
            self._finish_checkpoint(point)
        self._repairs.carry_out(output)
        self.exports.take(output.export)
        self._move(output)
        for resolved in output.resolved:
            self._finish_resolution(resolved)
        self._arm()

    def _move(self, output: CoreOutput) -> None:
        """Do what this server's way into the cell, or out of it, takes."""
        own = self.core.settings.server
        if output.has_new_standing:
            self._on_standing(self.core.standing)
        if output.joins_with is not None:
            incarnation = self.driver.core.identity.incarnation
            self.driver.propose_change(ServerJoined(own, incarnation, encode_joiners(*output.joins_with)))
        if output.is_leaving:
            self.driver.propose_change(ServerLeft(own, fenced=False))
        if output.must_rejoin:
            self._come_back("the cell went on without this server")

    def _come_back(self, reason: str, latest: int = 0) -> None:
        """Rejoin without a memory, as an incarnation above every one that this server is known to have had."""
        self._rejoin(reason, max(latest, self.driver.core.identity.incarnation))

    def _propose(self, payload: bytes) -> None:
        try:
            self.driver.propose(payload)
        except ProposalError:
            self.core.on_proposal_refused(payload)
            self._touch()

    def _tell_peers(self, output: CoreOutput) -> None:
        if not output.broadcasts and not output.sends:
            return
        for message in output.broadcasts:
            if isinstance(message, Votes):
                self.vote_count += len(message.sequences)
        for server in self._peers():
            if self._told.get(server) != self.core.position:
                self._tell_position(server)
            for message in output.broadcasts:
                self._post(server, message)
        for server, message in output.sends:
            self._post(server, message)

    def _ask_power(self, domain: DomainId, action: PowerAction) -> None:
        if action is PowerAction.RESUME:
            self._refresh_started_ms[domain] = monotonic_ms()
        self.domains.power(domain, action)

    def _record(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "refreshed":
            self.refresh_count += 1
            self.last_refresh = {"at_us": self._clock.wall_us(), "updates": data["updates"], "duration_ms": None}
            started = self._refresh_started_ms.get(data["domain"])
            data["ms"] = None if started is None else monotonic_ms() - started
        self.events.record(kind, **data)

    # -- checkpoints -------------------------------------------------------------------------------------------

    async def checkpoint(self) -> dict[str, Any]:
        """Have every domain give its state at one agreed position; return `{"point", "digests"}`.

        Raises:
            CheckpointUnderWay: another one is open.
        """
        token = int.from_bytes(os.urandom(7))
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._checkpoints[token] = future
        self.core.order_checkpoint(token)
        self._touch()
        try:
            return await future
        finally:
            self._checkpoints.pop(token, None)

    def _finish_checkpoint(self, ended: StateCompared | StateRefused) -> None:
        future = self._checkpoints.get(ended.token)
        if isinstance(ended, StateRefused):
            if future is not None and not future.done():
                future.set_exception(CheckpointUnderWay(ended.open_point))
            return
        digests = {domain: digest.hex() for domain, digest in ended.digests}
        self.events.record("checkpoint_complete", point=ended.point, digests=digests)
        if self.recorder is not None:
            self.recorder.record_checkpoint(ended.point, dict(ended.digests))
        if future is not None and not future.done():
            future.set_result({"point": ended.point, "digests": digests})

    # -- operators' decisions ----------------------------------------------------------------------------------

    async def resolve(self, sequence: int, action: str) -> str:
        """Have the cell decide about an open request; return why it had no effect, or an empty text."""
        token = int.from_bytes(os.urandom(7))
        future: asyncio.Future[str] = self._loop.create_future()
        self._resolving[token] = future
        self.core.order_resolution(sequence, action, token)
        self._touch()
        try:
            return await future
        finally:
            self._resolving.pop(token, None)

    def order_recovery(self, kind: str) -> int:
        """Begin a proactive recovery; return the token under which `core.recovery.asked` tells what came of it."""
        token = int.from_bytes(os.urandom(7))
        self.core.recovery.asked[token] = None
        self.core.order_recovery(kind, token)
        self._touch()
        return token

    def order_activation(self, domain: DomainId) -> None:
        """Have a passive domain become active."""
        self.core.order_activation(domain)
        self._touch()

    def order_retirement(self, domain: DomainId, reason: str) -> None:
        """Have a domain given up."""
        self.core.order_retirement(domain, reason)
        self._touch()

    def leave_cell(self) -> None:
        """Have this server leave the cell; agreement's `Removed` tells when it has."""
        self.driver.propose_change(ServerLeft(self.core.settings.server, fenced=False))

    def declare_fenced(self, server: int) -> None:
        """Another server has surely stopped, for ever: have it leave."""
        self.driver.propose_change(ServerLeft(server, fenced=True))

    def _finish_resolution(self, resolved: RequestResolved) -> None:
        future = self._resolving.get(resolved.token)
        if future is not None and not future.done():
            future.set_result(resolved.objection)

    # -- looking -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """`starting`, `serving`, `degraded`, `not_serving`, or the value of another `Standing`."""
        feeds = self.core.feeds.values()
        if self.core.standing is not Standing.SERVING:
            return str(self.core.standing.value)
        if self.has_left:
            return "not_serving"
        is_booting = any(feed.power is Power.STARTING and feed.role is not Role.STARTING for feed in feeds)
        if is_booting or self.driver.core.leader is None:
            return "starting"
        cell = self.core.cell
        if len(cell.domains_in(Role.ACTIVE)) < cell.threshold:
            return "not_serving"
        clean = {record.server for record in cell.domains.values() if record.is_clean_passive}
        is_whole = len(cell.live_servers) == cell.f + 1 and clean == set(cell.live_servers)
        oldest_open = self.core.requests.get(self.core.buffer.prefix + 1)
        is_agreed = oldest_open is None or not oldest_open.is_contested
        return "serving" if is_whole and is_agreed else "degraded"


def _snake_case(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
