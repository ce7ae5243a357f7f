"""`/metrics` and `/healthz` of one server on its administration address.

Answers come from a thread with an event loop of its own: a scrape never delays a vote, and when the replica
manager's loop hangs the health check says so instead of hanging too.
Only the little of HTTP/1.1 that scrapers and load balancers speak: GET and HEAD, one request per connection.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from replica_manager.config_addresses import Address
from replica_manager.control.errors import ProcessError
from replica_manager.control.metrics import Snapshot, new_registry, render

REQUEST_HEAD_BYTES_MAX = 8 * 1024
CONNECTIONS_MAX = 32
READ_TIMEOUT_S = 5.0
"""Time for a whole request head: a slow client is not waited for."""
WRITE_TIMEOUT_S = 5.0
SNAPSHOT_TIMEOUT_S = 2.0
"""A replica manager whose loop does not give its status within this time does not serve."""
SERVING_STATES = ("serving", "degraded")

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_JSON = "application/json"


class _Answer(NamedTuple):
    """What one request gets."""

    status: HTTPStatus
    content_type: str
    body: bytes
    extra: str = ""
    """Further header lines, each with its line end."""


class AdminServer:
    """Serves one address from a daemon thread."""

    def __init__(
        self,
        address: Address,
        snapshot: Snapshot,
        read_timeout_s: float = READ_TIMEOUT_S,
        snapshot_timeout_s: float = SNAPSHOT_TIMEOUT_S,
        on_event: Callable[[str, dict[str, Any]], None] = lambda _kind, _data: None,
    ) -> None:
        """Make the server.

        Args:
            address: where it listens.
            snapshot: gives the status; called in the loop that calls `open`.
            read_timeout_s: time for a whole request head.
            snapshot_timeout_s: time for `snapshot` to be called and to return.
            on_event: hears of `admin_refused` and `admin_failed`; called in the loop that calls `open`.
        """
        self._address = address
        self._snapshot = snapshot
        self._read_timeout_s = read_timeout_s
        self._snapshot_timeout_s = snapshot_timeout_s
        self._on_event = on_event
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="spare-admin", daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on; useful when the configured one is 0."""
        assert self._server is not None, "open() has been awaited"
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        """Listen.

        Raises:
            ProcessError: the address cannot be used.
        """
        self._main_loop = asyncio.get_running_loop()
        self._thread.start()
        try:
            await self._in_thread(self._listen())
        except OSError as error:
            await self.close()
            host, port = self._address
            hint = "is it taken, or not an address of this server? see admin_address"
            raise ProcessError(f"admin_address {host}:{port} cannot be used: {error.strerror}", hint) from error

    async def close(self) -> None:
        """Stop listening and end the thread."""
        if not self._thread.is_alive():
            return
        await self._in_thread(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _in_thread(self, coroutine: Any) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, self._address.host, self._address.port, limit=REQUEST_HEAD_BYTES_MAX
        )

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX:
            self._tell("admin_refused", f"more than {CONNECTIONS_MAX} connections")
            writer.transport.abort()
            return
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._end(task, writer))

    def _end(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A supervisor: this thread decides nothing and holds no state, so its failure is no reason to stop serving.
            self._tell("admin_failed", repr(error))
        if writer.transport.get_write_buffer_size():
            writer.transport.abort()
        else:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._read_timeout_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            self._tell("admin_refused", f"no request within {self._read_timeout_s:g} s")
            return
        except (OSError, asyncio.IncompleteReadError):
            return  # the client is gone
        except asyncio.LimitOverrunError:
            head = b""
        method, answer = await self._route(head)
        if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._tell("admin_refused", answer.body.decode().strip())
        try:
            writer.write(_encode(answer, with_body=method != "HEAD"))
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await writer.drain()
        except (OSError, TimeoutError):
            return

    def _tell(self, kind: str, reason: str) -> None:
        """Have the main loop, to which events belong, record one."""
        if self._main_loop is not None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                self._main_loop.call_soon_threadsafe(self._on_event, kind, {"reason": reason})

    async def _route(self, head: bytes) -> tuple[str, _Answer]:
        request = read_request_line(head)
        if request is None:
            return "", _plain(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request\n")
        method, target = request
        if method not in ("GET", "HEAD"):
            return method, _plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n", "Allow: GET, HEAD\r\n")
        if target == "/metrics":
            return method, await self._metrics()
        if target == "/healthz":
            return method, await self._health()
        return method, _plain(HTTPStatus.NOT_FOUND, "there are /metrics and /healthz\n")

    async def _metrics(self) -> _Answer:
        status = await self._take_snapshot()
        if status is None:
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "the replica manager does not answer\n")
        return _Answer(HTTPStatus.OK, _METRICS, render(new_registry(lambda: status)))

    async def _health(self) -> _Answer:
        status = await self._take_snapshot()
        state = "not_answering" if status is None else str(status.get("state", "not_serving"))
        shown = {key: (status or {}).get(key) for key in ("cell", "server", "leader", "delivered", "stable")}
        body = json.dumps({"state": state, **shown}, default=str).encode() + b"\n"
        code = HTTPStatus.OK if state in SERVING_STATES else HTTPStatus.SERVICE_UNAVAILABLE
        return _Answer(code, _JSON, body)

    async def _take_snapshot(self) -> Mapping[str, Any] | None:
        """Return the status as the replica manager's own loop sees it; `None` if that hangs or has ended."""

        async def take() -> Mapping[str, Any]:
            return self._snapshot()

        assert self._main_loop is not None, "connections come after open()"
        if self._main_loop.is_closed():
            return None
        taken = asyncio.run_coroutine_threadsafe(take(), self._main_loop)
        try:
            async with asyncio.timeout(self._snapshot_timeout_s):
                return await asyncio.wrap_future(taken)
        except TimeoutError:
            return None


def read_request_line(head: bytes) -> tuple[str, str] | None:
    """Return method and path, without a query, of a request's head; None if it is no HTTP/1 request."""
    parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    return parts[0], parts[1].partition("?")[0]


def _plain(status: HTTPStatus, text: str, extra: str = "") -> _Answer:
    return _Answer(status, _TEXT, text.encode(), extra)


def _encode(answer: _Answer, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n"
        f"{answer.extra}\r\n"
    )
    return head.encode("latin-1") + (answer.body if with_body else b"")
