"""The border to the other members: frames to and from them.  Contract suite: `tests/contracts/`.

Nothing here is reliable: a frame to a member that is not up, or that stood in a queue when its link broke, is lost.
Whoever needs more repeats: agreement by its timers, votes when a member comes up or `ResyncNeeded` is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import RefusalReason


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """A connection was ended because of what the other end sent."""

    address: str
    """`address:port` of the other end, as the kernel told it."""
    member: MemberId | None
    """Who it proved to be; None before that."""
    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """Dialing a member fails; reported once until it has been up again."""

    member: MemberId
    detail: str


@dataclass(frozen=True, slots=True)
class QueueOverflowed:
    """A member reads slower than we send: its oldest frames are being dropped."""

    member: MemberId
    queue_bytes_max: int


@dataclass(frozen=True, slots=True)
class ResyncNeeded:
    """A member whose frames were dropped reads again: what it missed has to be sent anew."""

    member: MemberId
    dropped_frame_count: int


PeerEvent = PeerRefused | PeerUnreachable | QueueOverflowed | ResyncNeeded


@dataclass(frozen=True, slots=True)
class PeerHandler:
    """Whom a transport calls, in the event loop; none of them may block or raise."""

    on_frames: Callable[[MemberId, list[bytes]], None]
    """Frames of one member, in the order it sent them; it was up before."""
    on_up: Callable[[MemberId], None]
    """Frames to this member are sent from now on."""
    on_down: Callable[[MemberId], None]
    """The link is broken; follows each `on_up` at most once, and comes before the next one."""
    on_event: Callable[[PeerEvent], None]


@dataclass(slots=True)
class PeerCounters:
    """What went over the private network; sums over all members."""

    sent_frame_count: int = 0
    sent_byte_count: int = 0
    """Bytes given to the sockets, with TLS."""
    received_frame_count: int = 0
    received_byte_count: int = 0
    dropped_frame_count: int = 0
    """Frames to members that were down or too slow."""
    write_count: int = 0
    """Writes to sockets: each carries all frames queued for one member before a `flush`."""
    link_count: int = 0
    """Links that came up."""


class PeerTransport(Protocol):
    """Frames between the members of one cell."""

    counters: PeerCounters

    async def open(self) -> None:
        """Begin to listen and to dial.

        Raises:
            TransportError: the own address cannot be bound.
        """
        ...

    async def close(self) -> None:
        """End all links, without `on_down`; idempotent."""
        ...

    def send(self, member: MemberId, frame: bytes) -> None:
        """Queue one frame of 1 to `frame_bytes_max` bytes, until `flush`."""
        ...

    def flush(self) -> None:
        """Give all queued frames to the sockets, one write per member."""
        ...

    def disconnect(self, member: MemberId, reason: RefusalReason, detail: str) -> None:
        """End the link to a member whose frame made no sense, with a `PeerRefused`; it may come up again."""
        ...

    def is_up(self, member: MemberId) -> bool:
        """Tell whether frames to this member are sent at present."""
        ...
