"""A key-value service behind several framed ports of this process, with the faults that a client may meet.

It is no cell: one service, and for every client the last request and its reply, as a cell's client table has them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from replica_manager.intake.framed_messages import (
    ClientOpened,
    FrameSplitter,
    OpenClient,
    Reply,
    Request,
    decode_to_server,
    encode,
)
from replica_manager.intake.port import Outcome
from tests.linearizability.histories import Service

Fault = Callable[[int, Request], str]
"""What goes wrong with the n-th request: `""`, `lose` (executed, connection ends), `drop` (not executed, connection
ends), `busy` (unavailable), `silence` (executed, no reply), `unknown` (the id is not known any more)."""


class UnreliableServers:
    """The ports and the one service behind them."""

    def __init__(self, fault: Fault, is_forgetful: bool = False) -> None:
        """Serve with faults; if `is_forgetful`, a repetition is executed again."""
        self.addresses: list[tuple[str, int]] = []
        self.executions = 0
        self.opened = 0
        self._service = Service()
        self._fault = fault
        self._is_forgetful = is_forgetful
        self._requests = 0
        self._last: dict[bytes, tuple[int, bytes]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection to its end."""
        splitter = FrameSplitter(100_000)
        try:
            while data := await reader.read(65536):
                for body in splitter.feed(data):
                    self._take(writer, body)
        except ConnectionError:
            pass  # a client may hang up while a reply is on its way
        finally:
            writer.close()

    def _take(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        message = decode_to_server(body)
        if isinstance(message, OpenClient):
            self.opened += 1
            writer.write(encode(ClientOpened(message.token, b"client %09d" % self.opened)))
            return
        self._requests += 1
        self._answer(writer, message, self._fault(self._requests, message))

    def _answer(self, writer: asyncio.StreamWriter, request: Request, fault: str) -> None:
        if fault in ("busy", "unknown"):
            outcome = Outcome.UNAVAILABLE if fault == "busy" else Outcome.UNKNOWN_CLIENT
            writer.write(encode(Reply(request.client, request.number, outcome, b"")))
        elif fault == "drop":
            writer.transport.abort()
        else:
            reply = self._execute_once(request)
            if fault == "lose":
                writer.transport.abort()
            elif fault != "silence":
                writer.write(encode(Reply(request.client, request.number, Outcome.ANSWERED, reply)))

    def _execute_once(self, request: Request) -> bytes:
        number, reply = self._last.get(request.client, (0, b""))
        assert request.number >= number, "a client goes back"
        if request.number > number or self._is_forgetful:
            self.executions += 1
            reply = self._service.execute(request.payload)
            self._last[request.client] = (request.number, reply)
        return reply


@asynccontextmanager
async def serving(servers: UnreliableServers, count: int) -> AsyncIterator[None]:
    """Serve on `count` ports."""
    ports = [await asyncio.start_server(servers.serve, "127.0.0.1", 0) for _ in range(count)]
    servers.addresses = [port.sockets[0].getsockname()[:2] for port in ports]
    try:
        yield
    finally:
        for port in ports:
            port.close()
