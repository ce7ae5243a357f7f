"""What local domains say, turned into votes, progress and state digests; and what they are told.

Source: design "Wrapper protocol".
"""

from collections.abc import Mapping, Sequence

from exec_wrapper.wire import (
    Applied,
    CancelState,
    Executed,
    Failed,
    FromWrapper,
    NextPart,
    Pong,
    StatePart,
    StateSet,
    Synced,
    TakeState,
    ToWrapper,
    WrapperHello,
)
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed, FeedMisuse
from replica_manager.execution.request_log import RequestLog
from replica_manager.identifiers import DomainId
from replica_manager.peer_messages import StateDigests, Votes
from replica_manager.recovery.export import Export
from replica_manager.recovery.repair import Repair
from replica_manager.recovery.state_digests import CheckpointBoard, StateOrderError, StateReader
from replica_manager.recovery.state_vote import StateVote
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.vote_count import vote_digest
from replica_manager.voting.voter import Voter

STATE_CREDIT = 4
"""Parts that may be on their way: hides a round trip without filling anybody's memory."""

GAVE_UP = "the wrapper gave up"
"""How the reason begins when a domain says itself that it cannot go on: nobody has caught it at anything."""


class DomainAnswers:
    """The frames of the domains of this server."""

    def __init__(
        self,
        cell: CellState,
        feeds: Mapping[DomainId, Feed],
        requests: RequestLog,
        voter: Voter,
        board: CheckpointBoard,
        repair: Repair,
        export: Export,
    ) -> None:
        """Take answers into these."""
        self._cell = cell
        self._repair = repair
        self._export = export
        self._feeds = feeds
        self._requests = requests
        self._voter = voter
        self._board = board
        self._votes: dict[DomainId, tuple[list[int], list[bytes]]] = {}
        self._readers: dict[DomainId, StateReader] = {}
        self._late_parts: dict[DomainId, tuple[int, int]] = {}
        """The newest point of each domain whose stream was stopped, and how many parts of it may still come."""
        self._given: dict[DomainId, StateReader] = {}
        """What each local domain has given last: told again until the point is closed."""
        self._told: dict[DomainId, int] = {}
        """How many of its parts the others were told of."""
        self._state_vote: StateVote | None = None
        """What domains of all servers gave at the newest point."""
        self._completed_points: list[int] = []

    def take(self, domain: DomainId, frames: Sequence[FromWrapper], output: CoreOutput) -> str | None:
        """Take frames of `domain`; return why it misbehaved, or None."""
        feed = self._feeds[domain]
        try:
            for frame in frames:
                self._take_one(feed, frame, output)
        except (FeedMisuse, StateOrderError) as misuse:
            return str(misuse)
        return None

    def _take_one(self, feed: Feed, frame: FromWrapper, output: CoreOutput) -> None:
        match frame:
            case Executed(sequence=sequence, reply=reply, update=update):
                self._on_executed(feed, sequence, reply, update, output)
            case Applied(up_to=up_to):
                count = feed.on_applied(up_to)
                if feed.role is Role.PASSIVE or count:
                    # An activated domain takes what it lacks as one more batch.
                    kind = "refreshed" if feed.role is Role.PASSIVE else "caught_up"
                    output.events.append(NamedEvent(kind, {"domain": feed.domain, "updates": count, "up_to": up_to}))
            case Synced(cursor=cursor):
                feed.on_synced(cursor)
            case StatePart():
                self._on_state_part(feed, frame, output)
            case Failed(text=text):
                raise FeedMisuse(f"{GAVE_UP}: {text}")
            case Pong() | StateSet():
                self._repair.on_frame(feed.domain, frame, output)
            case WrapperHello():
                raise FeedMisuse(f"sent {type(frame).__name__} without being asked")

    def _on_executed(self, feed: Feed, sequence: int, reply: bytes, update: bytes, output: CoreOutput) -> None:
        feed.on_executed(sequence, has_update=bool(update))
        record = self._requests.get(sequence)
        if record is None:
            return  # stable everywhere and dropped: nobody needs this vote
        digest = vote_digest(reply, update)
        if record.stalled_ms is not None and record.stable_digest is None:
            output.events.append(NamedEvent("stalled_voted", {"domain": feed.domain, "sequence": sequence}))
        if digest not in record.values and not record.is_complete:
            self._voter.record_value(record, digest, reply, update)
        self._voter.record_vote(feed.domain, sequence, digest)
        if not record.is_complete and record.stable_digest is not None:
            self._voter.on_value_missing(record)
        batch = self._votes.get(feed.domain)
        if batch is None:
            batch = self._votes[feed.domain] = ([], [])
        batch[0].append(sequence)
        batch[1].append(digest)

    def _on_state_part(self, feed: Feed, part: StatePart, output: CoreOutput) -> None:
        if self._was_on_its_way(feed.domain, part.point):
            return
        reader = self._readers.get(feed.domain)
        if reader is None:
            raise StateOrderError("sent state without being asked")
        reader.take(part)
        feed.state_part_count += 1
        self._refuse_excess(part)
        point = self._cell.state_point
        if point is not None and point.point == part.point and point.is_read:
            output.parts.append((feed.domain, part))
        if not part.is_last:
            output.frames.append((feed.domain, NextPart(1)))
            return
        del self._readers[feed.domain]
        feed.on_state_given(part.point)
        self._tell_state(feed.domain, reader, output)

    def _was_on_its_way(self, domain: DomainId, point: int) -> bool:
        """Whether a part was asked for before its stream was stopped: no more of them than there was credit for."""
        cancelled, left = self._late_parts.get(domain, (0, 0))
        if not left or not 1 <= point <= cancelled:
            return False
        self._late_parts[domain] = (cancelled, left - 1)
        return True

    def tell_states(self, output: CoreOutput) -> None:
        """Tell of parts that have come since the last call, so that they are voted on while the rest still streams."""
        point = self._cell.state_point
        for domain, reader in list(self._readers.items()):
            is_wanted = point is not None and point.point == reader.point and point.is_read
            if is_wanted and len(reader.part_digests) > self._told.get(domain, 0):
                self._tell_state(domain, reader, output)

    def _tell_state(self, domain: DomainId, reader: StateReader, output: CoreOutput) -> None:
        report = _report_of(domain, reader, self._told.get(domain, 0))
        self._told[domain] = len(reader.part_digests)
        output.broadcasts.append(report)
        self.note_state(report)
        if reader.is_complete and self._board.report(domain, report.point, report.content_digest):
            self._completed_points.append(report.point)
        self._repair.on_state_digests(report, output)
        self._export.on_state_digests(report, output)

    def note_state(self, report: StateDigests) -> None:
        """A domain, here or elsewhere, has given parts of its state."""
        point = self._cell.state_point
        if point is None or point.point != report.point:
            return
        if self._state_vote is None or self._state_vote.point.point != point.point:
            self._state_vote = StateVote(point)
        domain, parts = DomainId(report.domain), report.part_digests
        self._state_vote.report(domain, report.first, parts, is_complete=report.is_complete)

    def _refuse_excess(self, part: StatePart) -> None:
        """A state that is longer than the agreed one differs from it, and may never end.

        Raises:
            StateOrderError: this part is beyond the agreed state.
        """
        vote = self._state_vote
        if vote is None or vote.point.point != part.point:
            return
        is_counted = self._cell.is_counted
        vote.judge(self._cell.threshold, self._cell.f_prime, is_counted, is_counted)
        if vote.is_whole and part.index >= len(vote.agreed):
            raise StateOrderError(f"gave part {part.index} at {part.point}, beyond the end of the agreed state")

    def forget(self, domain: DomainId) -> None:
        """A domain is gone: what it was giving is not wanted any more."""
        self._readers.pop(domain, None)
        self._late_parts.pop(domain, None)

    def cancel_state(self, point: int, output: CoreOutput) -> None:
        """Nobody needs the state at `point` any more: let who streams it stop."""
        for feed in self._feeds.values():
            if feed.cancel_state(point):
                self._readers.pop(feed.domain, None)
                left = self._late_parts.get(feed.domain, (0, 0))[1]
                self._late_parts[feed.domain] = (point, left + STATE_CREDIT)
                output.frames.append((feed.domain, CancelState(point)))

    def take_completed_points(self) -> list[int]:
        """Return the points for which every domain's digest is known since the last call."""
        points, self._completed_points = self._completed_points, []
        return points

    def state_reports(self, point: int) -> list[StateDigests]:
        """Return what local domains said at the open point: peers may have missed it.  Older ones are forgotten."""
        self._given = {domain: reader for domain, reader in self._given.items() if reader.point == point}
        return [_report_of(domain, reader, 0) for domain, reader in self._given.items() if self._told.get(domain)]

    def pump(self, feed: Feed, buffer: UpdateBuffer, output: CoreOutput) -> None:
        """Hand a domain what can be handed now."""
        frames: list[ToWrapper] = []
        feed.pump(self._requests, buffer, frames)
        for frame in frames:
            output.frames.append((feed.domain, frame))
            if isinstance(frame, TakeState):
                self._readers[feed.domain] = self._given[feed.domain] = StateReader(frame.point)
                self._told[feed.domain] = 0
                output.frames.append((feed.domain, NextPart(STATE_CREDIT)))

    def flush_votes(self, output: CoreOutput) -> None:
        """Put the votes since the last call into one message per domain."""
        for domain, (sequences, digests) in self._votes.items():
            output.broadcasts.append(Votes(domain, sequences, b"".join(digests)))
        self._votes.clear()


def _report_of(domain: DomainId, reader: StateReader, first: int) -> StateDigests:
    content = reader.content_digest if reader.is_complete else b""
    return StateDigests(domain, reader.point, first, reader.part_digests[first:], reader.is_complete, content)
