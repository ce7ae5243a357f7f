"""A service behind the intake's port, and clients on real loopback sockets to talk to it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId
from replica_manager.intake.framed_listener import FramedListener
from replica_manager.intake.http_listener import HttpListener
from replica_manager.intake.port import Outcome, ReplySink, Submission

PATIENCE_S = 60.0
REQUEST_BYTES_MAX = 10_000
CONNECTIONS_MAX = 4
ResultT = TypeVar("ResultT")
Answer = Callable[[Submission], tuple[Outcome, bytes]]


def http_echo(submission: Submission) -> tuple[Outcome, bytes]:
    """Answer with the size of the request."""
    body = b"%d bytes" % len(submission.payload)
    return Outcome.ANSWERED, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class ServicePort:
    """An `IntakePort` that answers in a later turn of the loop, as the cell does."""

    def __init__(self, answer: Answer = http_echo) -> None:
        """Answer by `answer`."""
        self.answer = answer
        self.submissions: list[Submission] = []
        self.opened: list[ClientId] = []
        self.forgotten = 0
        self.is_available = True
        self.held: list[Callable[[], None]] | None = None
        """Answers that `let_go` gives; None: they are given at once."""

    def open_client(self, sink: ReplySink, token: int) -> None:
        """Issue the next id."""
        client = ClientId(len(self.opened).to_bytes(CLIENT_ID_BYTES)) if self.is_available else None
        if client is not None:
            self.opened.append(client)
        self._later(lambda: sink.client_opened(token, client))

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """Answer it."""
        self.submissions.append(submission)
        outcome, reply = self.answer(submission)
        self._later(lambda: sink.replied(submission.client, submission.number, outcome, reply))

    def forget(self, sink: ReplySink) -> None:
        """Count it."""
        self.forgotten += 1

    def let_go(self) -> None:
        """Give the answers that were held, and hold none from now on."""
        held, self.held = self.held or [], None
        for give in held:
            give()

    def _later(self, give: Callable[[], None]) -> None:
        if self.held is None:
            asyncio.get_running_loop().call_soon(give)
        else:
            self.held.append(give)


class Served:
    """A listener on loopback; `now_ms` is a clock that tests move."""

    def __init__(self, kind: type[HttpListener] | type[FramedListener], port: ServicePort) -> None:
        """Make the listener; `open` binds it."""
        self.port = port
        self.now_ms = 0.0
        self.rejected: list[str] = []
        self.listener = kind(port, REQUEST_BYTES_MAX, CONNECTIONS_MAX, self.rejected.append, lambda: self.now_ms)
        self._server: asyncio.Server | None = None
        self._clients: list[Client] = []

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(self.listener.connection, "127.0.0.1", 0)

    async def connect(self) -> "Client":
        """Return a connected client."""
        assert self._server is not None
        client = Client(*await asyncio.open_connection(*self._server.sockets[0].getsockname()[:2]))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """End everything."""
        assert self._server is not None
        self._server.close()
        self.listener.close()
        for client in self._clients:
            await client.close()
        await until(lambda: not self.listener.connections)

    def sweep_after(self, ms: float) -> None:
        """Let time pass, and have the listener look."""
        self.now_ms += ms
        self.listener.sweep()


class Client:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wrap the streams."""
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def receive(self, byte_count: int) -> bytes:
        """Return exactly so many bytes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(byte_count)

    async def line(self) -> bytes:
        """Return a line without its end."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self.reader.readuntil(b"\r\n"))[:-2]

    async def reply(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return status, headers and body of one HTTP reply."""
        status = int((await self.line()).split(b" ")[1])
        headers = {}
        while line := await self.line():
            name, _, value = line.partition(b": ")
            headers[name.lower()] = value
        return status, headers, await self.receive(int(headers.get(b"content-length", b"0")))

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, which a reset ends too."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self.reader.read(65536):
                    data += piece
            except ConnectionResetError:
                pass
        return data

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(OSError):  # the other side was first
            await self.writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Poll until `condition` holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited too long"
        await asyncio.sleep(0.002)


def serve(
    kind: type[HttpListener] | type[FramedListener],
    scenario: Callable[[Served], Coroutine[Any, Any, ResultT]],
    answer: Answer = http_echo,
) -> ResultT:
    """Run `scenario` against a listener of this kind."""

    async def run() -> ResultT:
        served = Served(kind, ServicePort(answer))
        await served.open()
        try:
            return await scenario(served)
        finally:
            await served.close()

    return asyncio.run(run())
