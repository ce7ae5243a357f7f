"""Listens for clients that speak the framed protocol."""

import asyncio
from collections.abc import Callable
from typing import cast

from replica_manager.identifiers import ClientId
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
"""Replies that a client does not read; above that its connection ends."""


class FramedConnection(asyncio.Protocol):
    """One client connection; a `ReplySink`."""

    def __init__(
        self,
        port: IntakePort,
        request_bytes_max: int,
        connections: set["FramedConnection"],
        connections_max: int,
        on_rejected: Callable[[str], None],
    ) -> None:
        """Serve a connection over `port`; see `FramedListener`."""
        self._port = port
        self._splitter = FrameSplitter(request_bytes_max + HEADER_BYTES_MAX)
        self._connections = connections
        self._connections_max = connections_max
        self._on_rejected = on_rejected
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if len(self._connections) >= self._connections_max:
            self._on_rejected(f"more than {self._connections_max} connections")
            cast(asyncio.Transport, transport).abort()
            return
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._transport is not None:
            self._transport = None
            self._connections.discard(self)
            self._port.forget(self)

    def data_received(self, data: bytes) -> None:
        """Order every complete request."""
        try:
            for body in self._splitter.feed(data):
                self._take(body)
        except FramedError as error:
            self.reject(str(error))

    def _take(self, body: bytes) -> None:
        message = decode_to_server(body)
        if isinstance(message, OpenClient):
            self._port.open_client(self, message.token)
        else:
            self._port.submit(self, Submission(ClientId(message.client), message.number, message.payload))

    def reject(self, reason: str) -> None:
        """End a connection that breaks the protocol."""
        if self._transport is not None:
            self._on_rejected(reason)
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
            self._transport.write(b"".join(self._out))
            if self._transport.get_write_buffer_size() > WRITE_BYTES_MAX:
                self.reject(f"more than {WRITE_BYTES_MAX} bytes of replies not read")
        self._out.clear()


class FramedListener:
    """Accepts connections on given sockets."""

    def __init__(
        self, port: IntakePort, request_bytes_max: int, connections_max: int, on_rejected: Callable[[str], None]
    ) -> None:
        """Make a listener; `on_rejected` hears why a connection was ended."""
        self._port = port
        self._request_bytes_max = request_bytes_max
        self._connections_max = connections_max
        self._on_rejected = on_rejected
        self.connections: set[FramedConnection] = set()

    def connection(self) -> FramedConnection:
        """Return a protocol for a new connection: the factory for `loop.create_server`."""
        return FramedConnection(
            self._port, self._request_bytes_max, self.connections, self._connections_max, self._on_rejected
        )
