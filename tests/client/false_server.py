"""A server of the framed protocol that does what it is told to, on a real socket: correct, silent, or hostile."""

import asyncio
from collections.abc import Awaitable, Callable

from replica_manager.config_addresses import Address
from replica_manager.identifiers import CLIENT_ID_BYTES
from replica_manager.intake.framed_messages import (
    ClientOpened,
    FrameSplitter,
    OpenClient,
    Reply,
    ToServer,
    decode_to_server,
    encode,
)
from replica_manager.intake.port import Outcome

FRAME_BYTES_MAX = 1 << 20
Behaviour = Callable[["Peer", ToServer], Awaitable[None]]


class Peer:
    """One connection of a client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        """Answer through `writer`."""
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send anything."""
        self.writer.write(data)

    def hang_up(self) -> None:
        """End the connection."""
        self.writer.close()


class FalseServer:
    """Listens on loopback; `behaviour` gets every message."""

    def __init__(self, behaviour: Behaviour) -> None:
        """Behave like this."""
        self.behaviour = behaviour
        self.connections = 0
        self.taken: list[ToServer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> Address:
        """Listen; return where."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return Address(*self._server.sockets[0].getsockname()[:2])

    async def close(self) -> None:
        """Listen no more; end all connections."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        splitter, peer = FrameSplitter(FRAME_BYTES_MAX), Peer(writer)
        try:
            while data := await reader.read(65536):
                for body in splitter.feed(data):
                    self.taken.append(decode_to_server(body))
                    await self.behaviour(peer, self.taken[-1])
        except ConnectionError:
            pass  # the client hung up, which is what it should do
        finally:
            self._tasks.discard(task)
            writer.close()


class Honest:
    """Issues ids, executes each request once, answers with its number of bytes as an HTTP page."""

    def __init__(self) -> None:
        """Execute nothing yet."""
        self.executed: list[tuple[bytes, int]] = []
        self._issued = 0

    async def __call__(self, peer: Peer, message: ToServer) -> None:
        """Answer."""
        if isinstance(message, OpenClient):
            self._issued += 1
            peer.send(encode(ClientOpened(message.token, self._issued.to_bytes(CLIENT_ID_BYTES))))
            return
        if (message.client, message.number) not in self.executed:
            self.executed.append((message.client, message.number))
        body = b"%d bytes" % len(message.payload)
        page = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        peer.send(encode(Reply(message.client, message.number, Outcome.ANSWERED, page)))


async def never(_peer: Peer, _message: ToServer) -> None:
    """Read and say nothing."""
