"""Requests that stay open because more than the bound allows went wrong, until an operator decides.

Source: design "More rounds, and more than f faults" (`L13` of its list of traps).
"""

from collections.abc import Mapping

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RequestResolved
from replica_manager.cell.entries import Consent, Stopped, encode_entry
from replica_manager.core_output import CoreOutput, NamedEvent
from replica_manager.execution.feed import Feed, Power
from replica_manager.execution.request_log import RequestLog
from replica_manager.identifiers import DomainId
from replica_manager.voting.voter import Voter


class Resolving:
    """One server's part in deciding about open requests."""

    def __init__(self, cell: CellState, requests: RequestLog, feeds: Mapping[DomainId, Feed], voter: Voter) -> None:
        """Nothing is held."""
        self._cell = cell
        self._requests = requests
        self._feeds = feeds
        self._voter = voter

    def on_killed(self, sequence: int) -> None:
        """A domain stopped at this number: another one that takes its place waits until somebody lives through it."""
        record = self._requests.get(sequence)
        if record is not None:
            record.deadly_at = self._cell.sequence

    def on_held(self, sequence: int, output: CoreOutput) -> None:
        """More than `f'` domains stopped at this number: no further one is fed it."""
        record = self._requests.get(sequence)
        if record is not None:
            record.is_held = record.stable_digest is None
        output.events.append(NamedEvent("request_held", {"sequence": sequence}))

    def on_consent_wanted(self, sequence: int, output: CoreOutput) -> None:
        """The operator wants to skip a number: say whether that is possible here, and let no vote end it meanwhile."""
        record = self._requests.get(sequence)
        is_open = record is not None and record.stable_digest is None
        if record is not None and is_open:
            record.is_frozen = True
        has_fresh = any(feed.holds_the_log and feed.cursor <= sequence for feed in self._feeds.values())
        output.proposals.append(encode_entry(Consent(sequence, is_open, has_fresh)))

    def on_resolved(self, effect: RequestResolved, output: CoreOutput) -> None:
        """The cell has decided."""
        output.resolved.append(effect)
        output.events.append(NamedEvent("request_resolved", effect._asdict()))
        record = self._requests.get(effect.sequence)
        if record is None:
            return
        record.is_frozen = False
        if effect.objection:
            self._voter.recount()
        elif effect.action == "retry":
            record.is_held, record.deadly_at = False, 0
        elif record.stable_digest is None:
            self._give_up_who_executed(effect.sequence, output)
            self._voter.record_skip(record)

    def _give_up_who_executed(self, sequence: int, output: CoreOutput) -> None:
        """Who was handed the number may have something of it in its state, which the others have not."""
        for feed in self._feeds.values():
            if feed.power is not Power.GONE and feed.is_filled and feed.cursor > sequence:
                reason = f"it was handed request {sequence}, which was skipped"
                output.proposals.append(encode_entry(Stopped(feed.domain, reason, self._cell.sequence)))
