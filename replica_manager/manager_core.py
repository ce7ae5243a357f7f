"""The replica manager's core: composes the pure rooms; no I/O, no clock, no randomness of its own.

Inputs are method calls (`deliver`, `submit`, `on_peer_message`, `on_domain_frames`, …), outputs are collected in one
`CoreOutput`.  The asyncio shell (`wiring`) and the simulator run exactly this class.

Source: SPARE §4.3; design "Execution and voting", "Passive replicas".
"""

from collections.abc import Sequence

from agreement.messages import Change, Entry
from exec_wrapper.wire import FromWrapper, Pong, StateSet, WrapperHello
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import (
    CellRestarted,
    ClientIssued,
    ConsentWanted,
    DomainFilled,
    DomainSuspected,
    Effect,
    MembershipChanged,
    ProgressMade,
    RecoveryBegan,
    RecoveryEnded,
    RecoveryRefused,
    RepairRefused,
    RequestAccepted,
    RequestHeld,
    RequestKilled,
    RequestRefused,
    RequestRepeated,
    RequestResolved,
    RestartWanted,
    RoleChanged,
    RoundOpened,
    StateCompared,
    StateEnded,
    StateRefused,
    StateWanted,
)
from replica_manager.cell.entries import (
    PointClosed,
    Promote,
    RecoveryPoint,
    Resolve,
    Stopped,
    command_name,
    encode_entry,
)
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import CHECKPOINT, StatePoint
from replica_manager.core_output import CoreOutput, NamedEvent, PartWanted
from replica_manager.core_settings import CoreSettings
from replica_manager.execution.domain_answers import DomainAnswers
from replica_manager.execution.feed import Feed, FeedMisuse, Power, PowerAction
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.faults.fault_handling import FaultHandling
from replica_manager.faults.resolving import Resolving
from replica_manager.faults.watch import DomainWatch
from replica_manager.identifiers import DomainId
from replica_manager.intake.admission import Admission
from replica_manager.intake.gate import GateSettings, IntakeGate
from replica_manager.intake.port import ReplySink, Submission
from replica_manager.membership import Membership
from replica_manager.peer_messages import (
    FetchPart,
    FetchResult,
    ManagerMessage,
    Part,
    Position,
    Presence,
    Relay,
    Result,
    StableNotice,
    StateDigests,
    Votes,
)
from replica_manager.recovery.cell_restart import CellRestart
from replica_manager.recovery.export import Export
from replica_manager.recovery.proactive_recovery import ProactiveRecovery
from replica_manager.recovery.repair import Repair
from replica_manager.recovery.state_digests import CheckpointBoard
from replica_manager.standing import Standing
from replica_manager.updates.retention import Retention
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.catch_up import CatchUp
from replica_manager.voting.value_exchange import ValueExchange
from replica_manager.voting.voter import Contradiction, Verdict, Voter

FINDINGS_KEPT = 10_000
"""Contradictions and open votes that an operator can ask for; older ones are in the event log alone."""


class ManagerCore:
    """One server's replica manager without its I/O."""

    def __init__(
        self,
        settings: CoreSettings,
        now_ms: int,
        standing: Standing = Standing.SERVING,
        cell: CellState | None = None,
        life: int = 0,
    ) -> None:
        """Make the manager of a server.

        Args:
            settings: bounds and times.
            now_ms: monotonic time.
            standing: `SERVING` in a new cell, whose two domains here have not said Hello yet; `RETURNING` with the
                memory of a former process; `LEARNING` without one, in a cell that runs.
            cell: the cell state that the log continues; None: that of a new cell.
            life: of this process; any number that no former process of the server had.
        """
        self.settings = settings
        self.cell = cell or CellState(settings.f, settings.client_table_entries_max, settings.clock_start_us)
        self.requests = RequestLog()
        self.requests.restart_at(self.cell.sequence + 1)
        self.buffer = UpdateBuffer(self.cell.sequence)
        self._output = CoreOutput()
        self.voter = Voter(self.cell, self.requests, self.buffer, self._on_complete, self._on_finding, self._on_lag)
        self.admission = Admission(settings.client_table_entries_max, settings.request_bytes_max)
        bounds = GateSettings(
            settings.open_requests_max,
            settings.waiting_bytes_max,
            settings.buffer_entries_max,
            settings.buffer_bytes_max,
        )
        self.gate = IntakeGate(bounds, self.admission, self.requests, self.buffer)
        patience_ms = settings.stall_start_ms // 2
        self.catch_up = CatchUp(patience_ms)
        self.board = CheckpointBoard()
        is_new = standing is Standing.SERVING
        self.feeds = {
            record.domain: self._make_feed(record.domain, record.role)
            for record in (self.cell.domains_of(settings.server) if is_new else ())
        }
        self.faults = FaultHandling(
            settings.server, settings.faults, self.cell, self.requests, self.buffer, self.feeds, self.voter
        )
        self.watch = DomainWatch(settings.watch, self.cell, self.requests, self.feeds)
        self.repair = Repair(settings.server, settings.repair, self.cell, self.feeds, self.buffer)
        self.export = Export(settings.server, settings.repair, self.cell, self.buffer)
        self.restart = CellRestart(
            settings.server, self.cell, self.feeds, self.requests, self.buffer, self._make_feed, life
        )
        self.recovery = ProactiveRecovery(settings.server, settings.recovery, self.cell, self.feeds, now_ms)
        self.membership = Membership(
            settings.server,
            standing,
            settings.repair.patience_ms,
            self.cell,
            self.repair,
            self.restart,
            lambda: self.values.on_roles_changed(),
        )
        learners = self.membership.learners
        self.resolving = Resolving(self.cell, self.requests, self.feeds, self.voter)
        self.answers = DomainAnswers(
            self.cell, self.feeds, self.requests, self.voter, self.board, self.repair, self.export
        )
        self.retention = Retention(self.cell, self.requests, self.buffer, self.feeds)
        self.retention.is_whole_log_needed = lambda: self.membership.is_coming_back
        self.retention.followers_stable = lambda: {
            server: self.catch_up.stable_of(server)
            for server in {*self.cell.live_servers, *learners}
            if server != settings.server
        }
        self.values = ValueExchange(settings.server, self.cell, self.requests, self.feeds, learners, patience_ms)
        self.voter.on_value_missing = lambda record: self.values.maybe_ask(record, self._output)
        self.findings: dict[tuple[str, int], Contradiction | Verdict] = {}
        self._needs_pump = False
        self._needs_look = False
        self._progress_at_ms = now_ms + settings.progress_ms
        self._sync_at_ms = now_ms + settings.sync_ms

    def _make_feed(self, domain: DomainId, role: Role) -> Feed:
        settings = self.settings
        first_refresh = settings.feed.refresh_updates_max * (settings.server + 1) // (settings.f + 1)
        return Feed(domain, role, settings.feed, max(1, first_refresh))

    # -- clients -----------------------------------------------------------------------------------------------

    def open_client(self, sink: ReplySink, token: int, random: bytes) -> None:
        """Order a new client id; `random` are 16 random bytes."""
        self.gate.open_client(sink, token, random, self._output)

    def submit(self, sink: ReplySink, submission: Submission, now_us: int, random: bytes) -> None:
        """Order a request; `now_us` is the wall clock, `random` 16 random bytes."""
        self.gate.submit(sink, submission, now_us, random, self._output)

    def on_proposal_refused(self, payload: bytes) -> None:
        """Agreement's queue was full: the entry was surely not ordered."""
        self.gate.on_refused(payload, self._output)

    # -- the agreed order --------------------------------------------------------------------------------------

    def deliver(self, sequence: int, agreed: Entry | Change) -> None:
        """Apply the next entry of the agreed order."""
        effects = self.cell.apply(sequence, agreed)
        first = effects[0] if effects else None
        record = None
        if isinstance(first, RequestAccepted):
            record = RequestRecord(sequence, first.client, first.number, first.timestamp_us, first.seed, first.payload)
        self.requests.append(sequence, record or command_name(agreed))
        if record is None:
            if isinstance(agreed, Entry):
                self.membership.on_ordered(agreed.payload)
            for effect in effects:
                self._on_effect(sequence, effect, agreed)
        self._needs_pump = True
        self.gate.retry(self._output)
        self.voter.on_delivered(sequence)
        self.retention.on_delivered(sequence, is_request=record is not None)

    def _on_effect(self, sequence: int, effect: Effect, agreed: Entry | Change) -> None:
        match effect:
            case RequestAccepted():
                raise AssertionError("an accepted request is the only effect of its entry")
            case ClientIssued(client=client, token=token):
                assert isinstance(agreed, Entry)
                if agreed.server == self.settings.server:
                    self.admission.on_issued(self._output, client, token)
            case RequestRepeated() | RequestRefused():
                assert isinstance(agreed, Entry)
                # Entries of other servers decide nothing here: the number may have come with another payload.
                if agreed.server == self.settings.server:
                    self._on_not_executed(effect)
            case RoleChanged():
                self._on_role_changed(effect)
            case MembershipChanged():
                self._on_membership_changed(effect)
            case ProgressMade():
                self.retention.on_progress(effect)
            case StateRefused() | StateCompared():
                if isinstance(effect, StateCompared):
                    self.answers.cancel_state(effect.point, self._output)
                else:
                    self.export.on_refused(effect.token, effect.open_point, self._output)
                self._output.points.append(effect)
            case _:
                self._on_fault_effect(effect)

    def _on_fault_effect(self, effect: Effect) -> None:
        output, now_ms = self._output, self.voter.now_ms
        match effect:
            case DomainSuspected(domain=domain, reason=reason):
                self._event("domain_suspected", domain=domain, reason=reason, sequence=self.cell.sequence)
                self._close_points(self.board.excuse(domain))  # it may never give its state
            case RoundOpened(round_number=round_number, activations=count, sequence=sequence):
                self._event("round_opened", round=round_number, count=count, sequence=sequence)
                self.faults.on_round_opened(effect, now_ms, output)
            case RequestKilled(sequence=sequence):
                self.resolving.on_killed(sequence)
            case RequestHeld(sequence=sequence):
                self.resolving.on_held(sequence, output)
            case ConsentWanted(sequence=sequence):
                self.resolving.on_consent_wanted(sequence, output)
            case RequestResolved():
                self.resolving.on_resolved(effect, output)
            case StateWanted(point=point):
                self._on_state_wanted(point)
            case StateEnded(point=point):
                self._on_state_ended(point)
            case RepairRefused(domains=domains):
                self.repair.on_refused(domains)
            case DomainFilled(domain=domain):
                self.repair.on_filled(domain, output)
            case RecoveryBegan():
                self.recovery.on_began(effect, output)
            case RecoveryRefused(token=token):
                self._event("recovery_refused", token=token)
                self.recovery.on_refused(token)
            case RecoveryEnded():
                self.recovery.on_ended(effect, now_ms, output)
            case RestartWanted():
                self._event("restart_began")
            case CellRestarted():
                self._on_cell_restarted(effect)
            case _:
                raise AssertionError(f"{type(effect).__name__} is dealt with before")

    def _on_not_executed(self, effect: RequestRepeated | RequestRefused) -> None:
        if isinstance(effect, RequestRepeated):
            others = len(self.cell.live_servers) > 1
            first = self.requests.get(effect.first_sequence)
            self.admission.on_repeated(self._output, effect, first, has_others=others)
        else:
            self.admission.on_decided(self._output, effect.client, effect.number, effect.outcome)

    def _on_membership_changed(self, effect: MembershipChanged) -> None:
        self._event("membership_changed", **effect._asdict(), sequence=self.cell.sequence)
        self.membership.on_membership_changed(self._output)
        self.membership.maybe_leave(self._output)
        self.catch_up.forget_peers_except((*effect.live_servers, *self.membership.learners))
        self.values.on_roles_changed()
        self.voter.recount()
        self.retention.drop()  # who left does not hold it up any more

    def _on_role_changed(self, effect: RoleChanged) -> None:
        data = {"role": effect.role.value, "reason": effect.reason, "sequence": self.cell.sequence}
        self._event("role_changed", domain=effect.domain, **data)
        feed = self.feeds.get(effect.domain)
        if effect.role is Role.ACTIVE:
            self.faults.on_activated(self.voter.now_ms)
        if feed is not None:
            feed.take_role(effect.role, self.cell.sequence)
        if effect.role is Role.RETIRED:
            self._close_points(self.board.excuse(effect.domain))
            if feed is not None:
                feed.on_gone()
                self._output.power.append((effect.domain, PowerAction.DESTROY))
        elif effect.role is Role.PASSIVE and feed is not None:
            self._output.power.append((effect.domain, PowerAction.SERVE))
        self.repair.on_role_changed(effect.domain, effect.role, self._output)
        self.export.on_role_changed(effect.domain, effect.role, self._output)
        self.values.on_roles_changed()
        self.voter.recount()
        self.membership.maybe_leave(self._output)

    def _on_state_wanted(self, point: StatePoint) -> None:
        if point.kind == CHECKPOINT:
            self.board.open(point.point, frozenset(point.donors))
        data = {"token": point.token, "donors": list(point.donors), "domains": list(point.domains)}
        if self.standing is Standing.LEARNING and self.buffer.prefix < point.point:
            self.admission.replies_from = point.point
        self._event(f"{point.kind}_ordered", point=point.point, **data)
        for domain in point.donors:
            feed = self.feeds.get(domain)
            if feed is not None and feed.power is not Power.GONE:
                feed.request_state(point.point)
        self.repair.on_state_wanted(point, self.voter.now_ms)
        self.export.on_state_wanted(point)

    def _on_state_ended(self, point: int) -> None:
        self.answers.cancel_state(point, self._output)
        self.repair.on_point_ended(point, self._output)
        self._output.points_ended.append(point)

    def order_resolution(self, sequence: int, action: str, token: int) -> None:
        """Have the cell decide about a number that stays open; `action` is `skip` or `retry`."""
        self._output.proposals.append(encode_entry(Resolve(sequence, action, token)))

    def order_activation(self, domain: DomainId) -> None:
        """Have a passive domain become active, as the operator wishes."""
        self._output.proposals.append(encode_entry(Promote(domain, self.cell.sequence)))

    def order_retirement(self, domain: DomainId, reason: str) -> None:
        """Have a domain given up, as the operator wishes."""
        self._output.proposals.append(encode_entry(Stopped(domain, reason, self.cell.sequence)))

    def order_recovery(self, kind: str, token: int) -> None:
        """Have every server renew its domains, as the operator wishes."""
        self.recovery.order(kind, token, self._output)

    def order_checkpoint(self, token: int) -> None:
        """Have every domain give its state at one agreed position."""
        self._output.proposals.append(encode_entry(RecoveryPoint("checkpoint", self.cell.sequence, token)))

    def order_export(self, token: int) -> None:
        """Have the agreed state at one position given to this server; `CoreOutput.export` is what comes of it."""
        self.export.order(token, self._output)

    def on_export_frame(self, frame: Pong | StateSet) -> None:
        """The file to which a state is exported took a part in, or is whole."""
        self.export.on_frame(frame, self._output)

    def abort_export(self, token: int) -> None:
        """Nobody waits for an export any more, which may have ended."""
        self.export.abort(token, self._output)

    def _close_points(self, points: Sequence[int]) -> None:
        for point in points:
            digests = sorted((self.board.digests(point) or {}).items())
            self._output.proposals.append(encode_entry(PointClosed(point, [(str(d), digest) for d, digest in digests])))

    # -- domains -----------------------------------------------------------------------------------------------

    def on_domain_linked(self, domain: DomainId, hello: WrapperHello) -> None:
        """A local domain's wrapper said Hello."""
        if self.feeds[domain].power is Power.GONE:
            return  # its end was noticed first
        try:
            # While the log is still being read, nobody knows how far it goes.
            delivered = None if self.membership.is_coming_back else self.cell.sequence
            self.feeds[domain].on_linked(hello.cursor, delivered)
        except FeedMisuse as misuse:
            self._on_misuse(domain, str(misuse))
            return
        self._event("domain_ready", domain=domain, image=hello.image, service=hello.service, cursor=hello.cursor)
        if self.standing is Standing.RESTARTING:
            self.restart.on_linked(domain, hello.cursor, self._output)
        self.repair.on_linked(domain, self.voter.now_ms, self._output)
        self._needs_pump = True

    def on_domain_frames(self, domain: DomainId, frames: Sequence[FromWrapper], now_ms: int) -> None:
        """A local domain answered."""
        self.voter.now_ms = now_ms
        if self.feeds[domain].power is Power.GONE:
            return  # it was still sending when its end was noticed
        misuse = self.answers.take(domain, frames, self._output)
        self._close_points(self.answers.take_completed_points())
        if misuse is not None:
            self._on_misuse(domain, misuse)
        self._needs_pump = True

    def _on_misuse(self, domain: DomainId, reason: str) -> None:
        self._event("domain_misbehaved", domain=domain, reason=reason)
        self.on_domain_gone(domain, reason)

    def on_domain_gone(self, domain: DomainId, reason: str) -> None:
        """The hypervisor reports a local domain stopped, or its link ended: this server knows, no vote is needed."""
        feed = self.feeds.get(domain)
        if feed is None or feed.power is Power.GONE:
            return
        executing = feed.executing[0] if feed.executing else 0
        feed.on_gone()
        self._event("domain_gone", domain=domain, reason=reason, executing=executing)
        is_known = domain in self.cell.domains
        if is_known or self.repair.has_announced(domain):
            self._output.proposals.append(encode_entry(Stopped(domain, reason, self.cell.sequence, executing)))
        if not is_known:
            # Booted, and not told of to the cell yet.
            self._output.power.append((domain, PowerAction.DESTROY))
        self.repair.on_gone(domain, self.voter.now_ms)

    def on_boot_failed(self, domain: DomainId, reason: str) -> None:
        """A fresh domain could not be booted."""
        self.on_domain_gone(domain, f"it could not be booted: {reason}")

    def on_power_done(self, domain: DomainId, action: PowerAction) -> None:
        """The hypervisor did what was asked."""
        feed = self.feeds.get(domain)
        if feed is None:
            return
        if action is PowerAction.DESTROY:
            del self.feeds[domain]
            self.answers.forget(domain)
        elif feed.power is not Power.GONE and action is not PowerAction.SERVE:
            feed.power = Power.SUSPENDED if action is PowerAction.SUSPEND else Power.RUNNING
            if action is PowerAction.RESUME and (feed.is_alert or feed.role is Role.ACTIVE):
                self._event("sleeper_awake", domain=domain)
        self._needs_pump = True

    # -- peers -------------------------------------------------------------------------------------------------

    def on_peer_message(self, server: int, message: ManagerMessage, now_ms: int) -> None:
        """A message of a peer's manager (agreement's go to the node)."""
        self.voter.now_ms = now_ms
        match message:
            case Position(stable=stable):
                if self.membership.follows(server):
                    self.catch_up.on_position(server, stable, now_ms)
            case Votes(domain=domain, sequences=sequences, digests=digests):
                self.voter.record_votes(DomainId(domain), sequences, digests)
            case StableNotice():
                self._on_notice(server, message)
            case FetchResult():
                self.values.answer(server, message, self._output)
            case Result():
                self.values.take(message, self.voter)
            case StateDigests(domain=domain, point=point, is_complete=is_complete, content_digest=content_digest):
                if is_complete and self.board.report(DomainId(domain), point, content_digest):
                    self._close_points([point])
                self.answers.note_state(message)
                self.repair.on_state_digests(message, self._output)
                self.export.on_state_digests(message, self._output)
            case FetchPart(point=point, domain=domain, index=index):
                self._output.parts_wanted.append(PartWanted(point, DomainId(domain), index, server))
            case Part():
                self.on_part(message)
            case Presence(standing=standing, delivered=delivered):
                self.membership.on_presence(server, Standing(standing), delivered, self._output)
            case Relay(payload=payload):
                if self.membership.is_learning(server):
                    self._output.proposals.append(payload)
        self._needs_pump = True

    def on_part(self, part: Part) -> None:
        """A part that this server asked for, of its own disk or of a peer's."""
        self.repair.on_part(part, self._output)
        self.export.on_part(part, self._output)

    def _on_notice(self, server: int, notice: StableNotice) -> None:
        for index, sequence in enumerate(notice.sequences):
            self.voter.record_notice(sequence, notice.digests[32 * index : 32 * index + 32])
        if notice.sequences and max(notice.sequences) <= self.buffer.prefix:
            # The peer does not know how far this server is: the message that said so was lost.
            self._output.sends.append((server, self.position))

    @property
    def position(self) -> Position:
        """How far this server is, for its peers."""
        return Position(self.cell.sequence, self.buffer.prefix)

    # -- what this server and its peers are to the cell --------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """What this server is to the cell."""
        return self.membership.standing

    def _on_cell_restarted(self, effect: CellRestarted) -> None:
        if self.membership.on_cell_restarted(effect, self._output):
            self._give_up_what_cannot_be_fed()
            self.voter.advance_prefix()
            self.voter.recount()
            self.membership.maybe_leave(self._output)

    def _give_up_what_cannot_be_fed(self) -> None:
        for feed in list(self.feeds.values()):
            if feed.cursor > self.cell.sequence + 1 and feed.power is not Power.GONE:
                self._on_misuse(feed.domain, f"came back with cursor {feed.cursor}, behind the end of the order")
        for domain in self.restart.lacking():
            self.on_domain_gone(domain, "its disk lacks numbers that the log here does not hold")

    def install_snapshot(self, sequence: int, state: CellState) -> None:
        """A learner goes on from a peer's cell state after `sequence`."""
        assert self.standing is Standing.LEARNING, "the domains of a server that serves would miss what was skipped"
        assert state.sequence == sequence, f"the snapshot after {sequence} is one after {state.sequence}"
        self.cell.load(state)  # in any case: what is delivered until this process ends follows it
        self.requests.restart_at(sequence + 1)
        self.buffer.restart_at(sequence)
        self.voter.restart_after(sequence)
        self.repair.on_skipped(self._output)
        self.values.on_roles_changed()

    def on_peer_down(self, server: int) -> None:
        """A link to a peer broke."""
        self.membership.on_peer_down(server)
        if not self.membership.follows(server):
            self.catch_up.forget(server)  # it will never say how far it is

    def on_peer_up(self, server: int) -> None:
        """A link to a peer is new: what was in flight may be lost."""
        self.membership.say_presence(server, self._output)
        self.catch_up.resend(server, self.requests, self.feeds, self._output)

    # -- what voting finds -------------------------------------------------------------------------------------

    def _on_complete(self, record: RequestRecord) -> None:
        assert record.stable_digest is not None
        if record.stalled_ms is not None:
            self._event("stall_ended", sequence=record.sequence, ms=self.voter.now_ms - record.stalled_ms)
        if record.is_skipped:
            self.admission.on_skipped(self._output, record)
            return
        reply, update = record.values[record.stable_digest]
        if update:
            self.recovery.on_update()
        self.admission.on_stable(self._output, record, reply)
        self.values.push(record, self._output)

    def _on_finding(self, finding: Contradiction | Verdict) -> None:
        subject = finding.domain if isinstance(finding, Contradiction) else finding.kind
        key = (subject, finding.sequence)
        # Votes that diverge again after a round need the next one at once, though nothing new is to be told.
        self._needs_look |= isinstance(finding, Verdict)
        if key in self.findings:
            return
        if isinstance(finding, Contradiction):
            self.faults.on_contradiction(finding, self._output)
        elif finding.kind == "short":
            return
        self.findings[key] = finding
        if len(self.findings) > FINDINGS_KEPT:
            del self.findings[next(iter(self.findings))]
        name = "vote_contradicts" if isinstance(finding, Contradiction) else f"vote_{finding.kind}"
        self._event(name, **{k: v for k, v in finding._asdict().items() if k != "kind"})

    def _on_lag(self, lag_ms: int) -> None:
        self.faults.clock.note_lag(lag_ms, self.voter.now_ms)

    # -- time --------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """Return when `on_timer` has something to do that cannot wait for the next tick; None: nothing."""
        return self.faults.next_due_ms(self.voter.now_ms)

    def on_timer(self, now_ms: int) -> None:
        """A tick; every 20 to 100 ms, and at `next_due_ms`."""
        self.voter.now_ms = now_ms
        self._needs_pump = True
        self.gate.retry(self._output)
        self.membership.maybe_ask(now_ms, self._output)
        if self.membership.is_coming_back:
            self.membership.look_around(now_ms, self._output)
            return
        if now_ms >= self._sync_at_ms:
            self._sync_at_ms = now_ms + self.settings.sync_ms
            for feed in self.feeds.values():
                feed.request_sync()
        if now_ms >= self._progress_at_ms:
            self._progress_at_ms = now_ms + self.settings.progress_ms
            self.retention.drop()
            report = self.retention.report()
            if report is not None:
                self._output.proposals.append(encode_entry(report))
            self._output.broadcasts.extend(self.answers.state_reports(self.cell.open_point))
        self.catch_up.on_timer(now_ms, self.requests, self.buffer, self.feeds, self._output)
        self.values.on_timer(now_ms, self.voter, self._output)
        if self.standing is Standing.SERVING:
            self.faults.on_timer(now_ms, self._output)
            self.recovery.on_timer(now_ms, self._output)
            self.export.on_timer(now_ms, self._output)
        self.answers.tell_states(self._output)
        self.repair.on_timer(now_ms, self._output)
        self.membership.on_timer(now_ms, self._output)
        for domain, reason in self.watch.on_timer(now_ms, self.faults.clock.limit_ms, self._output):
            self.on_domain_gone(domain, reason)
        self._maybe_give_up_laggard()
        self._needs_pump = True

    def _maybe_give_up_laggard(self) -> None:
        updates = self.buffer.entry_count
        domain = self.retention.laggard(self.settings.buffer_entries_max, self.settings.buffer_bytes_max)
        if domain is not None:
            self._event("limit_reached", limit="buffer", detail=f"{domain} holds up {updates} updates")
            self.on_domain_gone(domain, f"it takes no updates: {updates} wait for it")

    # -- output ------------------------------------------------------------------------------------------------

    def take_output(self) -> CoreOutput:
        """Return everything to be done since the last call."""
        if self._needs_look:
            self._needs_look = False
            self.faults.look(self.voter.now_ms, self._output)
        if self._needs_pump:
            self._needs_pump = False
            self._pump()
        output = self._output
        self.answers.flush_votes(output)
        self._output = CoreOutput()
        self.membership.relay(output)
        return output

    def _pump(self) -> None:
        if self.membership.is_coming_back:
            return  # from which number on a domain executes for itself is known when all are back
        for feed in list(self.feeds.values()):
            self.answers.pump(feed, self.buffer, self._output)
            action = feed.plan_power(self.buffer)
            if action is not None:
                self._output.power.append((feed.domain, action))

    def _event(self, kind: str, **data: object) -> None:
        self._output.events.append(NamedEvent(kind, data))
