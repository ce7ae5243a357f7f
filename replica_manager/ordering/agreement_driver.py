"""The driver of a server: everything of `MemberDriver`, and what only servers are asked."""

from collections.abc import Callable

from agreement.changes import Change
from agreement.identifiers import MemberId
from agreement.node import Node
from agreement.storage import Write
from replica_manager.ordering.member_driver import MemberDriver


class AgreementDriver(MemberDriver[Node]):
    """Runs one `Node`."""

    def propose(self, payload: bytes) -> int:
        """Ask for an entry to be ordered; return its number.

        Raises:
            ProposalError: refused, surely not ordered; its subclasses say why.
        """
        number = self.core.propose(payload, self._clock_ms())
        self._touch()
        return number

    def propose_change(self, change: Change) -> None:
        """Ask for a change of the configuration; `ChangeRefused` may come as an event."""
        self.core.propose_change(change, self._clock_ms())
        self._touch()

    def compact(self, sequence: int) -> None:
        """Let the node forget what a durable checkpoint up to `sequence` covers."""
        self.core.compact(sequence)
        self._touch()

    def write_application(self, writes: tuple[Write, ...], on_written: Callable[[], None]) -> None:
        """Store something of the application behind the agreement log's own writes; keys outside agreement's range."""
        self._worker.submit_application(writes, on_written)

    def provide_snapshot(self, member: MemberId, sequence: int, application: bytes) -> None:
        """Answer the event `SnapshotWanted` with the application's state after `sequence`."""
        self.core.provide_snapshot(member, sequence, application, self._clock_ms())
        self._touch()
