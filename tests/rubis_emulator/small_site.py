"""A web server in the test's own event loop: serves a page for every interaction, and misbehaves when told to.

Requests are read with h11, so that a request that is no proper HTTP/1.1 fails the test.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h11

PAGE = """<html><body data-page="{name}">
<a href="/rubis_servlets/servlet/edu.rice.rubis.servlets.ViewItem?itemId=17">Walnut writing desk</a>
<a href="/rubis_servlets/servlet/edu.rice.rubis.servlets.ViewUserInfo?userId=23">user23</a>
<a href="/rubis_servlets/servlet/edu.rice.rubis.servlets.PutCommentAuth?to=23&itemId=17">comment</a>
<a href="/rubis_servlets/servlet/edu.rice.rubis.servlets.SearchItemsByCategory?category=3&page=2&nbOfItems=20">next</a>
<form><input type=hidden name=minBid value=12.50><input type=hidden name=maxQty value=3>
<input type=hidden name=to value=23></form><IMG SRC="/rubis_servlets/bid_now.jpg"></body></html>"""
STATIC_NAMES = {
    "": "Home",
    "register.html": "Register",
    "browse.html": "Browse",
    "sell.html": "Sell",
    "about_me.html": "AboutMeAuth",
}


@dataclass(frozen=True)
class SeenRequest:
    """One request as the server read it."""

    connection: int
    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def page_name(self) -> str:
        """The page that serves this path."""
        last = self.path.rpartition("/")[2]
        return STATIC_NAMES.get(last, last.removeprefix("edu.rice.rubis.servlets."))


@dataclass(frozen=True)
class Answer:
    """What the server does with one request: bytes, and whether it then closes or falls silent."""

    data: bytes
    closes: bool = False
    hangs: bool = False


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A reply with Content-Length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/html", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def page_for(seen: SeenRequest) -> Answer:
    """The page that was asked for, with everything that an emulated user looks for."""
    return Answer(http(PAGE.format(name=seen.page_name).encode()))


@dataclass
class SmallSite:
    """The server; `answer` decides on every request."""

    answer: Callable[[SeenRequest], Answer] = page_for
    seen: list[SeenRequest] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    broken_requests: list[str] = field(default_factory=list)

    async def __aenter__(self) -> "SmallSite":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        self.drop_connections()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()
        self._server = None
        assert not self.broken_requests

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        return "127.0.0.1", self.port

    async def wait_until_idle(self) -> None:
        """Returns when the last connection has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def drop_connections(self) -> None:
        """Ends all connections at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._answer_all(self.connections, reader, writer)
        except (h11.RemoteProtocolError, ConnectionError) as error:
            if isinstance(error, h11.RemoteProtocolError):
                self.broken_requests.append(str(error))
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer_all(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = h11.Connection(h11.SERVER)
        while (seen := await _next_request(connection, parser, reader)) is not None:
            self.seen.append(seen)
            answer = self.answer(seen)
            writer.write(answer.data)
            await writer.drain()
            if answer.hangs:
                await reader.read()
            if answer.closes or answer.hangs:
                writer.close()
                return
            parser = h11.Connection(h11.SERVER)


async def _next_request(connection: int, parser: h11.Connection, reader: asyncio.StreamReader) -> SeenRequest | None:
    request: h11.Request | None = None
    body = b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(65536)
            if not data and request is None:
                return None
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            parts = urlsplit(request.target.decode("ascii"))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            return SeenRequest(connection, request.method.decode("ascii"), parts.path, query, body)
        else:
            return None
