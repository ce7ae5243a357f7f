"""Own entries, from `propose` until this server delivers them.

Source: design "Agreement stage", A2: "an origin forwards again, to every new leader, until it delivers its entry
itself".
"""

from collections import deque

from agreement.changes import Entry
from agreement.context import Context, Role
from agreement.errors import EntryTooLarge, NotAMember, ProposalQueueFull
from agreement.identifiers import Ballot, MemberId, first_number
from agreement.messages import Forward

ENTRY_OVERHEAD_BYTES = 32
"""Of one entry in a message, at most."""


class Origin:
    """Numbers own entries, forwards them to the leader, and again to the next one."""

    def __init__(self, context: Context, life: int, life_token: int) -> None:
        """`life`: restarts so far with intact storage; entries leave when `life_token` is durable.

        Before that a crash could make the next life use the same numbers for other entries.
        """
        self._context = context
        self._next_number = first_number(life)
        self._life_token = life_token
        self._entries: deque[Entry] = deque()
        """Not delivered yet, by number."""
        self._bytes = 0
        self._forwarded = 0
        """How many of `_entries`, from the oldest, the leader of `_forwarded_in` was sent."""
        self._forwarded_in: tuple[int, Ballot | None] = (0, None)
        """Configuration and ballot of that leader."""
        self._moved_ms = context.now_ms
        """When an own entry was last forwarded for the first time or delivered."""

    @property
    def waiting_count(self) -> int:
        """Own entries that are not delivered yet."""
        return len(self._entries)

    def propose(self, payload: bytes) -> int:
        """Take an entry; its number.

        Raises:
            EntryTooLarge, NotAMember, ProposalQueueFull: see there.
        """
        context = self._context
        settings = context.settings
        if not context.is_member:
            raise NotAMember(f"{context.identity} is not in configuration {context.number}")
        if len(payload) > settings.entry_bytes_max:
            raise EntryTooLarge(f"an entry of {len(payload)} bytes exceeds {settings.entry_bytes_max}")
        if len(self._entries) >= settings.own_entries_max or self._bytes + len(payload) > settings.own_bytes_max:
            raise ProposalQueueFull(f"{len(self._entries)} entries, {self._bytes} bytes await their delivery")
        number = self._next_number
        self._next_number += 1
        self._entries.append(Entry(context.own.number, context.identity.incarnation, number, payload))
        self._bytes += len(payload)
        return number

    def forget_delivered(self, last: int) -> None:
        """Everything up to the number `last` was delivered."""
        entries = self._entries
        if not entries or entries[0].number > last:
            return
        while entries and entries[0].number <= last:
            self._bytes -= len(entries.popleft().payload)
            self._forwarded -= 1
        self._forwarded = max(0, self._forwarded)
        self._moved_ms = self._context.now_ms

    def forget_all(self) -> None:
        """This incarnation is gone: nothing of it will be delivered any more."""
        self._entries.clear()
        self._bytes = self._forwarded = 0

    def start_over(self) -> None:
        """Forward everything again."""
        self._forwarded = 0

    def flush(self) -> None:
        """Hand new entries to the leader; to another leader, or to one that began anew, all of them."""
        context = self._context
        leadership = (context.number, context.leader_ballot)
        if leadership != self._forwarded_in:
            self._forwarded_in = leadership
            self._forwarded = 0
        if self._forwarded >= len(self._entries) or not context.outbox.is_durable(self._life_token):
            return
        if context.proposer is not None:
            context.proposer.add(self._unforwarded())
        elif context.role is Role.FOLLOWER and context.leader is not None:
            self._forward(context.leader)
        else:
            return
        self._forwarded = len(self._entries)
        self._moved_ms = context.now_ms

    def _unforwarded(self) -> list[Entry]:
        if self._forwarded == 0:
            return list(self._entries)
        new_count = len(self._entries) - self._forwarded
        newest_first = [entry for entry, _ in zip(reversed(self._entries), range(new_count), strict=False)]
        return newest_first[::-1]

    def _forward(self, leader: MemberId) -> None:
        bytes_max = self._context.settings.part_bytes_max
        piece: list[Entry] = []
        size = 0
        for entry in self._unforwarded():
            if piece and size + len(entry.payload) > bytes_max:
                self._send(leader, piece)
                piece, size = [], 0
            piece.append(entry)
            size += len(entry.payload) + ENTRY_OVERHEAD_BYTES
        self._send(leader, piece)

    def _send(self, leader: MemberId, piece: list[Entry]) -> None:
        context = self._context
        context.outbox.send(leader, Forward(context.number, context.identity.incarnation, tuple(piece)))

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do."""
        return self._moved_ms + self._context.settings.resend_ms if self._forwarded else None

    def on_timer(self) -> None:
        """No own entry was delivered for a while: a connection may have lost them, or the leader may be new."""
        if self._forwarded and self._context.now_ms - self._moved_ms >= self._context.settings.resend_ms:
            self.start_over()
            self._moved_ms = self._context.now_ms
