"""From votes to the stable prefix.

Source: SPARE §4.3.2; design "Execution and voting".
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.roles import Role
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import DomainId
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.vote_count import Diverged, Exceeded, Stable, VoteOutcome, count_votes, vote_digest

EARLY_VOTES_MAX = 100_000
"""Votes on numbers not delivered here yet; above that they are dropped, and peers send theirs again."""


class Contradiction(NamedTuple):
    """A domain's vote differs from the stable digest, or from its own earlier vote."""

    domain: DomainId
    sequence: int
    kind: str
    """`differs` or `equivocates`."""


class Verdict(NamedTuple):
    """A vote ended without a stable digest."""

    sequence: int
    kind: str
    """`diverged`: active domains disagree; `short`: too few can vote; `exceeded`: more than `f'` are faulty."""


class Voter:
    """Counts the votes of all domains on every open number and extends the stable prefix."""

    def __init__(
        self,
        cell: CellState,
        requests: RequestLog,
        buffer: UpdateBuffer,
        on_complete: Callable[[RequestRecord], None],
        on_finding: Callable[[Contradiction | Verdict], None],
        on_lag: Callable[[int], None] = lambda _lag_ms: None,
    ) -> None:
        """Make a voter over the given records.

        Args:
            cell: whose votes count, `T` and `f'`.
            requests: the records that hold the votes.
            buffer: takes the updates of the stable prefix.
            on_complete: called once per number when it is stable and its value is here.
            on_finding: called for contradictions and for votes that cannot end.
            on_lag: called with how long after the first vote that of another domain, active all along, came, in ms.
        """
        self._cell = cell
        self._requests = requests
        self._buffer = buffer
        self._on_complete = on_complete
        self._on_finding = on_finding
        self._on_lag = on_lag
        self.now_ms = 0
        """Monotonic time of the input that is being handled; its owner keeps it."""
        self._early: dict[int, dict[DomainId, bytes]] = {}
        self._early_notices: dict[int, bytes] = {}
        self._early_count = 0
        self.early_votes_dropped = 0
        self.on_prefix: Callable[[RequestRecord], None] | None = None
        """Called once per request, in order, when the prefix reaches it; its stable value is still there."""
        self.on_value_missing: Callable[[RequestRecord], None] = lambda _record: None
        """Called when a request becomes stable and its value is not here."""

    @property
    def early_vote_count(self) -> int:
        """Votes that wait for the delivery of their entry."""
        return self._early_count

    def on_delivered(self, sequence: int) -> None:
        """The record of `sequence` is there: count votes that came before it, and pass commands."""
        for domain, digest in self._early.pop(sequence, {}).items():
            self._early_count -= 1
            self.record_vote(domain, sequence, digest)
        notice = self._early_notices.pop(sequence, None)
        if notice is not None:
            self.record_notice(sequence, notice)
        if self._requests.get(sequence) is None:
            self.advance_prefix()

    def restart_after(self, sequence: int) -> None:
        """Entries up to `sequence` will not be delivered here: what waits for them is not needed."""
        for early in [early for early in self._early if early <= sequence]:
            self._early_count -= len(self._early.pop(early))
        for noticed in [noticed for noticed in self._early_notices if noticed <= sequence]:
            del self._early_notices[noticed]

    def record_value(self, record: RequestRecord, digest: bytes, reply: bytes, update: bytes) -> None:
        """Keep a value whose digest was computed here."""
        record.values[digest] = (reply, update)
        if record.stable_digest == digest:
            self._complete(record)

    def record_votes(self, domain: DomainId, sequences: Sequence[int], digests: bytes) -> None:
        """Count a peer's batch of votes."""
        for index, sequence in enumerate(sequences):
            self.record_vote(domain, sequence, digests[32 * index : 32 * index + 32])

    def record_vote(self, domain: DomainId, sequence: int, digest: bytes) -> None:
        """Count one vote; a repeated one changes nothing."""
        record = self._requests.get(sequence)
        if record is None:
            if sequence > self._requests.last:
                self._keep_early(domain, sequence, digest)
            return
        votes = record.votes
        if record.is_settled:
            votes[domain] = digest
            return
        earlier = votes.get(domain)
        if earlier is not None:
            if earlier != digest:
                record.is_contested = True
                self._on_finding(Contradiction(domain, sequence, "equivocates"))
            return
        if votes:
            self._note_lag(domain, record)
        else:
            record.first_vote_ms = self.now_ms
        votes[domain] = digest
        if record.stable_digest is not None:
            self._maybe_contradict(record, domain, digest)
        elif record.is_contested or record.is_frozen or not self._agree(votes, digest):
            self._count(record)
        elif len(votes) >= self._cell.threshold:
            self._make_stable(record, digest, ())

    def _note_lag(self, domain: DomainId, record: RequestRecord) -> None:
        # Who was activated for this number comes late by the stall itself: each one would double the next one's limit.
        known = self._cell.domains.get(domain)
        if known is not None and known.role is Role.ACTIVE and known.since < record.sequence:
            self._on_lag(self.now_ms - record.first_vote_ms)

    def _maybe_contradict(self, record: RequestRecord, domain: DomainId, digest: bytes) -> None:
        # Who executed a request that was skipped later did nothing wrong.
        if record.stable_digest != digest and not record.is_skipped:
            record.is_contested = True
            self._on_finding(Contradiction(domain, record.sequence, "differs"))

    def _agree(self, votes: dict[DomainId, bytes], digest: bytes) -> bool:
        """Whether all votes are counted and for `digest`: the common case, decided without a full count."""
        return all(other == digest and self._cell.is_counted(domain) for domain, other in votes.items())

    def _keep_early(self, domain: DomainId, sequence: int, digest: bytes) -> None:
        votes = self._early.get(sequence)
        if votes is not None and domain in votes:
            return  # sent again, for want of an answer
        if self._early_count >= EARLY_VOTES_MAX:
            self.early_votes_dropped += 1
            return
        self._early.setdefault(sequence, {})[domain] = digest
        self._early_count += 1

    def counted_votes(self, record: RequestRecord) -> dict[DomainId, bytes]:
        """Return the votes that count, by domain."""
        return {domain: digest for domain, digest in record.votes.items() if self._cell.is_counted(domain)}

    def outcome_of(self, record: RequestRecord) -> VoteOutcome:
        """Judge the votes on a number as they are now."""
        counted = self.counted_votes(record)
        active, passive = self._silent(Role.ACTIVE, counted), self._silent(Role.PASSIVE, counted)
        return count_votes(counted, self._cell.threshold, self._cell.f_prime, active, passive)

    def _count(self, record: RequestRecord) -> None:
        if record.is_frozen:
            return
        outcome = self.outcome_of(record)
        record.is_contested = len(set(self.counted_votes(record).values())) > 1
        match outcome:
            case Stable(digest=digest, dissenters=dissenters):
                self._make_stable(record, digest, dissenters)
            case Diverged():
                # Equal votes that are too few, after a departure, contradict nobody; but more voters are needed.
                self._on_finding(Verdict(record.sequence, "diverged" if record.is_contested else "short"))
            case Exceeded():
                record.is_contested = True
                self._on_finding(Verdict(record.sequence, "exceeded"))
            case _:
                pass

    def _silent(self, role: Role, votes: dict[DomainId, bytes]) -> int:
        return sum(1 for domain in self._cell.domains_in(role) if domain.domain not in votes)

    def _make_stable(self, record: RequestRecord, digest: bytes, dissenters: Sequence[DomainId]) -> None:
        record.stable_digest = digest
        for domain in dissenters:
            record.is_contested = True
            self._on_finding(Contradiction(domain, record.sequence, "differs"))
        if digest in record.values:
            self._complete(record)
        else:
            self.on_value_missing(record)

    def record_skip(self, record: RequestRecord) -> None:
        """An operator skipped the number, and every server consented: it has no reply and no update."""
        digest = vote_digest(b"", b"")
        record.is_skipped = True
        record.is_frozen = record.is_held = False
        record.values = {digest: (b"", b"")}
        self._make_stable(record, digest, ())

    def record_notice(self, sequence: int, digest: bytes) -> None:
        """A peer has `sequence` stable; its manager is trusted."""
        record = self._requests.get(sequence)
        if record is None:
            if sequence > self._requests.last and len(self._early_notices) < EARLY_VOTES_MAX:
                self._early_notices[sequence] = digest
        elif record.is_settled or record.is_frozen:
            return  # if it is not skipped after all, the peer says it again
        elif record.stable_digest is None:
            dissenters = [domain for domain, vote in record.votes.items() if vote != digest]
            self._make_stable(record, digest, dissenters)
        elif record.stable_digest != digest:
            # Two servers believed different domains: more than f faults.  Nothing can be taken back, but be said.
            self._on_finding(Verdict(sequence, "exceeded"))

    def recount(self) -> None:
        """`f'`, `T`, roles or counted domains changed: judge every open number again."""
        for record in list(self._requests.records(self._buffer.prefix + 1)):
            if record.stable_digest is None and record.votes and not record.is_settled:
                self._count(record)

    def _complete(self, record: RequestRecord) -> None:
        if not record.is_complete:
            record.is_complete = True
            self._on_complete(record)
            self.advance_prefix()

    def advance_prefix(self) -> None:
        """Take every update that is next in order into the buffer."""
        sequence = self._buffer.prefix + 1
        while sequence <= self._requests.last:
            record = self._requests.get(sequence)
            if record is None:
                self._buffer.take_in(sequence, b"")
            elif record.is_complete and record.stable_digest is not None:
                self._buffer.take_in(sequence, record.values[record.stable_digest][1])
                if self.on_prefix is not None:
                    self.on_prefix(record)
            else:
                return
            sequence += 1

    def wanting_value(self, limit: int) -> list[RequestRecord]:
        """Return open numbers, oldest first, that are stable but whose value is not here."""
        found: list[RequestRecord] = []
        for record in self._requests.records(self._buffer.prefix + 1):
            if record.stable_digest is not None and not record.is_complete:
                found.append(record)
                if len(found) >= limit:
                    break
        return found
