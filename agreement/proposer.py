"""What a leader proposes: entries in the order of their numbers, batches cut by size, few slots in flight.

Source: Lamport, "Paxos Made Simple" (2001), sections 2.2 (phase 1 and 2) and 3 (gaps filled with no-ops);
design "Agreement stage", A2.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from agreement.changes import EMPTY_BATCH, EMPTY_BATCH_RAW, Batch, Change, Entry, decode_batch, encode_batch
from agreement.identifiers import Ballot, MemberId, number_follows
from agreement.log import LogState, fold
from agreement.messages import Promise, VoteReport
from agreement.settings import AgreementSettings


class Proposal(NamedTuple):
    """A batch for a slot."""

    slot: int
    raw: bytes
    batch: Batch


class _Pieces:
    """The pieces of one member's promise that have arrived."""

    def __init__(self, decided: int, parts: int) -> None:
        self.decided = decided
        self.parts = parts
        self.votes: dict[int, tuple[VoteReport, ...]] = {}

    @property
    def is_complete(self) -> bool:
        return len(self.votes) == self.parts


class Campaign:
    """Phase 1 of one ballot: promises, and the votes reported with them."""

    def __init__(self, ballot: Ballot, started_ms: int) -> None:
        self.ballot = ballot
        self.started_ms = started_ms
        self.asked_ms = started_ms
        self._promises: dict[MemberId, _Pieces] = {}

    def record_promise(self, member: MemberId, promise: Promise) -> None:
        """Keep a piece; pieces of a promise said again with another `decided` replace the former ones."""
        pieces = self._promises.get(member)
        if pieces is None or (pieces.decided, pieces.parts) != (promise.decided, promise.parts):
            pieces = self._promises[member] = _Pieces(promise.decided, promise.parts)
        pieces.votes[promise.part] = promise.votes

    @property
    def promised(self) -> set[MemberId]:
        """The members whose promise is complete."""
        return {member for member, pieces in self._promises.items() if pieces.is_complete}

    @property
    def decided(self) -> tuple[int, MemberId | None]:
        """The highest slot up to which a promising member knows everything decided, and that member.

        That member reported no votes up to there, so the candidate must have those slots before it proposes.
        """
        known = [(pieces.decided, member) for member, pieces in self._promises.items() if pieces.is_complete]
        return max(known, default=(-1, None))

    def proposals(self, first_slot: int) -> list[Proposal]:
        """What must be proposed from `first_slot` on: per slot the batch of the highest ballot, or an empty one.

        Ends at the first change, since everything above it is void.
        """
        newest: dict[int, VoteReport] = {}
        for pieces in self._promises.values():
            if pieces.is_complete:
                _keep_newest(newest, pieces.votes.values())
        proposals: list[Proposal] = []
        for slot in range(first_slot, max(newest, default=-1) + 1):
            report = newest.get(slot)
            raw = EMPTY_BATCH_RAW if report is None else report.batch
            batch = EMPTY_BATCH if report is None else decode_batch(raw)
            proposals.append(Proposal(slot, raw, batch))
            if batch.change is not None:
                break
        return proposals


def _keep_newest(newest: dict[int, VoteReport], parts: Iterable[tuple[VoteReport, ...]]) -> None:
    for votes in parts:
        for vote in votes:
            known = newest.get(vote.slot)
            if known is None or vote.ballot > known.ballot:
                newest[vote.slot] = vote


class Proposer:
    """Phase 2 of one ballot: what waits, and what is in flight."""

    def __init__(
        self,
        ballot: Ballot,
        state: LogState,
        inherited: list[Proposal],
        settings: AgreementSettings,
        admit: Callable[[bytes], bytes] | None,
    ) -> None:
        """Begin after phase 1, which demands the proposals `inherited`."""
        self.ballot = ballot
        self.first = state.next_slot
        self.next_slot = state.next_slot + len(inherited)
        self.in_flight: dict[int, Proposal] = {proposal.slot: proposal for proposal in inherited}
        self.change: Change | None = inherited[-1].batch.change if inherited else None
        """The change that ends this configuration, once proposed: nothing is proposed above it."""
        self._settings = settings
        self._admit = admit
        self._waiting: deque[Entry] = deque()
        self._incarnations: Mapping[int, int] = dict(state.configuration.servers)
        self._last_numbers = _last_numbers(state, inherited)
        self._early: dict[int, dict[int, Entry]] = {}

    @property
    def waiting_count(self) -> int:
        """Entries that wait for a slot."""
        return len(self._waiting)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take entries of one or more origins: the next number waits for a slot, an early one for its predecessor.

        A duplicate, or an entry of a server that is not in the configuration, is dropped.
        """
        last_numbers, incarnations, waiting = self._last_numbers, self._incarnations, self._waiting
        for entry in entries:
            server, number = entry.server, entry.number
            last = last_numbers.get(server, 0)
            if incarnations.get(server) != entry.incarnation:
                continue
            if number == last + 1 or number_follows(number, last):
                last_numbers[server] = number
                waiting.append(entry)
                if server in self._early:
                    self._add_early_ones(server)
            elif number > last:
                self._hold_back(entry)

    def _hold_back(self, entry: Entry) -> None:
        early = self._early.setdefault(entry.server, {})
        if len(early) < self._settings.own_entries_max:
            early[entry.number] = entry

    def _add_early_ones(self, server: int) -> None:
        early = self._early[server]
        last = self._last_numbers[server]
        while (entry := early.pop(last + 1, None)) is not None:
            last = entry.number
            self._waiting.append(entry)
        self._last_numbers[server] = last
        if not early or max(early) <= last:
            del self._early[server]

    def propose_change(self, change: Change) -> Proposal:
        """End the configuration: a slot for `change` alone, above everything proposed so far."""
        assert self.change is None, "a configuration ends once"
        self.change = change
        return self._propose(Batch((), change))

    def next_proposal(self) -> Proposal | None:
        """A batch of what waits, if a slot is free."""
        if not self._waiting or self.change is not None or len(self.in_flight) >= self._settings.slots_in_flight_max:
            return None
        return self._propose(Batch(self._cut()))

    def _propose(self, batch: Batch) -> Proposal:
        proposal = Proposal(self.next_slot, encode_batch(batch), batch)
        self.in_flight[proposal.slot] = proposal
        self.next_slot += 1
        return proposal

    def _cut(self) -> tuple[Entry, ...]:
        waiting, bytes_left = self._waiting, self._settings.batch_bytes_max
        entries: list[Entry] = []
        for _ in range(min(len(waiting), self._settings.batch_entries_max)):
            size = len(waiting[0].payload)
            if entries and size > bytes_left:
                break
            bytes_left -= size
            entries.append(waiting.popleft())
        if self._admit is None:
            return tuple(entries)
        return tuple([_admitted(entry, self._admit) for entry in entries])

    def forget_through(self, slot: int) -> None:
        """Everything up to `slot` is decided."""
        for decided in [known for known in self.in_flight if known <= slot]:
            del self.in_flight[decided]


def _admitted(entry: Entry, admit: Callable[[bytes], bytes]) -> Entry:
    payload = admit(entry.payload)
    return entry if payload is entry.payload else msgspec.structs.replace(entry, payload=payload)


def _last_numbers(state: LogState, inherited: list[Proposal]) -> dict[int, int]:
    """Per origin the last number that is delivered once everything inherited is."""
    for proposal in inherited:
        if proposal.batch.change is None:
            state, _ = fold(state, proposal.batch)
    return dict(state.origins)
