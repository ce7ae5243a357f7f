"""The local half of the client table: who waits for which reply, and the last stable reply of every client.

Source: design "Client table".
"""

from collections import OrderedDict
from typing import NamedTuple

from replica_manager.identifiers import ClientId
from replica_manager.intake.port import ReplySink

REPLY_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of all kept replies; a repetition of an older request is answered `REPLY_LOST`."""


class Waiting(NamedTuple):
    """A connection that waits for a reply."""

    sink: ReplySink
    number: int
    payload: bytes
    """A reply to another payload under this number is not for this connection."""


class ReplyCache:
    """Last stable reply per client, least recently answered first out."""

    def __init__(self, entries_max: int, bytes_max: int = REPLY_BYTES_MAX) -> None:
        """Make an empty cache with these bounds."""
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._replies: OrderedDict[ClientId, tuple[int, bytes]] = OrderedDict()
        self.byte_count = 0

    def __len__(self) -> int:
        """Return the number of kept replies."""
        return len(self._replies)

    def keep(self, client: ClientId, sequence: int, reply: bytes) -> None:
        """Keep the stable reply of `sequence`, unless a newer one of this client is there."""
        old = self._replies.get(client)
        if old is not None:
            if old[0] > sequence:
                return
            self.byte_count -= len(old[1])
        self._replies[client] = (sequence, reply)
        self._replies.move_to_end(client)
        self.byte_count += len(reply)
        while self.byte_count > self._bytes_max or len(self._replies) > self._entries_max:
            _, (_, dropped) = self._replies.popitem(last=False)
            self.byte_count -= len(dropped)

    def find(self, client: ClientId, sequence: int) -> bytes | None:
        """Return the reply that was stable for `sequence`, if it is kept."""
        kept = self._replies.get(client)
        return kept[1] if kept is not None and kept[0] == sequence else None
