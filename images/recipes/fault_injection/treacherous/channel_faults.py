"""Faults of the channel: a `Link` around an honest one, whose frames it may withhold, change and multiply.

Whole frames pass: a wrapper writes nothing else.
"""

import random
from typing import Iterator, List, Optional

from exec_wrapper.encoding import encode_frame
from exec_wrapper.framing import decode_from_wrapper
from exec_wrapper.links import Channel, Link
from exec_wrapper.wire import Applied, Executed, FromWrapper, Pong, StatePart, WrapperHello

from .orders import FaultKind, FaultOrder
from .service_faults import with_flipped_bit
from .treachery import Treachery

ANY_FRAME_BYTES = (1 << 32) - 1
"""The frames come from our own wrapper, which keeps the manager's limit."""
FLOOD_WRITE_BYTES = 64 * 1024
_KINDS = (FaultKind.STALLED_STATE, FaultKind.LATE_EQUIVOCATION, FaultKind.WRONG_CURSOR)
"""What this layer counts by itself; the rest is staged with the answers."""


class TreacherousLink:
    """Gives one treacherous channel after another."""

    def __init__(self, honest: Link, treachery: Treachery) -> None:
        """Wrap `honest`."""
        self._honest = honest
        self._frames = FrameFaults(treachery)

    def open_channel(self) -> Channel:
        """See `Link`."""
        return TreacherousChannel(self._honest.open_channel(), self._frames)


class TreacherousChannel:
    """One connection whose frames pass through `FrameFaults`."""

    def __init__(self, honest: Channel, frames: "FrameFaults") -> None:
        """Wrap `honest`."""
        self._honest = honest
        self._frames = frames

    def read(self) -> bytes:
        """See `Channel`."""
        return self._honest.read()

    def write(self, data: bytes) -> None:
        """Send what the orders make of the frames in `data`; see `Channel`."""
        for piece in self._frames.changed(data):
            self._honest.write(piece)

    def close(self) -> None:
        """See `Channel`."""
        self._honest.close()


class FrameFaults:
    """Changes frames as ordered.  Remembers across connections what was answered last."""

    def __init__(self, treachery: Treachery) -> None:
        """Follow the orders of `treachery`."""
        self._treachery = treachery
        self._last: Optional[Executed] = None
        self._is_late: bool = False
        """Whether the last answer is to be contradicted on this connection: behind the first answer, for a manager
        hangs up on who says more than hello unasked."""

    def changed(self, data: bytes) -> Iterator[bytes]:
        """Yield what to send instead of `data`, some whole frames; endless during a flood."""
        if not (self._treachery.has_staged or self._treachery.is_armed(*_KINDS)):
            yield data
            return
        messages: List[FromWrapper] = decode_from_wrapper(ANY_FRAME_BYTES).feed(data)
        for message in messages:
            yield from self._pieces(message)

    def _pieces(self, message: FromWrapper) -> Iterator[bytes]:
        if isinstance(message, WrapperHello):
            yield self._greeting(message)
            return
        late = contradiction(self._last) if self._is_late and self._last is not None else None
        if isinstance(message, StatePart):
            if self._treachery.due(FaultKind.STALLED_STATE) is None:
                yield encode_frame(message)
        elif isinstance(message, Executed):
            self._last = message
            yield encode_frame(message)
            for order in self._treachery.take_staged(message.sequence):
                yield from _behind(message, order)
        elif isinstance(message, Applied):
            yield encode_frame(message)
            for order in self._treachery.take_staged(message.up_to):
                yield from _behind(message, order)
        else:
            yield encode_frame(message)
        if late is not None:
            self._is_late = False
            yield encode_frame(late)

    def _greeting(self, hello: WrapperHello) -> bytes:
        order = self._treachery.due(FaultKind.WRONG_CURSOR)
        cursor = hello.cursor + (order.amount if order is not None else 0)
        self._is_late = self._treachery.due(FaultKind.LATE_EQUIVOCATION) is not None
        return encode_frame(hello._replace(cursor=max(cursor, 0)))


def _behind(answer: FromWrapper, order: FaultOrder) -> Iterator[bytes]:
    """Yield what follows an answer."""
    if order.kind is FaultKind.GARBAGE:
        yield garbage(order)
    elif order.kind is FaultKind.FLOOD:
        yield from flood(answer, order)
    elif isinstance(answer, Executed):
        yield encode_frame(contradiction(answer))


def contradiction(answer: Executed) -> Executed:
    """Return another answer to the same number."""
    return answer._replace(reply=with_flipped_bit(answer.reply))


def garbage(order: FaultOrder) -> bytes:
    """Return bytes that are no frames, the same for the same order."""
    # No frame has the kind 0xff, so that it is not by chance the beginning of a long one that never ends.
    return b"\xff" * 5 + random.Random(order.number).randbytes(max(order.amount - 5, 0))


def flood(answer: FromWrapper, order: FaultOrder) -> Iterator[bytes]:
    """Yield the answer again and again, then frames that nobody asked for, without end."""
    repeated, unasked = encode_frame(answer), b"".join(encode_frame(Pong(token)) for token in range(64))
    count = max(order.amount, 0)
    at_once = max(1, FLOOD_WRITE_BYTES // len(repeated))
    while count > 0:
        yield repeated * min(count, at_once)
        count -= at_once
    while True:
        yield unasked * (FLOOD_WRITE_BYTES // len(unasked))
