"""The transport between members: mutual TLS over TCP, one connection per pair.

Of a pair the member that sorts later dials the earlier one (witnesses after servers, then by number), so there is one
connection and no choice between two.  A dialer that dials again has lost the connection it had: at the acceptor a new
connection of a member replaces the old one, which may only look alive.

All frames queued before a `flush` leave in one write per member: with 64 requests under way that is one TLS record and
one system call for dozens of messages, and costs a lone request nothing.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Mapping
from functools import partial

from agreement.identifiers import MemberId
from replica_manager.loop_failures import raise_failure
from replica_manager.ordering.errors import LinkRefused, RefusalReason, TransportError
from replica_manager.ordering.peer_connection import WRITE_BUFFER_BYTES, PeerConnection, address_text
from replica_manager.ordering.peer_link import PeerLink
from replica_manager.ordering.peer_port import (
    PeerCounters,
    PeerEvent,
    PeerHandler,
    PeerRefused,
    PeerUnreachable,
    QueueOverflowed,
    ResyncNeeded,
)
from replica_manager.ordering.peer_tls import PeerTls
from replica_manager.ordering.send_queue import Backoff, SendQueue

FRAME_BYTES_MAX = 16 * 1024 * 1024
QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Per member; at least a few of the largest frames."""
HANDSHAKE_TIMEOUT_S = 5.0
"""From the connection to the greeting; whoever needs longer is no member."""
HANDSHAKES_MAX = 64
"""Accepted connections that have not greeted yet; members need a handful."""
DIAL_TIMEOUT_S = 3.0

Address = tuple[str, int]


class _Peer:
    """What is known of one other member."""

    def __init__(self, member: MemberId, address: Address, queue_bytes_max: int) -> None:
        self.member = member
        self.address = address
        self.connection: PeerConnection | None = None
        self.queue = SendQueue(queue_bytes_max)


class TlsPeerTransport:
    """`PeerTransport` over TCP and TLS.  All methods but `__init__` belong to the event loop's thread."""

    def __init__(
        self,
        members: Mapping[MemberId, Address],
        own: MemberId,
        tls: PeerTls,
        handler: PeerHandler,
        *,
        generator: random.Random,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
    ) -> None:
        """`members` maps every member, the own one too, to the host and port where it listens."""
        self.counters = PeerCounters()
        self._own, self._address = own, members[own]
        self._tls, self._handler, self._generator = tls, handler, generator
        self._frame_bytes_max, self._queue_bytes_max = frame_bytes_max, queue_bytes_max
        self._handshake_timeout_s = handshake_timeout_s
        self._peers = {
            member: _Peer(member, address, queue_bytes_max) for member, address in members.items() if member != own
        }
        self._identities = tls.identities(list(members))
        self._handshakes: dict[PeerConnection, None] = {}
        # Connections that have not greeted, oldest first.
        self._dirty: dict[MemberId, _Peer] = {}
        self._server: asyncio.Server | None = None
        self._dialers: list[asyncio.Task[None]] = []
        self._is_closed = False

    async def open(self) -> None:
        """Begin to listen and to dial.

        Raises:
            TransportError: the own address cannot be bound.
        """
        host, port = self._address
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accepted, host, port)
        except OSError as error:
            raise TransportError(f"peer port {host}:{port} cannot be opened: {error.strerror}") from error
        self._dialers = [
            loop.create_task(self._dial(peer), name=f"dial-{peer.member}")
            for peer in self._peers.values()
            if peer.member < self._own
        ]
        for dialer in self._dialers:
            dialer.add_done_callback(raise_failure)

    async def close(self) -> None:
        """End all links, without `on_down`; idempotent."""
        self._is_closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._dialers:
            task.cancel()
        await asyncio.gather(*self._dialers, return_exceptions=True)
        self._dialers = []
        connections = [peer.connection for peer in self._peers.values() if peer.connection] + list(self._handshakes)
        for connection in connections:
            connection.end()
        await asyncio.gather(*(connection.closed for connection in connections))

    def is_up(self, member: MemberId) -> bool:
        """Tell whether frames to this member are sent at present."""
        return self._peers[member].connection is not None

    def send(self, member: MemberId, frame: bytes) -> None:
        """Queue one frame of 1 to `frame_bytes_max` bytes, until `flush`."""
        assert 0 < len(frame) <= self._frame_bytes_max, len(frame)
        peer = self._peers[member]
        if peer.connection is None:
            self.counters.dropped_frame_count += 1
            return
        if peer.queue.push(frame):
            self._handler.on_event(QueueOverflowed(member, self._queue_bytes_max))
        self._dirty[member] = peer

    def flush(self) -> None:
        """Give all queued frames to the sockets, one write per member."""
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            for peer in dirty.values():
                self._write(peer)

    def disconnect(self, member: MemberId, reason: RefusalReason, detail: str) -> None:
        """End the link to a member whose frame made no sense, with a `PeerRefused`; it may come up again."""
        connection = self._peers[member].connection
        if connection is not None:
            connection.refuse(LinkRefused(reason, detail))

    def connection_opened(self, connection: PeerConnection) -> None:
        """A link greeted: it is the member's connection from now on."""
        assert connection.member is not None
        self._handshakes.pop(connection, None)
        peer = self._peers[connection.member]
        if peer.connection is not None:
            self._retire(peer).end()
        peer.connection = connection
        self.counters.link_count += 1
        self._handler.on_up(peer.member)

    def connection_frames(self, connection: PeerConnection, frames: list[bytes]) -> None:
        """Frames of a member; those of a replaced connection are late and dropped."""
        assert connection.member is not None
        if self._peers[connection.member].connection is not connection:
            return
        self.counters.received_frame_count += len(frames)
        self.counters.received_byte_count += sum(map(len, frames))
        self._handler.on_frames(connection.member, frames)

    def connection_drained(self, connection: PeerConnection) -> None:
        """A slow member reads again."""
        assert connection.member is not None
        peer = self._peers[connection.member]
        if peer.connection is connection:
            self._write(peer)

    def connection_refused(self, connection: PeerConnection, refusal: LinkRefused) -> None:
        """Name the event."""
        self._handler.on_event(PeerRefused(connection.address, connection.member, refusal.reason, refusal.detail))

    def connection_closed(self, connection: PeerConnection, error: Exception | None) -> None:
        """Forget a connection."""
        self._handshakes.pop(connection, None)
        peer = self._peers.get(connection.member) if connection.member is not None else None
        if peer is not None and peer.connection is connection:
            self._retire(peer)

    def _retire(self, peer: _Peer) -> PeerConnection:
        """Take the member's connection away from it; what is queued goes with it."""
        connection = peer.connection
        assert connection is not None
        peer.connection = None
        self.counters.dropped_frame_count += peer.queue.clear()
        if not self._is_closed:
            self._handler.on_down(peer.member)
        return connection

    def _write(self, peer: _Peer) -> None:
        """Move frames from the queue to the socket for as long as it takes them."""
        connection, queue, counters = peer.connection, peer.queue, self.counters
        while queue and connection is not None and connection.is_open and not connection.is_paused:
            frames = queue.take(WRITE_BUFFER_BYTES)
            counters.sent_frame_count += len(frames)
            counters.write_count += 1
            counters.sent_byte_count += connection.send(frames)
        if queue.dropped_count and not queue:
            dropped_count = queue.take_dropped()
            counters.dropped_frame_count += dropped_count
            self._handler.on_event(ResyncNeeded(peer.member, dropped_count))

    def _accepted(self) -> asyncio.BaseProtocol:
        """Make the protocol of an accepted connection."""
        try:
            context = self._tls.context(is_dialer=False)
        except TransportError as error:
            return _OwnFailure(self._handler.on_event, str(error))
        if len(self._handshakes) >= HANDSHAKES_MAX:
            oldest = next(iter(self._handshakes))
            detail = f"{HANDSHAKES_MAX} connections have not greeted yet"
            oldest.refuse(LinkRefused(RefusalReason.TOO_MANY_HANDSHAKES, detail))
            self._handshakes.pop(oldest, None)
        return self._connection(context, is_dialer=False, accept=self._accept_dialer)

    def _connection(
        self, context: ssl.SSLContext, *, is_dialer: bool, accept: Callable[[str], MemberId]
    ) -> PeerConnection:
        link = PeerLink(context, is_dialer=is_dialer, accept=accept, frame_bytes_max=self._frame_bytes_max)
        connection = PeerConnection(self, link, self._handshake_timeout_s)
        self._handshakes[connection] = None
        return connection

    def _accept_dialer(self, identity: str) -> MemberId:
        """Return the member with this identity if it is one that dials us."""
        member = self._identities.get(identity)
        if member is None:
            raise LinkRefused(RefusalReason.IDENTITY, f"{identity} is no member of this cell")
        if member <= self._own:
            raise LinkRefused(RefusalReason.IDENTITY, f"{identity} does not dial this member")
        return member

    def _accept_dialed(self, wanted: MemberId, identity: str) -> MemberId:
        """Return `wanted` if the identity is its own."""
        if self._identities.get(identity) != wanted:
            raise LinkRefused(RefusalReason.IDENTITY, f"{identity} answers at the address of {wanted}")
        return wanted

    async def _dial(self, peer: _Peer) -> None:
        """Keep a connection to one member, for ever."""
        backoff = Backoff(self._generator)
        is_reported = False
        while True:
            try:
                connection = await self._dial_once(peer)
            except (OSError, TransportError) as error:
                if not is_reported:
                    is_reported = True
                    self._handler.on_event(PeerUnreachable(peer.member, str(error) or "no answer"))
            else:
                await asyncio.shield(connection.closed)
                if connection.was_open:
                    is_reported = False
                    backoff.reset()
            await asyncio.sleep(backoff.pause_s())

    async def _dial_once(self, peer: _Peer) -> PeerConnection:
        """Connect; the handshake goes on by itself.

        Raises:
            OSError: nobody listens, or no answer in time (`TimeoutError`).
            TransportError: the own key files cannot be loaded.
        """
        context = self._tls.context(is_dialer=True)
        accept = partial(self._accept_dialed, peer.member)
        factory = partial(self._connection, context, is_dialer=True, accept=accept)
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            _, connection = await asyncio.get_running_loop().create_connection(factory, *peer.address)
        return connection


class _OwnFailure(asyncio.Protocol):
    """An accepted connection that we cannot serve."""

    def __init__(self, on_event: Callable[[PeerEvent], None], detail: str) -> None:
        self._on_event, self._detail = on_event, detail

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """End it."""
        transport.close()
        address = address_text(transport.get_extra_info("peername"))
        self._on_event(PeerRefused(address, None, RefusalReason.OWN_KEYS, self._detail))
