"""Unique tokens that clients append to the key-value service, and what became of them.  Pure.

A key holds a few tokens of one client, so that a token that was executed twice is there twice.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from exec_wrapper.examples.key_value_commands import encode_append

TOKENS_PER_KEY = 16
"""Every append writes the whole value: few are cheap."""
_END = b";"


@dataclass(frozen=True, slots=True)
class Token:
    """One append of one client of one round."""

    round_number: int
    client: int
    index: int

    @property
    def key(self) -> bytes:
        """Where it goes."""
        return b"%d.%d.%d" % (self.round_number, self.client, self.index // TOKENS_PER_KEY)

    @property
    def text(self) -> bytes:
        """What is appended, without the end mark."""
        return b"%d.%d.%d" % (self.round_number, self.client, self.index)

    @property
    def request(self) -> bytes:
        """The command for the service."""
        return encode_append(self.key, self.text + _END)


@dataclass(slots=True)
class Ledger:
    """What clients know of their tokens."""

    acknowledged: set[Token] = field(default_factory=set)
    """The reply came: the token is there, exactly once, for ever."""
    open: set[Token] = field(default_factory=set)
    """Sent, and no reply came: it is there once, or not at all."""

    def send(self, token: Token) -> None:
        """A client sends `token`."""
        assert token not in self.acknowledged, f"{token} is not unique"
        self.open.add(token)

    def acknowledge(self, token: Token) -> None:
        """The cell said that `token` was executed."""
        self.open.remove(token)
        self.acknowledged.add(token)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the service's state says of all tokens ever sent."""

    lost: tuple[bytes, ...]
    """Acknowledged and not there."""
    doubled: tuple[bytes, ...]
    """There more than once."""
    foreign: tuple[bytes, ...]
    """There, and sent by nobody, or under the wrong key."""

    @property
    def is_right(self) -> bool:
        """Whether the cell kept its promise."""
        return not (self.lost or self.doubled or self.foreign)


def judge(ledger: Ledger, entries: Iterable[tuple[bytes, bytes]]) -> Judgement:
    """Compare what clients know with all `(key, value)` of the service's state."""
    found: Counter[tuple[bytes, bytes]] = Counter()
    for key, value in entries:
        found.update((key, text) for text in value.split(_END) if text)
    acknowledged = {(token.key, token.text) for token in ledger.acknowledged}
    sent = acknowledged | {(token.key, token.text) for token in ledger.open}
    return Judgement(
        lost=tuple(sorted(text for key, text in acknowledged if (key, text) not in found)),
        doubled=tuple(sorted(text for (_, text), count in found.items() if count > 1)),
        foreign=tuple(sorted(text for key, text in found if (key, text) not in sent)),
    )
