"""A connection to one server of a cell, for asyncio programs."""

import asyncio
from typing import Any, cast

from replica_manager.identifiers import ClientId
from replica_manager.intake.framed_messages import (
    ClientOpened,
    FramedError,
    FrameSplitter,
    OpenClient,
    Request,
    ToServer,
    decode_to_client,
    encode,
)
from replica_manager.intake.port import Outcome

REPLY_BYTES_MAX = 64 * 1024 * 1024


class ConnectionLost(Exception):
    """Raised when the connection ends while requests wait: an operating error.

    The requests' outcome is unknown; repeat them with the same client id, number and payload, to any server.
    """


class CellUnavailable(Exception):
    """Raised when the cell cannot issue a client id now; nothing was executed, try later."""


class FramedClient(asyncio.Protocol):
    """One connection that may carry many client ids.

    Example:
        client = await FramedClient.connect("10.77.0.10", 7000)
        me = await client.open_client()
        outcome, reply = await client.request(me, 1, b"…")
    """

    def __init__(self) -> None:
        """Use `connect` instead."""
        self._splitter = FrameSplitter(REPLY_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._openings: dict[int, asyncio.Future[bytes]] = {}
        self._requests: dict[tuple[bytes, int], asyncio.Future[tuple[Outcome, bytes]]] = {}
        self._next_token = 1
        self._out: list[bytes] = []

    @classmethod
    async def connect(cls, host: str, port: int) -> "FramedClient":
        """Connect.

        Raises:
            OSError: nobody listens there.
        """
        _, client = await asyncio.get_running_loop().create_connection(cls, host, port)
        return client

    def close(self) -> None:
        """End the connection; waiting requests raise `ConnectionLost`."""
        if self._transport is not None:
            self._transport.close()

    async def open_client(self) -> ClientId:
        """Return a new client id, valid on every server of the cell.

        Raises:
            CellUnavailable: not now.
            ConnectionLost: the connection ended.
        """
        token = self._next_token
        self._next_token += 1
        future = asyncio.get_running_loop().create_future()
        self._openings[token] = future
        self._send(OpenClient(token))
        client = await future
        if not client:
            raise CellUnavailable("the cell issues no client ids now; try again later")
        return ClientId(client)

    async def request(self, client: ClientId, number: int, payload: bytes) -> tuple[Outcome, bytes]:
        """Send a request; return what became of it and the stable reply.

        Raises:
            ConnectionLost: the connection ended before the reply came.
        """
        future: asyncio.Future[tuple[Outcome, bytes]] = asyncio.get_running_loop().create_future()
        self._requests[client, number] = future
        self._send(Request(client, number, payload))
        return await future

    def _send(self, message: ToServer) -> None:
        if self._transport is None:
            raise ConnectionLost("the connection has ended")
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(encode(message))

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Wake whoever waits."""
        try:
            for body in self._splitter.feed(data):
                self._take(body)
        except FramedError:
            if self._transport is not None:
                self._transport.abort()

    def _take(self, body: bytes) -> None:
        message = decode_to_client(body)
        if isinstance(message, ClientOpened):
            opening = self._openings.pop(message.token, None)
            if opening is not None and not opening.done():
                opening.set_result(message.client)
            return
        waiting = self._requests.pop((message.client, message.number), None)
        if waiting is not None and not waiting.done():
            waiting.set_result((Outcome(message.outcome), message.payload))

    def connection_lost(self, exc: Exception | None) -> None:
        """End: what waits has an unknown outcome."""
        self._transport = None
        lost = ConnectionLost(f"the server closed the connection: {exc or 'end of stream'}")
        waiting: list[asyncio.Future[Any]] = [*self._openings.values(), *self._requests.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(lost)
        self._openings.clear()
        self._requests.clear()
