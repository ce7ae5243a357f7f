"""Stalls, rounds, offers, convictions and suspicions of one server.

Source: SPARE §4.4.2, §4.4.3; design "Noticing", "Stalled verification", "More rounds, and more than f faults".
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RoundOpened
from replica_manager.cell.entries import Convicted, Demote, Offer, Promote, Stalled, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed, Power
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.faults.role_plan import plan_roles
from replica_manager.faults.stall_clock import StallClock
from replica_manager.identifiers import DomainId
from replica_manager.peer_messages import StableNotice, Votes
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.vote_count import Diverged, Exceeded
from replica_manager.voting.voter import Contradiction, Voter

ALERT_SHARE = 0.5
"""Share of the stall limit after which sleepers are woken ahead: resuming them runs in parallel with ordering."""


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """Times of fault handling."""

    stall_start_ms: int
    stall_max_ms: int
    offer_delay_ms: int = 3
    """A server whose active domain has contributed lets others offer first."""
    activation_ms: int = 2_000
    """Nobody is late for so long after a domain was activated: it has to wake, and to catch up, before it can vote.
    An emulated machine takes a second for that; without this it would be suspected, replaced, and the next one too."""
    plan_delay_ms: int = 500
    """Roles must have been quiet for so long before the planner acts."""
    extra_active: int = 0
    """Active domains wanted beyond `T`, for services whose replicas are slow at times."""


class FaultHandling:
    """What one server does when votes do not end."""

    def __init__(
        self,
        server: int,
        settings: FaultSettings,
        cell: CellState,
        requests: RequestLog,
        buffer: UpdateBuffer,
        feeds: Mapping[DomainId, Feed],
        voter: Voter,
    ) -> None:
        """Watch these; nothing is wrong yet."""
        self._server = server
        self._settings = settings
        self._cell = cell
        self._requests = requests
        self._buffer = buffer
        self._feeds = feeds
        self._voter = voter
        self.clock = StallClock(settings.stall_start_ms, settings.stall_max_ms)
        self._looked_ms = 0
        self._patient_until_ms = 0
        self._stalls: dict[int, _Stall] = {}
        self._convicting: set[DomainId] = set()
        self._offer_due_ms: dict[DomainId, int] = {}
        self._offered: tuple[int, set[DomainId]] = (0, set())
        self._ahead: tuple[int, set[DomainId]] = (0, set())
        self._roles_seen = (0, 0)
        self._planned_at = -1

    # -- what voting finds -------------------------------------------------------------------------------------

    def on_contradiction(self, finding: Contradiction, output: CoreOutput) -> None:
        """A vote differs from the stable one, or a domain voted twice: that is proof."""
        if finding.domain in self._convicting or not self._cell.is_counted(finding.domain):
            return
        self._convicting.add(finding.domain)
        reason = f"its vote on {finding.sequence} {finding.kind}"
        entry = Convicted(finding.domain, finding.sequence, reason, self._cell.sequence)
        output.proposals.append(encode_entry(entry))

    def lowest_open(self) -> RequestRecord | None:
        """Return the lowest number that is not stable here."""
        for record in self._requests.records(self._buffer.prefix + 1):
            if record.stable_digest is None:
                return record
        return None

    # -- stalls ------------------------------------------------------------------------------------------------

    def look(self, now_ms: int, output: CoreOutput) -> None:
        """Look at the lowest open number; after every input that may have changed it, and on every tick."""
        record = self.lowest_open()
        if record is None:
            self.clock.watch(0, now_ms, has_vote=False)
            self._stalls.clear()
            self._set_alert(self._lacks_voters(), output)
            return
        self.clock.watch(record.sequence, now_ms, has_vote=bool(record.votes))
        outcome = self._voter.outcome_of(record)
        is_deadly = record.deadly_at > 0 and not record.votes
        if isinstance(outcome, Exceeded) or record.is_held or record.is_frozen or is_deadly:
            # More than f' faults, perhaps: activating more domains can only lose their state.
            self._set_alert(False, output)
            return
        share = self.clock.share(now_ms)
        is_late = share >= 1 and now_ms >= self._patient_until_ms
        has_diverged = isinstance(outcome, Diverged)
        self._set_alert(has_diverged or share >= ALERT_SHARE or self._lacks_voters(), output)
        if has_diverged or is_late:
            self._note_stall(record, now_ms, has_diverged, output)
            self._maybe_stall(record, now_ms, is_late, has_diverged, output)

    def on_activated(self, now_ms: int) -> None:
        """A domain is active from now on; it cannot vote at once."""
        self._patient_until_ms = now_ms + self._settings.activation_ms

    def _lacks_voters(self) -> bool:
        """Whether too few domains are active.

        Asked of the order alone: a sleeper that is woken as soon as a local domain has died would be activated by a
        request that kills, before the ends that reveal it are ordered.
        """
        return len(self._cell.domains_in(Role.ACTIVE)) < self._cell.threshold

    def _note_stall(self, record: RequestRecord, now_ms: int, has_diverged: bool, output: CoreOutput) -> None:
        if record.stalled_ms is None:
            record.stalled_ms = now_ms
            output.events.append(NamedEvent("stall_began", {"sequence": record.sequence, "diverged": has_diverged}))

    def _set_alert(self, is_alert: bool, output: CoreOutput) -> None:
        for feed in self._feeds.values():
            is_wanted = is_alert and feed.role is Role.PASSIVE
            if is_wanted and feed.is_linked and not feed.is_alert:
                output.events.append(NamedEvent("sleeper_alerted", {"domain": feed.domain}))
            feed.is_alert = is_wanted

    def _maybe_stall(
        self, record: RequestRecord, now_ms: int, is_late: bool, has_diverged: bool, output: CoreOutput
    ) -> None:
        stall = self._stalls.get(record.sequence)
        if stall is None:
            self._stalls = {record.sequence: _Stall()}  # one `Stalled` stands for all higher numbers too
            stall = self._stalls[record.sequence]
        current = self._cell.round
        is_answered = current is not None and current.is_complete and current.opened_at >= stall.round_from
        if now_ms < stall.due_ms and not (has_diverged and is_answered):
            return
        stall.attempts += 1
        stall.round_from = self._cell.sequence + 1
        stall.due_ms = now_ms + min(self._settings.stall_max_ms, self.clock.limit_ms << min(stall.attempts - 1, 8))
        self._order_stalled(record, is_late, output)

    def _order_stalled(self, record: RequestRecord, is_late: bool, output: CoreOutput) -> None:
        """Ask for as many domains as are needed: if votes only diverge, those that are still to come may agree."""
        votes = self._voter.counted_votes(record)
        matching = max(Counter(votes.values()).values(), default=0)
        silent = sum(1 for active in self._cell.domains_in(Role.ACTIVE) if active.domain not in votes)
        count = max(1, self._cell.threshold - matching - (0 if is_late else silent))
        stalled = Stalled(record.sequence, self._cell.sequence, sorted(votes), count, is_late)
        output.proposals.append(encode_entry(stalled))
        data = {"sequence": record.sequence, "contributed": sorted(votes), "count": count, "late": is_late}
        output.events.append(NamedEvent("vote_stalled", data))
        is_searching = self._cell.round is not None and not self._cell.round.is_complete
        if not is_searching and all(active.domain in votes for active in self._cell.domains_in(Role.ACTIVE)):
            self._offer_ahead(output)

    # -- rounds ------------------------------------------------------------------------------------------------

    def on_round_opened(self, effect: RoundOpened, now_ms: int, output: CoreOutput) -> None:
        """Help to end the stall: votes again, what is stable here, or a domain."""
        for stall in self._stalls.values():
            # Whoever ordered it: this round has its time.
            stall.due_ms = max(stall.due_ms, now_ms + self.clock.limit_ms)
        record = self._requests.get(effect.sequence) if effect.sequence else self.lowest_open()
        if record is not None and record.stable_digest is None:
            self._note_stall(record, now_ms, False, output)
        if self._lacks_voters() and not (record is not None and record.is_held):
            self._set_alert(True, output)  # waking them runs in parallel with ordering their offers
        self._send_again(effect, output)
        own_active = [feed.domain for feed in self._feeds.values() if feed.role is Role.ACTIVE]
        has_contributed = any(domain in effect.contributed for domain in own_active)
        may_wait = has_contributed if effect.sequence else bool(own_active)
        delay_ms = self._settings.offer_delay_ms if may_wait else 0
        self._offer_due_ms = dict.fromkeys(self._feeds, now_ms + delay_ms)
        if self._ahead[0] == effect.round_number:
            # Only if the one that was ordered ahead is lost, and before the next round may be due.
            self._offer_due_ms |= dict.fromkeys(self._ahead[1], now_ms + self.clock.limit_ms // 2)
        self.offer(now_ms, output)

    def _send_again(self, effect: RoundOpened, output: CoreOutput) -> None:
        record = self._requests.get(effect.sequence)
        if record is None:
            return
        # A skip is no result: who has not delivered it yet would answer its client with it.
        if record.stable_digest is not None and not record.is_skipped:
            output.broadcasts.append(StableNotice([record.sequence], record.stable_digest))
        for domain in self._feeds:
            vote = record.votes.get(domain)
            if vote is not None and domain not in effect.contributed:
                output.broadcasts.append(Votes(domain, [record.sequence], vote))

    def _wants_offers(self) -> bool:
        current = self._cell.round
        if current is None or current.is_complete:
            return False
        if len(self._cell.domains_in(Role.ACTIVE)) < self._cell.threshold:
            return True  # also in a round for a number that is stable by now: no other one is opened while it is open
        if current.sequence == 0:
            return False
        record = self._requests.get(current.sequence)
        return record is not None and record.stable_digest is None and not record.is_held

    def _offer_ahead(self, output: CoreOutput) -> None:
        """Offer this server's clean sleepers in the round that was just asked for, before it is opened.

        Both entries are ordered in one go, which saves the time that ordering takes, once.  Only if all have voted, so
        that nobody is to be let offer first.  If another entry opens the round of this number, the offer holds for that
        one; if none does or the offer is ordered first, it is void, and made again when the round is there.  Not done
        for a domain that died: the request may kill others too, and sleepers must not meet it in haste.
        """
        number = self._cell.rounds.opened_count + 1
        if self._ahead[0] == number:
            return
        clean = [domain for domain in self._able_sleepers() if not self._cell.domains[domain].suspicion]
        self._ahead = (number, set(clean))
        for domain in clean:
            self._order_offer(domain, number, output)

    def _order_offer(self, domain: DomainId, round_number: int, output: CoreOutput) -> None:
        output.proposals.append(encode_entry(Offer(domain, round_number, self._cell.sequence)))
        output.events.append(NamedEvent("offer_ordered", {"domain": domain, "round": round_number}))

    def _able_sleepers(self) -> list[DomainId]:
        return [
            feed.domain
            for feed in self._feeds.values()
            if feed.role is Role.PASSIVE
            and feed.power is not Power.GONE
            and feed.is_linked
            and feed.domain in self._cell.domains
        ]

    def offer(self, now_ms: int, output: CoreOutput) -> None:
        """Offer this server's sleepers in the current round, each once, when it is their time."""
        current = self._cell.round
        if current is None or not self._wants_offers():
            return
        if self._offered[0] != current.number:
            self._offered = (current.number, set())
        for domain, due_ms in self._offers_due(now_ms):
            if now_ms >= due_ms:
                self._offered[1].add(domain)
                self._order_offer(domain, current.number, output)

    def _offers_due(self, now_ms: int) -> list[tuple[DomainId, int]]:
        due = []
        has_clean = any(record.is_clean_passive for record in self._cell.domains_in(Role.PASSIVE))
        for domain in self._able_sleepers():
            if domain in self._offered[1]:
                continue
            # A suspected one is better than none, but only when no other came forward; and it must come before the
            # next round, which may be due after `limit_ms` and would have it wait again.
            is_second_choice = bool(self._cell.domains[domain].suspicion) and has_clean
            patience_ms = self.clock.limit_ms // 2 if is_second_choice else 0
            due.append((domain, self._offer_due_ms.get(domain, now_ms) + patience_ms))
        return due

    def next_due_ms(self, now_ms: int) -> int | None:
        """Return when `on_timer` has something to do that cannot wait for the next tick."""
        if not self._wants_offers():
            return None
        return min((due_ms for _, due_ms in self._offers_due(now_ms)), default=None)

    # -- time --------------------------------------------------------------------------------------------------

    def on_timer(self, now_ms: int, output: CoreOutput) -> None:
        """A tick."""
        if self._looked_ms and now_ms - self._looked_ms > self.clock.limit_ms // 2:
            self.clock.restart(now_ms)
        self._looked_ms = now_ms
        self.look(now_ms, output)
        self.offer(now_ms, output)
        self._plan(now_ms, output)

    def _plan(self, now_ms: int, output: CoreOutput) -> None:
        """On the lowest live server, order the next step back to normal when roles have been quiet for a while."""
        changed_at = self._cell.roles_changed_at
        if self._roles_seen[0] != changed_at:
            self._roles_seen = (changed_at, now_ms)
        is_quiet = now_ms - self._roles_seen[1] >= self._settings.plan_delay_ms
        if self._server != min(self._cell.live_servers) or not is_quiet or self._planned_at == self._cell.sequence:
            return
        active, passive = self._cell.lasting, self._cell.domains_in(Role.PASSIVE)
        step = plan_roles(active, passive, self._cell.threshold, self._settings.extra_active, self._newest_voters())
        if step is None or (not step.is_promotion and self._is_stalled()):
            return
        self._planned_at = self._cell.sequence
        self._roles_seen = (changed_at, now_ms)
        kind = Promote if step.is_promotion else Demote
        output.proposals.append(encode_entry(kind(step.domain, self._cell.sequence)))
        data = {"domain": step.domain, "to": "active" if step.is_promotion else "passive", "reason": step.reason}
        output.events.append(NamedEvent("role_planned", data))

    def _is_stalled(self) -> bool:
        """Whether a number waits for votes: who was activated for it must not go before it could vote on it.

        A machine may take longer to wake and to execute than roles are quiet before the next step: without this it is
        demoted, offered in the next round, and demoted again.
        """
        record = self.lowest_open()
        return record is not None and record.stalled_ms is not None and not record.is_held

    def _newest_voters(self) -> set[DomainId] | None:
        """Return who has voted on the newest stable number that is kept; None: none is."""
        for sequence in range(self._requests.last, self._requests.first - 1, -1):
            record = self._requests.get(sequence)
            if record is not None and record.stable_digest is not None:
                return set(record.votes)
        return None


@dataclass(slots=True)
class _Stall:
    """What was ordered about the lowest open number."""

    attempts: int = 0
    due_ms: int = 0
    """When the next `Stalled` may be ordered, unless the round was answered and votes still diverge."""
    round_from: int = 0
    """A round opened from this position on answers the newest attempt."""
