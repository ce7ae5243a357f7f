"""Orders to misbehave, as values and as text.  Pure.

An order travels within an ordinary request of a client, or within the update of one, whatever the service: it is
searched for.  Its text has only characters that neither a URL nor a form encodes, so that it looks the same in an
HTTP request, in a row image and in a key-value pair.
"""

import enum
import re
from typing import List, NamedTuple


class FaultKind(enum.Enum):
    """What a domain may be told to do.  Each is counted by the occasions on which it could act."""

    BEHAVE = "behave"
    """Forget all orders."""
    WRONG_REPLY = "wrong-reply"
    """One bit of the reply differs.  Occasion: a request executed with a reply."""
    WRONG_UPDATE = "wrong-update"
    """One bit of the update differs, the reply is right.  Occasion: a request executed with an update."""
    HIDDEN_UPDATE = "hidden-update"
    """The update is empty, the state has changed.  Occasion: a request executed with an update."""
    HANG = "hang"
    """Stops answering anything and keeps the channel.  Occasion: a request, or a batch of updates."""
    SLOW = "slow"
    """Takes `amount` ms longer.  Occasion: a request, or a batch of updates."""
    SLOWER = "slower"
    """Takes `amount` times as long.  Occasion: a request, or a batch of updates."""
    CRASH = "crash"
    """The process ends, without a word; a guest powers off.  Occasion: a request, or a batch of updates."""
    FLOOD = "flood"
    """Repeats the answer `amount` times, then sends frames that nobody asked for until it is cut off.
    Occasion: an answer."""
    GARBAGE = "garbage"
    """Sends `amount` bytes that are no frames behind an answer.  Occasion: an answer."""
    EQUIVOCATION = "equivocation"
    """Answers a number again, differently.  Occasion: a request executed."""
    LATE_EQUIVOCATION = "late-equivocation"
    """Answers the last number again, differently, behind the first answer of a new connection.  Occasion: a
    connection."""
    WRONG_PART = "wrong-part"
    """One bit of a part of the state differs.  Occasion: a part."""
    SHORT_STATE = "short-state"
    """The state ends in the middle of a part.  Occasion: a part."""
    STALLED_STATE = "stalled-state"
    """The part does not come; requests go on being answered.  Occasion: a part."""
    ENDLESS_STATE = "endless-state"
    """Another part comes behind the last one.  Occasion: the end of the state, and each part behind it."""
    WRONG_CURSOR = "wrong-cursor"
    """Claims a cursor that is `amount` higher (lower if negative).  Occasion: a connection."""
    FALSE_APPLIED = "false-applied"
    """Says that a batch is applied and has not applied it.  Occasion: a batch with updates."""


class FaultOrder(NamedTuple):
    """One order."""

    number: int
    """Chosen by who gives it.  A domain takes each number once: its request may come again, by repetition or in the
    update of another request."""
    target: str
    """The domain that shall misbehave, such as `s0.g1`, or a server, such as `s0`, for all its domains."""
    kind: FaultKind
    first: int = 1
    """The first occasion after the order on which it acts, 1-based."""
    every: int = 1
    """From there on it acts on every so many-th occasion."""
    times: int = 0
    """How many times it acts at most; 0: without end."""
    amount: int = 0
    """What its kind says."""


_COUNT = rb"([0-9]{1,9})"
_TARGET = rb"(s[0-9]{1,3}(?:\.g[0-9]{1,6})?)"
_FIELDS = (rb"spare-fault", _COUNT, _TARGET, rb"([a-z-]{1,24})", _COUNT, _COUNT, _COUNT, rb"(-?[0-9]{1,9})", rb"end")
_ORDER = re.compile(rb"_".join(_FIELDS))


def encode_order(order: FaultOrder) -> bytes:
    """Return the text of an order.

    Raises:
        ValueError: a field is out of its range.
    """
    fields = (order.number, order.target, order.kind.value, order.first, order.every, order.times, order.amount)
    text = "spare-fault_%d_%s_%s_%d_%d_%d_%d_end" % fields
    if find_orders(text.encode()) != [order]:
        raise ValueError("not an order that can be given: %r" % (order,))
    return text.encode()


def find_orders(data: bytes) -> List[FaultOrder]:
    """Return the orders within `data`, in their order.  What only resembles one is none."""
    kinds = {kind.value.encode(): kind for kind in FaultKind}
    found = []
    for match in _ORDER.finditer(data):
        number, target, kind, *counts = match.groups()
        first, every, times, amount = (int(count) for count in counts)
        if kind in kinds and first >= 1 and every >= 1:
            found.append(FaultOrder(int(number), target.decode(), kinds[kind], first, every, times, amount))
    return found
