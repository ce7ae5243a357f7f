"""An agreed state for a file of this server: a service moves out of the cell, or is copied.

1. `RecoveryPoint("export")` is ordered; the donors are those that a repair on this server would have.
2. Their states are voted on part by part, as in a recovery; whoever's differs is convicted.
3. Each agreed part is read from whoever gave it, compared, and handed to the file as to a fresh domain, by the frames
   of the wrapper protocol: so no more than a few parts are in memory, however slow the disk is.
4. `PointClosed` ends it, whatever came of it.

A file can be begun again: states that differ, or stay out, are given once more, by every domain.  A repair or recovery
takes the point away, and then the export has failed: it serves an operator, who can order it again.

Source: design "Lightweight", steps 2 and 3.
"""

from exec_wrapper.wire import Pong, StateSet
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import PointClosed, RecoveryPoint, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.cell.state_points import EXPORT, StatePoint
from replica_manager.core_output import CoreOutput, ExportFailed, NamedEvent
from replica_manager.identifiers import DomainId
from replica_manager.peer_messages import Part, StateDigests
from replica_manager.recovery.agreed_parts import ask_for_parts, convict, take_part
from replica_manager.recovery.filling import Filling
from replica_manager.recovery.repair import RepairSettings
from replica_manager.recovery.state_vote import StateVote
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.vote_count import Diverged, Exceeded

FILE = DomainId("file")
"""Takes the place of the fresh domain of a repair."""
EVERYBODY = 1
"""The attempt at which every domain gives its state, and the last one."""


class Export:
    """The export of one server; at most one at a time."""

    def __init__(self, server: int, settings: RepairSettings, cell: CellState, buffer: UpdateBuffer) -> None:
        """Nothing is exported."""
        self._server = server
        self._settings = settings
        self._cell = cell
        self._buffer = buffer
        self._token = 0
        """Of the export under way; 0: none."""
        self._attempt = 0
        self._vote: StateVote | None = None
        self.filling: Filling | None = None
        """What the file gets, once a part is agreed on."""
        self.service_time_us = 0
        """Of the newest request before the point."""
        self._moved: tuple[object, ...] = ()
        self._moved_ms = self._looked_ms = 0
        self._closed_point, self._close_again_ms = 0, 0
        """The point whose end was ordered last, and when to order it once more."""

    @property
    def is_under_way(self) -> bool:
        """Whether a state is exported here."""
        return self._token > 0

    @property
    def point(self) -> int:
        """Position whose state is exported; 0: not ordered yet, or nothing is."""
        return 0 if self._vote is None else self._vote.point.point

    # -- beginning and end -------------------------------------------------------------------------------------

    def order(self, token: int, output: CoreOutput) -> None:
        """Begin; `token` is any number above 0 that no other point has."""
        assert not self.is_under_way, "one file at a time"
        self._token, self._attempt = token, 0
        self._order_point(output)

    def _order_point(self, output: CoreOutput) -> None:
        self._vote = self.filling = None
        self._moved = ()
        output.proposals.append(encode_entry(RecoveryPoint(EXPORT, self._cell.sequence, self._token, self._attempt)))

    def abort(self, token: int, output: CoreOutput) -> None:
        """Nobody wants the file any more; nothing happens if this export has ended."""
        if self._token == token:
            self._end(output)

    def _end(self, output: CoreOutput) -> None:
        self._token = 0
        self._vote = self.filling = None
        self._close_what_nobody_reads(output)

    def _fail(self, reason: str, output: CoreOutput) -> None:
        output.export.append(ExportFailed(reason))
        self._end(output)

    def _close_what_nobody_reads(self, output: CoreOutput) -> None:
        """End this server's point if it is of no export under way: that was aborted while its entry was ordered.

        Again and again, since an entry may be lost; else no checkpoint could be taken for ever.
        """
        point = self._cell.state_point
        if point is None or (point.kind, point.host) != (EXPORT, self._server) or point.token == self._token:
            return
        if point.point != self._closed_point or self._looked_ms >= self._close_again_ms:
            self._closed_point, self._close_again_ms = point.point, self._looked_ms + self._settings.patience_ms
            output.proposals.append(encode_entry(PointClosed(point.point, [])))

    def on_refused(self, token: int, open_point: int, output: CoreOutput) -> None:
        """The point was void, or another one has taken its place."""
        if self._token == token:
            self._fail(f"a checkpoint, repair or recovery at {open_point} comes first", output)

    # -- the vote on the state ---------------------------------------------------------------------------------

    def on_state_wanted(self, point: StatePoint) -> None:
        """A point was delivered."""
        is_own = (point.kind, point.host, point.token) == (EXPORT, self._server, self._token)
        if is_own and point.attempt == self._attempt:
            self._vote = StateVote(point)
            self.service_time_us = self._cell.last_timestamp_us

    def on_state_digests(self, report: StateDigests, output: CoreOutput) -> None:
        """A domain, here or elsewhere, has given parts of its state."""
        vote = self._vote
        if vote is None or report.point != vote.point.point:
            return
        if vote.report(DomainId(report.domain), report.first, report.part_digests, is_complete=report.is_complete):
            self._judge(vote, output)

    def on_role_changed(self, domain: DomainId, role: Role, output: CoreOutput) -> None:
        """A role is new; a donor that ended gives nothing any more."""
        if self._vote is not None and role is Role.RETIRED and domain in self._vote.point.donors:
            self._judge(self._vote, output)

    def _judge(self, vote: StateVote, output: CoreOutput) -> None:
        cell = self._cell
        outcome = vote.judge(cell.threshold, cell.f_prime, cell.is_counted, self._cell.is_present)
        convict(vote, cell, output)
        if isinstance(outcome, Diverged | Exceeded):
            self._try_again("the states that were given differ, or are too few", output)
        elif vote.agreed:
            self._fill(vote, output)

    def _fill(self, vote: StateVote, output: CoreOutput) -> None:
        if self.filling is None:
            state_format = self._settings.feed.state_format
            self.filling = Filling(
                FILE, vote.point.point, state_format, vote.agreed, lambda index: vote.copies(index, self._server)
            )
        self.filling.is_whole = vote.is_whole
        self._advance(self.filling, output)

    def _advance(self, filling: Filling, output: CoreOutput) -> None:
        ask_for_parts(filling, self._server, output)
        output.export.extend(filling.frames())

    # -- the file ----------------------------------------------------------------------------------------------

    def on_part(self, part: Part, output: CoreOutput) -> None:
        """A part was read, here or by a peer."""
        filling = self.filling
        if filling is None or part.point != filling.point or not filling.is_asked(part.index, DomainId(part.domain)):
            return
        if not take_part(filling, part, output) and filling.has_tried_all:
            self._try_again("no copy of the agreed state can be read", output)
            return
        self._advance(filling, output)

    def on_frame(self, frame: Pong | StateSet, output: CoreOutput) -> None:
        """The file took a part in, or is whole; what it says of an earlier attempt is out of turn."""
        filling = self.filling
        if filling is None:
            return
        if isinstance(frame, Pong):
            filling.on_pong(frame.token)
            self._advance(filling, output)
        elif filling.on_set(frame.point):
            self._end(output)

    def _try_again(self, reason: str, output: CoreOutput) -> None:
        if self._attempt >= EVERYBODY:
            self._fail(reason, output)
            return
        self._attempt += 1
        output.events.append(NamedEvent("export_retried", {"attempt": self._attempt, "reason": reason}))
        self._order_point(output)

    # -- time --------------------------------------------------------------------------------------------------

    def on_timer(self, now_ms: int, output: CoreOutput) -> None:
        """A tick of a server that serves: look whether what is under way moves."""
        self._looked_ms = now_ms
        self._close_what_nobody_reads(output)
        if not self.is_under_way:
            return
        vote, filling = self._vote, self.filling
        # While an earlier number is open no sleeper can be at the point.
        is_waiting = vote is not None and self._buffer.prefix < vote.point.point - 1
        moved = (
            self._attempt,
            None if vote is None else (vote.missing, vote.part_count),
            None if filling is None else filling.moved,
        )
        if moved != self._moved or is_waiting:
            self._moved, self._moved_ms = moved, now_ms
        elif now_ms - self._moved_ms >= self._settings.patience_ms:
            self._moved_ms = now_ms
            self._on_standstill(output)

    def _on_standstill(self, output: CoreOutput) -> None:
        filling = self.filling
        if self._vote is None:
            self._fail("its position was not ordered in time", output)
        elif filling is None or filling.waits_for_votes:
            self._try_again("states do not come in time", output)
        elif not filling.waits_for_giver:
            self._fail("the file does not take the state in", output)
        elif filling.has_tried_all:
            self._try_again("no copy of the agreed state can be read", output)
        else:
            filling.change_giver()
            self._advance(filling, output)
