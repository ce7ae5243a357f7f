"""One TCP connection of the peer transport: the shell around `PeerLink`."""

import asyncio
import socket
from collections.abc import Callable
from typing import ParamSpec, Protocol, cast

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import LinkRefused, RefusalReason
from replica_manager.ordering.peer_link import PeerLink

READ_BUFFER_BYTES = 64 * 1024
WRITE_BUFFER_BYTES = 1024 * 1024
"""Bytes that a socket does not take at once and that wait in the event loop, before frames wait in the queue."""
USER_TIMEOUT_MS = 3000
"""Unacknowledged bytes for this long break the connection: sooner than `crash_timeout` declares the member gone."""
KEEPALIVE_S = 1
KEEPALIVE_PROBES = 3

_P = ParamSpec("_P")


class ConnectionOwner(Protocol):
    """What a connection reports, to the transport."""

    def connection_opened(self, connection: "PeerConnection") -> None:
        """The link is open, `connection.member` is known."""
        ...

    def connection_frames(self, connection: "PeerConnection", frames: list[bytes]) -> None:
        """Frames came in."""
        ...

    def connection_drained(self, connection: "PeerConnection") -> None:
        """The socket takes more again."""
        ...

    def connection_refused(self, connection: "PeerConnection", refusal: LinkRefused) -> None:
        """The other end misbehaved; `connection_closed` follows."""
        ...

    def connection_closed(self, connection: "PeerConnection", error: Exception | None) -> None:
        """The connection is gone."""
        ...


class PeerConnection(asyncio.BufferedProtocol):
    """A connection, from the first byte to the last.

    A buffered protocol: asyncio's own loop otherwise makes a new 256 KiB object for every read, which the C library
    maps and unmaps each time, for 10 to 20 µs.
    """

    def __init__(self, owner: ConnectionOwner, link: PeerLink, handshake_timeout_s: float) -> None:
        self._owner, self._link = owner, link
        self._handshake_timeout_s = handshake_timeout_s
        self._transport: asyncio.Transport | None = None
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.is_paused = False
        """Whether the socket's buffer is full; frames must wait."""
        self.address = "?"
        """`address:port` of the other end."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is gone."""

    @property
    def member(self) -> MemberId | None:
        """Who is at the other end; None until its certificate is checked."""
        return self._link.member

    @property
    def was_open(self) -> bool:
        """Whether the other end ever greeted."""
        return self._link.is_open

    @property
    def is_open(self) -> bool:
        """Whether frames may be sent."""
        return self._link.is_open and not self._is_ending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        # A cast and not an assertion: other event loops' transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._is_ending:
            self._transport.abort()
            return
        self.address = address_text(transport.get_extra_info("peername"))
        _tune(transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        self._handshake_timer = loop.call_later(self._handshake_timeout_s, self._handshake_late)
        self._run(self._link.start)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the event loop reads to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Give bytes to the link, and its frames to the owner."""
        if self._is_ending:
            return
        was_open = self._link.is_open
        frames = self._run(self._link.receive, self._buffer[:nbytes])
        if self._is_ending:
            return
        if not was_open and self._link.is_open:
            self._stop_handshake_timer()
            self._owner.connection_opened(self)
        if frames and self.is_open:
            self._owner.connection_frames(self, frames)
        if self._link.is_ended:
            self.end()

    def send(self, frames: list[bytes]) -> int:
        """Send frames in one write; return the bytes on the wire.  Only while `is_open`."""
        assert self._transport is not None
        self._link.send(frames)
        outgoing = self._link.take_outgoing()
        self._transport.write(outgoing)
        return len(outgoing)

    def refuse(self, refusal: LinkRefused) -> None:
        """End the connection because of what the other end did."""
        if not self._is_ending:
            self._owner.connection_refused(self, refusal)
            self.end()

    def end(self) -> None:
        """End the connection; what the socket has not taken yet is dropped, all but a last alert."""
        self._is_ending = True
        self._stop_handshake_timer()
        if self._transport is not None:
            # An abort drops a TLS alert that the other end's log needs; a close waits for a reader that may never read.
            if self._transport.get_write_buffer_size() == 0:
                self._transport.close()
            else:
                self._transport.abort()
        elif not self.closed.done():
            # uvloop makes the protocol before it connects: a dial that is given up never has a transport to lose.
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """Called by the event loop when the socket's buffer is full."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Called by the event loop when the buffer is nearly empty."""
        self.is_paused = False
        if self.is_open:
            self._owner.connection_drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end."""
        self._is_ending = True
        self._stop_handshake_timer()
        self._owner.connection_closed(self, exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def _run(self, step: Callable[_P, list[bytes] | None], *args: _P.args, **kwargs: _P.kwargs) -> list[bytes]:
        """Run one step of the link, write what it gives, end the connection if it raises."""
        assert self._transport is not None
        frames: list[bytes] | None = None
        refusal: LinkRefused | None = None
        try:
            frames = step(*args, **kwargs)
        except LinkRefused as error:
            refusal = error
        outgoing = self._link.take_outgoing()
        if outgoing:
            self._transport.write(outgoing)
        if refusal is not None:
            self.refuse(refusal)
        return frames or []

    def _handshake_late(self) -> None:
        detail = f"no greeting within {self._handshake_timeout_s:g} s"
        self.refuse(LinkRefused(RefusalReason.HANDSHAKE_TIMEOUT, detail))

    def _stop_handshake_timer(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None


def address_text(peername: object) -> str:
    """Return `address:port` of a socket's name; `?` if the connection was gone before it was looked at."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        return f"[{peername[0]}]:{peername[1]}" if ":" in str(peername[0]) else f"{peername[0]}:{peername[1]}"
    return "?"


def _tune(tcp: socket.socket) -> None:
    """Send at once; notice a silent other end within seconds."""
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
