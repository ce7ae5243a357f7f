"""Fresh domains of one server: for a repair, to join, and for the next generation of a proactive recovery.

A server without a clean sleeper restores redundancy at once:

1. A fresh domain, named by the cell state's next generation, is booted from a clean image.
2. When it says Hello, `RepairPoint` is ordered: sleepers, and as many active domains as are needed for `T` equal
   digests, give their state as of that position.  Each server keeps its domains' parts on its own disk meanwhile.
3. The states are voted on; whoever's differs is convicted.
4. The parts go into the fresh domain, each checked against the voted digest; from a copy on this server if it has one.
5. `DomainReady` makes it passive, once the state is on its disk and every earlier number is stable here: the fresh
   domain can vote on none of them.

Whatever does not move in time is tried again with every domain giving its state, then with another fresh domain.

In a proactive recovery the point is the same for all servers and comes from the order (`proactive_recovery`); what is
booted is told by `NextBooted`, filled in the same way, and takes its role with `Switch`.  A server has one fresh domain
that is not filled at a time, whatever it is for: what a recovery leaves over serves the next one, or a repair.

Source: design "Repair" (Deviates: the thesis waits for the next recovery), "Proactive recovery"; SPARE §4.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exec_wrapper.wire import Pong, StateSet
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import (
    DomainReady,
    NextBooted,
    RecoveryAborted,
    RepairPoint,
    Stopped,
    Suspected,
    encode_entry,
)
from replica_manager.cell.recoveries import Renewal
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import RECOVERY, REPAIR, StatePoint
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed, FeedMisuse, FeedSettings, Power, PowerAction
from replica_manager.identifiers import DomainId, domain_id
from replica_manager.peer_messages import Part, StateDigests
from replica_manager.recovery.agreed_parts import ask_for_parts, convict, take_part
from replica_manager.recovery.filling import Filling
from replica_manager.recovery.state_vote import StateVote
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.vote_count import Diverged, Exceeded

ATTEMPTS_MAX = 3
"""Points ordered for one fresh domain before another one is tried."""
DOMAINS_TO_JOIN = 2
BACKOFF_MS_MIN, BACKOFF_MS_MAX = 1_000, 60_000
"""Between a failed attempt to boot or fill a domain and the next one."""


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """When and how patiently."""

    is_immediate: bool
    """Else the next proactive recovery restores redundancy."""
    patience_ms: int
    """How long nothing may move while states are given or set."""
    feed: FeedSettings
    settle_ms: int = 500
    """A boot begins so long after the need for it: what made it necessary mostly holds up a reply too, and those who
    end that need the CPU more."""


class Repair:
    """The repair of one server's domains."""

    def __init__(
        self, server: int, settings: RepairSettings, cell: CellState, feeds: dict[DomainId, Feed], buffer: UpdateBuffer
    ) -> None:
        """Nothing is to be repaired; fresh domains are put into `feeds`."""
        self._server = server
        self._settings = settings
        self._cell = cell
        self._feeds = feeds
        self._buffer = buffer
        self.is_joining = False
        """Whether this server is in no quorum yet, and needs two fresh domains to join."""
        self.former_lives_through: int | None = None
        """Position up to which the order may tell of former lives of a server that is to join; None: not known yet."""
        self._is_ready_ordered = False
        self._is_abort_ordered = False
        self._is_spare = False
        """Whether the fresh domain is none of a repair: it was booted for a recovery."""
        self._booted_ordered_ms = 0
        """When a recovery was told last that the fresh domain is there."""
        self._fresh: DomainId | None = None
        """The domain that boots, or is to be filled."""
        self._is_ordered = False
        """Whether a point was asked for and has not been delivered yet."""
        self._attempt = 0
        self._vote: StateVote | None = None
        self.filling: Filling | None = None
        self._tried_generation = 0
        self._needed_since_ms: int | None = None
        self._backoff_ms = BACKOFF_MS_MIN
        self._not_before_ms = 0
        self._given_up_ms: dict[DomainId, int] = {}
        """Fresh domains of former lives → when that they are given up was ordered last."""
        self._ordered_ms = 0
        self._prefix_seen, self._prefix_seen_ms = 0, 0
        self._moved: tuple[object, ...] = ()
        self._moved_ms = 0
        self._looked_ms = 0

    @property
    def fresh(self) -> DomainId | None:
        """The domain that boots or is being filled; None: nothing is repaired here."""
        return self._fresh

    # -- beginning ---------------------------------------------------------------------------------------------

    def _needs_domain(self) -> bool:
        member = self._cell.members.get(self._server)
        own = self._cell.domains_of(self._server)
        if self.is_joining:
            # Names of domains are never used again, so it reads first which ones its former lives have used (`L9`).
            former = self.former_lives_through
            if former is None or self._cell.sequence < former:
                return False
            # While its former self is live, the order has not come here yet in which that one left.
            return self._server not in self._cell.live_servers and len(self.filled()) < DOMAINS_TO_JOIN
        renewal = self._renewal
        if renewal is not None:
            current = self._cell.recoveries.current
            assert current is not None
            has_sleeper = any(record.is_clean_passive for record in own)
            return not current.point and not renewal.fresh and (current.turn == self._server or not has_sleeper)
        if member is None or not member.is_live or any(record.is_clean_passive for record in own):
            return False
        lasting = self._cell.lasting
        healthy = [record for record in lasting if record.server == self._server and not record.suspicion]
        if len(healthy) > 1 and len(lasting) > self._cell.threshold:
            return False  # one of them is about to be sent to sleep
        # With nothing left the server leaves the cell instead, and comes back with two fresh domains.
        return any(record.role in (Role.ACTIVE, Role.PASSIVE) for record in own)

    @property
    def _renewal(self) -> Renewal | None:
        """This server's part in the recovery that is under way, until its next generation has its role."""
        current = self._cell.recoveries.current
        renewal = None if current is None or self.is_joining else current.of_server(self._server)
        return None if renewal is None or renewal.switched_at else renewal

    def holds(self, domain: DomainId) -> bool:
        """Whether the domain is here, with a state."""
        feed = self._feeds.get(domain)
        return feed is not None and feed.is_filled

    def filled(self) -> list[DomainId]:
        """Return the fresh domains of this server that hold a state and have no role yet, oldest first."""
        own = self._cell.domains_of(self._server)
        fresh = [record.domain for record in own if record.role is Role.STARTING]
        return [name for name in fresh if name != self._fresh and self._is_filled(name)]

    def _is_filled(self, name: DomainId) -> bool:
        feed = self._feeds.get(name)
        return feed is not None and feed.is_filled and feed.power is not Power.GONE

    def domains_to_join(self) -> tuple[DomainId, DomainId] | None:
        """Return the domains with which this server can join the cell: filled, and nearly as far as everybody."""
        filled = self.filled()
        u_max = self._settings.feed.refresh_updates_max
        if not self.is_joining or len(filled) < DOMAINS_TO_JOIN:
            return None
        is_near = all(self._buffer.waiting_count(self._feeds[name].cursor) <= u_max for name in filled)
        return (filled[0], filled[1]) if is_near else None

    def maybe_begin(self, now_ms: int, output: CoreOutput) -> None:
        """Boot a fresh domain if one is needed and none is under way."""
        is_expected = self.is_joining or self._renewal is not None
        if self._fresh is not None or not (self._settings.is_immediate or is_expected) or now_ms < self._not_before_ms:
            return
        if not self._needs_domain():
            self._needed_since_ms = None
            return
        if self._needed_since_ms is None:
            self._needed_since_ms = now_ms
        if not is_expected and now_ms - self._needed_since_ms < self._settings.settle_ms:
            return
        generation = max(self._cell.next_generation.get(self._server, 1), self._tried_generation + 1)
        self._tried_generation = generation
        self._fresh = domain = domain_id(self._server, generation)
        self._attempt = 0
        self._is_spare = self._renewal is not None
        self._touch(now_ms)
        self._feeds[domain] = Feed(domain, Role.STARTING, self._settings.feed, self._settings.feed.refresh_updates_max)
        output.boots.append(domain)
        output.events.append(NamedEvent("next_booting" if self._renewal else "repair_began", {"domain": domain}))

    def on_linked(self, domain: DomainId, now_ms: int, output: CoreOutput) -> None:
        """A fresh domain said Hello."""
        if domain == self._fresh:
            self._touch(now_ms)
            self._put_to_use(now_ms, output)

    def _put_to_use(self, now_ms: int, output: CoreOutput) -> None:
        """A fresh domain is there and empty: have a recovery count on it, or order the point of a repair.

        What nobody needs any more is given up.
        """
        fresh, renewal, recoveries = self._fresh, self._renewal, self._cell.recoveries
        assert fresh is not None
        if renewal is not None:
            assert recoveries.current is not None
            is_due = now_ms - self._booted_ordered_ms >= self._settings.patience_ms or not self._booted_ordered_ms
            if not renewal.fresh and not recoveries.current.point and is_due:
                self._booted_ordered_ms = now_ms
                output.proposals.append(encode_entry(NextBooted(fresh, recoveries.current.number)))
            return
        self._booted_ordered_ms = 0
        current = self._cell.state_point
        if not self._is_spare or (self._settings.is_immediate and self._needs_domain()):
            if current is None or current.gives_way or (current.kind, current.host) == (REPAIR, self._server):
                self._order_point(output)
        elif not recoveries.debt:
            self._discard(fresh, now_ms, output)

    def _discard(self, fresh: DomainId, now_ms: int, output: CoreOutput) -> None:
        if fresh not in self._cell.domains:
            self._feeds[fresh].on_gone()
            output.power.append((fresh, PowerAction.DESTROY))
            self._forget()
        elif now_ms - self._ordered_ms >= self._settings.patience_ms:
            self._ordered_ms = now_ms
            output.proposals.append(encode_entry(Stopped(fresh, "not needed any more", self._cell.sequence)))

    def _order_point(self, output: CoreOutput) -> None:
        assert self._fresh is not None
        self._is_ordered, self._is_spare = True, False
        self._ordered_ms = self._looked_ms
        self._vote = self.filling = None
        entry = RepairPoint([self._fresh], self._attempt, self._cell.sequence)
        output.proposals.append(encode_entry(entry))

    # -- the vote on the state ---------------------------------------------------------------------------------

    def on_state_wanted(self, point: StatePoint, now_ms: int) -> None:
        """A repair point was delivered."""
        is_here = point.kind == RECOVERY or (point.kind == REPAIR and point.host == self._server)
        if not is_here or self._fresh not in point.domains:
            return
        if not self._feeds[self._fresh].is_linked:
            # Not ordered in this life: a former one used the name, and what it had said was ordered late (`L9`).  Once
            # linked, this domain gets a point of its own, which takes the place of that one.
            return
        self._is_ordered = False
        if self.is_joining and not self.filled() and self._buffer.prefix < point.point - 1:
            # Nobody here needs what was before: it is in the state that the fresh domains get.
            self._buffer.restart_at(point.point - 1)
        self._vote, self.filling = StateVote(point), None
        self._is_abort_ordered = False
        self._feeds[self._fresh].await_state(point.point)
        self._touch(now_ms)

    def on_point_ended(self, point: int, output: CoreOutput) -> None:
        """The states of a recovery are given no longer: what is not filled by then is not filled from them."""
        vote, fresh = self._vote, self._fresh
        if vote is None or fresh is None or (vote.point.point, vote.point.kind) != (point, RECOVERY):
            return
        is_begun, self._vote, self.filling = self.filling is not None, None, None
        self._is_ready_ordered = False
        self._feeds[fresh].expect_nothing()
        if is_begun:
            # A part of a state is in it.
            reason = "the recovery ended before it was filled"
            output.proposals.append(encode_entry(Stopped(fresh, reason, self._cell.sequence)))

    def on_refused(self, domains: Sequence[str]) -> None:
        """A repair point was void: another point is open."""
        if self._fresh in domains:
            self._is_ordered = False

    def on_state_digests(self, report: StateDigests, output: CoreOutput) -> None:
        """A domain, here or elsewhere, has given parts of its state."""
        vote = self._vote
        if vote is None or report.point != vote.point.point or self._fresh is None:
            return
        domain, parts = DomainId(report.domain), report.part_digests
        if vote.report(domain, report.first, parts, is_complete=report.is_complete):
            self._judge(vote, output)

    def _judge(self, vote: StateVote, output: CoreOutput) -> None:
        cell = self._cell
        outcome = vote.judge(cell.threshold, cell.f_prime, cell.is_counted, self._cell.is_present)
        convict(vote, cell, output)
        # Half a state cannot be taken back.  A recovery that ends early costs a boot ahead; a repair that does, time.
        if vote.is_whole or (vote.agreed and vote.point.kind == RECOVERY):
            self._fill(vote, output)
        match outcome:
            case Diverged() | Exceeded():
                # Whatever those who have not given theirs may still say.
                self._try_again("the states that were given differ, or are too few", output)
            case _:
                pass

    def _fill(self, vote: StateVote, output: CoreOutput) -> None:
        assert self._fresh is not None
        if self.filling is None:
            self.filling = self._new_filling(vote)
        if vote.is_whole and not self.filling.is_whole:
            self.filling.is_whole = True
            data = {"domain": self._fresh, "point": vote.point.point, "parts": len(vote.agreed)}
            output.events.append(NamedEvent("repair_state_agreed", data))
        self._advance(output)

    def _new_filling(self, vote: StateVote) -> Filling:
        assert self._fresh is not None
        state_format = self._settings.feed.state_format
        return Filling(
            self._fresh, vote.point.point, state_format, vote.agreed, lambda index: vote.copies(index, self._server)
        )

    # -- filling -----------------------------------------------------------------------------------------------

    def _advance(self, output: CoreOutput) -> None:
        filling = self.filling
        if filling is None or filling.is_set:
            return
        ask_for_parts(filling, self._server, output)
        output.frames.extend((filling.domain, frame) for frame in filling.frames())

    def on_part(self, part: Part, output: CoreOutput) -> None:
        """A part was read, here or by a peer."""
        filling = self.filling
        if filling is None or part.point != filling.point or not filling.is_asked(part.index, DomainId(part.domain)):
            return
        if not take_part(filling, part, output) and filling.has_tried_all:
            self._try_again("no copy of the agreed state can be read", output)
            return
        self._advance(output)

    def on_frame(self, domain: DomainId, frame: Pong | StateSet, output: CoreOutput) -> None:
        """The fresh domain answered.

        Raises:
            FeedMisuse: it was not asked that.
        """
        filling = self.filling
        if filling is None or filling.domain != domain:
            raise FeedMisuse(f"sent {type(frame).__name__} without being asked")
        expected = filling.on_pong(frame.token) if isinstance(frame, Pong) else filling.on_set(frame.point)
        if not expected:
            raise FeedMisuse(f"sent {frame} out of turn")
        if filling.is_set:
            self._feeds[domain].on_filled()
        self._advance(output)
        self._maybe_order_ready(output)

    def _maybe_order_ready(self, output: CoreOutput) -> None:
        filling = self.filling
        if filling is None or not filling.is_set or self._is_ready_ordered or self._buffer.prefix < filling.point - 1:
            return
        if not self._feeds[filling.domain].is_state_durable or self._awaits_donors():
            return
        self._is_ready_ordered = True
        output.proposals.append(encode_entry(DomainReady(filling.domain, filling.point, self._cell.sequence)))

    def _awaits_donors(self) -> bool:
        """Whether a donor may still turn out to be wrong: before the `Switch` of a recovery all have been compared.

        Source: design "Resilient" (`L10` of its list of traps: a domain proven wrong must not become active).
        """
        vote = self._vote
        if vote is None or vote.point.kind != RECOVERY:
            return False
        records = (self._cell.domains[domain] for domain in vote.missing if self._cell.is_present(domain))
        return any(not record.suspicion for record in records)

    # -- ends --------------------------------------------------------------------------------------------------

    def on_role_changed(self, domain: DomainId, role: Role, output: CoreOutput) -> None:
        """A role is new; if it is the fresh domain's, the repair has ended."""
        if domain != self._fresh:
            vote = self._vote
            if vote is not None and role is Role.RETIRED and domain in vote.point.donors:
                self._judge(vote, output)  # it gives nothing any more
            return
        if role is Role.STARTING:
            return
        if role is not Role.RETIRED:
            self._backoff_ms = BACKOFF_MS_MIN
            output.events.append(NamedEvent("repaired", {"domain": domain}))
        self._forget()

    def on_filled(self, domain: DomainId, output: CoreOutput) -> None:
        """The cell knows that a fresh domain of this server, which waits for its role, holds its state."""
        if domain == self._fresh:
            self._backoff_ms = BACKOFF_MS_MIN
            output.events.append(NamedEvent("repaired" if self.is_joining else "next_filled", {"domain": domain}))
            self._forget()

    def on_gone(self, domain: DomainId, now_ms: int) -> None:
        """A domain ended; if it is the fresh one another is tried after a while."""
        if domain == self._fresh:
            self._back_off(now_ms)
            if domain not in self._cell.domains:
                self._forget()  # no entry will tell

    def has_announced(self, domain: DomainId) -> bool:
        """Whether an entry that tells the cell of this fresh domain is on its way."""
        return domain == self._fresh and self._is_ordered

    def _back_off(self, now_ms: int) -> None:
        self._not_before_ms = now_ms + self._backoff_ms
        self._backoff_ms = min(BACKOFF_MS_MAX, 2 * self._backoff_ms)

    def _forget(self) -> None:
        self._fresh = self._vote = self.filling = None
        self._is_ordered = self._is_ready_ordered = self._is_abort_ordered = False
        self._booted_ordered_ms = 0

    def _try_again(self, reason: str, output: CoreOutput) -> None:
        assert self._fresh is not None
        domain, self._attempt = self._fresh, self._attempt + 1
        data = {"domain": domain, "attempt": self._attempt, "reason": reason}
        if (
            self._vote is not None
            and self._vote.point.kind == RECOVERY
            and (self.filling is None or self.filling.waits_for_votes)
        ):
            self._abort_recovery(reason, output)
            return
        output.events.append(NamedEvent("repair_retried", data))
        if self._attempt >= ATTEMPTS_MAX or self.filling is not None:
            # Part of a state may be in it already.
            self._back_off(self._looked_ms)
            output.proposals.append(encode_entry(Stopped(domain, f"repair failed: {reason}", self._cell.sequence)))
            return
        self._order_point(output)

    def _abort_recovery(self, reason: str, output: CoreOutput) -> None:
        """No state is agreed on: the next recovery, which compares more of them, will find out who is wrong."""
        current = self._cell.recoveries.current
        if current is not None and not self._is_abort_ordered:
            self._is_abort_ordered = True
            output.proposals.append(encode_entry(RecoveryAborted(current.number, reason)))

    # -- time --------------------------------------------------------------------------------------------------

    def _touch(self, now_ms: int) -> None:
        self._moved_ms = now_ms

    def on_timer(self, now_ms: int, output: CoreOutput) -> None:
        """A tick: begin what is needed, and look whether what is under way moves."""
        self._looked_ms = now_ms
        if self.is_joining:
            self._give_up_former(output)
        self._maybe_start_over(now_ms, output)
        self.maybe_begin(now_ms, output)
        if self._fresh is None or self._feeds[self._fresh].power is Power.STARTING:
            self._touch(now_ms)  # the boot has its own time limit
            return
        if self._vote is None and not self._is_ordered:
            self._put_to_use(now_ms, output)
        self._maybe_order_ready(output)
        if self._fresh is None:
            return
        if self._is_waiting():
            self._touch(now_ms)
            return
        moved = (
            self._attempt,
            self._is_ordered,
            None if self._vote is None else (self._vote.missing, self._vote.part_count),
            None if self.filling is None else self.filling.moved,
            self._cell.open_point,
        )
        if moved != self._moved:
            self._moved = moved
            self._touch(now_ms)
        elif now_ms - self._moved_ms >= self._settings.patience_ms:
            self._touch(now_ms)
            self._on_standstill(output)

    def _give_up_former(self, output: CoreOutput) -> None:
        """Fresh domains of a former life of this server, which was about to join then too.

        Again and again: a server in no quorum has others order this, and its message may be lost.
        """
        for record in self._cell.domains_of(self._server):
            if record.role is not Role.STARTING or record.domain in self._feeds:
                continue
            if self._looked_ms >= self._given_up_ms.get(record.domain, self._looked_ms):
                self._given_up_ms[record.domain] = self._looked_ms + self._settings.patience_ms
                output.proposals.append(encode_entry(Stopped(record.domain, "given up", self._cell.sequence)))

    def _maybe_start_over(self, now_ms: int, output: CoreOutput) -> None:
        """A server that is to join can only begin anew if it misses a value which the others have dropped.

        Also if its point was not ordered: its message was lost, or is late, and another one would come too late then.
        """
        if self.is_joining and self._is_ordered and now_ms - self._ordered_ms >= self._settings.patience_ms:
            self._ordered_ms = now_ms
            self._start_over("its repair point was not ordered", output)
        is_behind = self.is_joining and bool(self.filled()) and self._buffer.prefix < self._cell.sequence
        if not is_behind or self._buffer.prefix != self._prefix_seen:
            self._prefix_seen, self._prefix_seen_ms = self._buffer.prefix, now_ms
        elif now_ms - self._prefix_seen_ms >= self._settings.patience_ms:
            self._prefix_seen_ms = now_ms
            self._start_over("a value is missing that the others have dropped", output)

    def on_skipped(self, output: CoreOutput) -> None:
        """A snapshot took this learner over a part of the order, its own repair point perhaps.

        A domain that is filled, or about to be, would miss the updates between, and nothing would show it.
        """
        if self._is_ordered or any(feed.holds_the_log for feed in self._feeds.values()):
            self._start_over("a part of the order was skipped", output)

    @staticmethod
    def _start_over(reason: str, output: CoreOutput) -> None:
        output.events.append(NamedEvent("learner_gave_up", {"reason": reason}))
        output.must_rejoin = True

    def _is_waiting(self) -> bool:
        """Whether others have to go on first: it is no fault of those who take part in this repair."""
        if self._vote is None:
            # The point is on its way through agreement, or another server's is open.  Ordered once more it would come
            # when the domain holds the state of the first one.
            return True
        # While an earlier number is open no sleeper can be at the point.
        return self._buffer.prefix < self._vote.point.point - 1

    def _on_standstill(self, output: CoreOutput) -> None:
        filling = self.filling
        if filling is not None:
            if filling.is_set and self._awaits_donors():
                self._suspect_missing(output)
                return
            if filling.is_set:
                # Only the order is missing: of a server in no quorum the message to others may be lost.
                self._is_ready_ordered = self._is_ready_ordered and not self.is_joining
                return
            if filling.waits_for_votes:
                self._suspect_missing(output)
                self._try_again("states do not come in time", output)
            elif not filling.waits_for_giver:
                self._try_again("the fresh domain does not take its state in", output)
            elif filling.has_tried_all:
                self._try_again("no copy of the agreed state can be read", output)
            else:
                filling.change_giver()
                self._advance(output)
            return
        self._suspect_missing(output)
        self._try_again("states do not come in time", output)

    def _suspect_missing(self, output: CoreOutput) -> None:
        for domain in () if self._vote is None else filter(self._cell.is_present, self._vote.missing):
            entry = Suspected(domain, "it does not give its state in time", self._cell.sequence)
            output.proposals.append(encode_entry(entry))
