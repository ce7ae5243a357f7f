"""Listens for clients that speak the framed protocol."""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from replica_manager.identifiers import ClientId
from replica_manager.intake.arrival import Arrival, HeldBytes
from replica_manager.intake.framed_messages import (
    HEADER_BYTES_MAX,
    ClientOpened,
    FramedError,
    FrameSplitter,
    OpenClient,
    Reply,
    ToClient,
    decode_to_server,
    encode,
)
from replica_manager.intake.port import IntakePort, Outcome, Submission

WRITE_BYTES_MAX = 8 * 1024 * 1024
"""Replies that a client has not read when more of them come; above that its connection ends."""


class FramedConnection(asyncio.Protocol):
    """One client connection; a `ReplySink`."""

    def __init__(self, listener: "FramedListener") -> None:
        """Serve a connection of `listener`."""
        self._listener = listener
        self._splitter = FrameSplitter(listener.request_bytes_max + HEADER_BYTES_MAX)
        self._arrival = Arrival(listener.held)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._was_behind = False

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if not self._listener.admit(self):
            cast(asyncio.Transport, transport).abort()
            return
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._arrival.end()
        if self._transport is not None:
            self._transport = None
            self._listener.release(self)

    def data_received(self, data: bytes) -> None:
        """Order every complete request."""
        if self._transport is None:
            return
        error: FramedError | None = None
        try:
            bodies: Sequence[bytes] = self._splitter.feed(data)
        except FramedError as raised:
            error, bodies = raised, raised.bodies
        try:
            for body in bodies:
                self._take(body)
        except FramedError as raised:
            error = raised
        if error is not None:
            self.reject(str(error))
        else:
            self._note_arrival(is_new=bool(bodies))

    def _note_arrival(self, *, is_new: bool) -> None:
        pending_bytes = self._splitter.pending_bytes
        self._arrival.note(is_partial=pending_bytes > 0, is_new=is_new, now_ms=self._listener.now_ms())
        if not self._arrival.hold(pending_bytes):
            self.reject(f"more than {self._listener.held.bytes_max} bytes of incomplete requests")

    def _take(self, body: bytes) -> None:
        message = decode_to_server(body)
        if isinstance(message, OpenClient):
            self._listener.port.open_client(self, message.token)
        else:
            self._listener.port.submit(self, Submission(ClientId(message.client), message.number, message.payload))

    def reject(self, reason: str) -> None:
        """End a connection that breaks the protocol."""
        if self._transport is not None:
            self._listener.on_rejected(reason)
            self._transport.abort()

    def sweep(self, now_ms: float) -> None:
        """End the connection if a request takes too long to come, or replies too long to be read."""
        was_behind, self._was_behind = self._was_behind, self._is_behind()
        if was_behind and self._was_behind:
            self._reject_behind()
        elif self._arrival.is_late(now_ms):
            self.reject("a request was not completed in time")

    def _is_behind(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > WRITE_BYTES_MAX

    def _reject_behind(self) -> None:
        self.reject(f"more than {WRITE_BYTES_MAX} bytes of replies not read")

    def close(self) -> None:
        """The server stops."""
        if self._transport is not None:
            self._transport.abort()

    # -- ReplySink ---------------------------------------------------------------------------------------------

    def client_opened(self, token: int, client: ClientId | None) -> None:
        """Send the id."""
        self._send(ClientOpened(token, client or b""))

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        """Send the reply."""
        self._send(Reply(client, number, outcome, reply))

    def _send(self, message: ToClient) -> None:
        if self._transport is None:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(encode(message))

    def _flush(self) -> None:
        if self._transport is not None:
            # Before these are added: a burst may be larger than the limit, and is not the client's fault.
            is_behind = self._is_behind()
            self._transport.write(b"".join(self._out))
            if is_behind:
                self._reject_behind()
        self._out.clear()


class FramedListener:
    """Accepts connections on given sockets."""

    def __init__(
        self,
        port: IntakePort,
        request_bytes_max: int,
        connections_max: int,
        on_rejected: Callable[[str], None],
        now_ms: Callable[[], float],
    ) -> None:
        """Make a listener.

        Args:
            port: where requests go.
            request_bytes_max: bytes of one request's payload.
            connections_max: connections at a time; more are refused.
            on_rejected: hears why a connection was ended.
            now_ms: monotonic clock.
        """
        self.port = port
        self.request_bytes_max = request_bytes_max
        self.on_rejected = on_rejected
        self.now_ms = now_ms
        self.held = HeldBytes()
        self._connections_max = connections_max
        self.connections: set[FramedConnection] = set()

    def connection(self) -> FramedConnection:
        """Return a protocol for a new connection: the factory for `loop.create_server`."""
        return FramedConnection(self)

    def admit(self, connection: FramedConnection) -> bool:
        """Whether one more connection is served."""
        if len(self.connections) >= self._connections_max:
            self.on_rejected(f"more than {self._connections_max} connections")
            return False
        self.connections.add(connection)
        return True

    def release(self, connection: FramedConnection) -> None:
        """A connection ended."""
        self.connections.discard(connection)
        self.port.forget(connection)

    def sweep(self) -> None:
        """End connections whose request takes too long to come; call every few seconds."""
        now_ms = self.now_ms()
        for connection in list(self.connections):
            connection.sweep(now_ms)

    def close(self) -> None:
        """End every connection."""
        for connection in list(self.connections):
            connection.close()
