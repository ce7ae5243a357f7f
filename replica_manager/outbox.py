"""Collects what goes to each peer in one turn of the event loop and sends it as one frame.

Every frame carries this server's position, so that peers know what they may drop and what this server lacks.
"""

from collections.abc import Callable

from agreement.identifiers import MemberId, MemberKind
from replica_manager.peer_messages import PeerFrame, PeerMessage, Result, encode_frame

MESSAGES_PER_FRAME_MAX = 256


class PeerOutbox:
    """One list of messages per peer; `flush` encodes them."""

    def __init__(self, send: Callable[[MemberId, bytes], None], position: Callable[[], tuple[int, int]]) -> None:
        """Make an outbox.

        Args:
            send: takes one encoded frame for a member.
            position: returns this server's (delivered, stable) numbers.
        """
        self._send = send
        self._position = position
        self._waiting: dict[MemberId, list[PeerMessage]] = {}
        self._told: dict[MemberId, tuple[int, int]] = {}
        self.frames_sent = 0
        self.witness_messages = 0

    def add(self, member: MemberId, message: PeerMessage) -> None:
        """Send `message` with the next flush."""
        if member.kind is MemberKind.WITNESS:
            self.witness_messages += 1
        waiting = self._waiting.get(member)
        if waiting is None:
            waiting = self._waiting[member] = []
        waiting.append(message)

    def tell_position(self, members: list[MemberId]) -> None:
        """Let members know this server's position, if it changed since their last frame."""
        position = self._position()
        for member in members:
            if self._told.get(member) != position:
                self._waiting.setdefault(member, [])

    def flush(self) -> None:
        """Send everything that was added."""
        if not self._waiting:
            return
        position = self._position()
        waiting, self._waiting = self._waiting, {}
        for member, messages in waiting.items():
            self._told[member] = position
            for chunk in _chunks(messages):
                self.frames_sent += 1
                self._send(member, encode_frame(PeerFrame(*position, chunk)))


def _chunks(messages: list[PeerMessage]) -> list[list[PeerMessage]]:
    """Cut into frames; a fetched value, which may be large, ends its frame."""
    if len(messages) <= MESSAGES_PER_FRAME_MAX and not any(isinstance(message, Result) for message in messages):
        return [messages]
    chunks: list[list[PeerMessage]] = [[]]
    for message in messages:
        chunks[-1].append(message)
        if isinstance(message, Result) or len(chunks[-1]) >= MESSAGES_PER_FRAME_MAX:
            chunks.append([])
    return [chunk for chunk in chunks if chunk]
