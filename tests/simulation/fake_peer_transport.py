"""`PeerTransport` without sockets: frames wait in the network until the test lets them arrive."""

from collections import deque

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import RefusalReason
from replica_manager.ordering.peer_port import (
    PeerCounters,
    PeerHandler,
    PeerRefused,
    QueueOverflowed,
    ResyncNeeded,
)
from replica_manager.ordering.send_queue import SendQueue

Pair = tuple[MemberId, MemberId]


class FakePeerNetwork:
    """All transports of a cell, in one thread.  Nothing moves but by `step` and `settle`."""

    def __init__(self, queue_bytes_max: int = 1024 * 1024) -> None:
        self._queue_bytes_max = queue_bytes_max
        self._transports: dict[MemberId, FakePeerTransport] = {}
        self._on_the_wire: dict[Pair, deque[bytes]] = {}
        self._cut: set[frozenset[MemberId]] = set()
        self._slow: set[MemberId] = set()

    def transport(self, own: MemberId, handler: PeerHandler) -> "FakePeerTransport":
        """Make the transport of one member."""
        return FakePeerTransport(self, own, handler, self._queue_bytes_max)

    def cut(self, first: MemberId, second: MemberId) -> None:
        """Break the link of a pair and keep it from coming up; what was on the wire is lost."""
        self._cut.add(frozenset((first, second)))
        self._break(first, second)

    def heal(self, first: MemberId, second: MemberId) -> None:
        """Let the link come up again at the next `step`."""
        self._cut.discard(frozenset((first, second)))

    def slow(self, member: MemberId, is_slow: bool) -> None:
        """While slow, `member` reads nothing: senders' queues fill."""
        (self._slow.add if is_slow else self._slow.discard)(member)

    def step(self) -> bool:
        """Bring links up, move what is queued, deliver what is on the wire; tell whether anything happened."""
        is_changed = self._connect()
        for transport in list(self._transports.values()):
            transport.flush()
        for (sender, receiver), frames in list(self._on_the_wire.items()):
            target = self._transports.get(receiver)
            if frames and target is not None and receiver not in self._slow:
                batch = list(frames)
                frames.clear()
                target.arrive(sender, batch)
                is_changed = True
        return is_changed

    def settle(self) -> None:
        """Step until nothing happens any more."""
        while self.step():
            pass

    def join(self, transport: "FakePeerTransport") -> None:
        """Called by a transport that opens."""
        self._transports[transport.own] = transport

    def leave(self, transport: "FakePeerTransport") -> None:
        """Called by a transport that closes."""
        self._transports.pop(transport.own, None)
        for other in list(self._transports):
            self._break(transport.own, other)

    def carry(self, sender: MemberId, receiver: MemberId, frames: list[bytes]) -> None:
        """Put frames on the wire."""
        self._on_the_wire.setdefault((sender, receiver), deque()).extend(frames)

    def takes(self, receiver: MemberId) -> bool:
        """Tell whether the receiver's socket takes frames."""
        return receiver not in self._slow

    def break_link(self, first: MemberId, second: MemberId) -> None:
        """End the link of a pair; it comes up again by itself."""
        self._break(first, second)

    def _connect(self) -> bool:
        is_changed = False
        members = sorted(self._transports)
        for first in members:
            for second in members:
                if first < second and frozenset((first, second)) not in self._cut:
                    is_changed |= self._bring_up(first, second)
        return is_changed

    def _bring_up(self, first: MemberId, second: MemberId) -> bool:
        if self._transports[first].is_up(second):
            return False
        self._transports[first].come_up(second)
        self._transports[second].come_up(first)
        return True

    def _break(self, first: MemberId, second: MemberId) -> None:
        for own, other in ((first, second), (second, first)):
            self._on_the_wire.pop((own, other), None)
            if own in self._transports:
                self._transports[own].go_down(other)


class FakePeerTransport:
    """One member's end of a `FakePeerNetwork`."""

    def __init__(self, network: FakePeerNetwork, own: MemberId, handler: PeerHandler, queue_bytes_max: int) -> None:
        self.own = own
        self.counters = PeerCounters()
        self._network, self._handler, self._queue_bytes_max = network, handler, queue_bytes_max
        self._queues: dict[MemberId, SendQueue] = {}

    async def open(self) -> None:
        """Become reachable."""
        self._network.join(self)

    async def close(self) -> None:
        """End all links, without `on_down`; idempotent."""
        self._queues.clear()
        self._network.leave(self)

    def send(self, member: MemberId, frame: bytes) -> None:
        """Queue one frame."""
        queue = self._queues.get(member)
        if queue is None:
            self.counters.dropped_frame_count += 1
        elif queue.push(frame):
            self._handler.on_event(QueueOverflowed(member, self._queue_bytes_max))

    def flush(self) -> None:
        """Move what is queued onto the wire."""
        for member, queue in self._queues.items():
            if queue and self._network.takes(member):
                frames = queue.take(2**62)
                self.counters.sent_frame_count += len(frames)
                self._network.carry(self.own, member, frames)
            if queue.dropped_count and not queue:
                self._handler.on_event(ResyncNeeded(member, queue.take_dropped()))

    def disconnect(self, member: MemberId, reason: RefusalReason, detail: str) -> None:
        """End the link to a member whose frame made no sense."""
        if member in self._queues:
            self._handler.on_event(PeerRefused("fake", member, reason, detail))
            self._network.break_link(self.own, member)

    def is_up(self, member: MemberId) -> bool:
        """Tell whether frames to this member are sent at present."""
        return member in self._queues

    def arrive(self, sender: MemberId, frames: list[bytes]) -> None:
        """Called by the network."""
        self.counters.received_frame_count += len(frames)
        self._handler.on_frames(sender, frames)

    def come_up(self, member: MemberId) -> None:
        """Called by the network."""
        self._queues[member] = SendQueue(self._queue_bytes_max)
        self.counters.link_count += 1
        self._handler.on_up(member)

    def go_down(self, member: MemberId) -> None:
        """Called by the network."""
        if self._queues.pop(member, None) is not None:
            self._handler.on_down(member)
