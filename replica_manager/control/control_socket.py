"""The server's end of a control socket: answers the operator's commands by named handlers.

The socket is a file of mode 0600 in a directory of mode 0700: who may open it is the operator.
Nothing that arrives there ends more than its own connection.
"""

import asyncio
import inspect
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from replica_manager.control.control_messages import (
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    Failure,
    GarbageRequest,
    Request,
    Response,
    decode_request,
    encode,
)
from replica_manager.control.errors import AlreadyRuns, RequestRefused

Handler = Callable[[dict[str, Any]], Any | Awaitable[Any] | AsyncIterator[Any]]
"""Parameters → the result, at once or awaited, or an asynchronous iterator of a stream's items."""

CONNECTIONS_MAX = 64
IDLE_TIMEOUT_S = 600.0
"""A connection without a request is closed after this time."""
WRITE_TIMEOUT_S = 10.0
"""A client that does not take its answer for this long is dropped."""
PROBE_TIMEOUT_S = 2.0

_END = object()


class ControlSocket:
    """Listens on one Unix socket; every connection is served one request at a time."""

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        on_event: Callable[[str, dict[str, Any]], None] = lambda _kind, _data: None,
    ) -> None:
        """Make the control socket of a process.

        Args:
            path: the socket's file; at most 107 bytes.
            handlers: by method name; they may raise `RequestRefused`.
            on_event: hears of `control_garbage`, `control_refused`, `control_full` and `control_handler_failed`.
        """
        self._path = path
        self._handlers = dict(handlers)
        self._on_event = on_event
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen.

        Raises:
            AlreadyRuns: another process answers on this socket.
            OSError: the directory or the socket cannot be made.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.parent.chmod(0o700)
        if _answers(self._path):
            raise AlreadyRuns(f"another process serves {self._path}", "stop it first: spare cell down")
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=REQUEST_BYTES_MAX, start_serving=False
        )
        await self._server.start_serving()

    async def close(self) -> None:
        """Stop listening, end all connections and remove the socket."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            # The loop had accepted it before `close`, and hands it over only now.
            writer.transport.abort()
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            self._on_event("control_full", {"connections": CONNECTIONS_MAX})
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(lambda _: self._end(task, writer))

    def _end(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        """Hang up; here and not in the task, because one that is cancelled before its first step runs no `finally`."""
        self._connections.discard(task)
        if writer.transport.get_write_buffer_size():
            writer.transport.abort()
        else:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client goes away, is silent for too long, or does not take its answer."""
        try:
            while (request := await self._read(reader, writer)) is not None:
                await self._answer(request, reader, writer)
        except (OSError, TimeoutError):
            return  # the client is gone or stuck; it knows

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
        """Return the next request; `None` at the end, which garbage brings about too."""
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            await self._refuse_garbage(writer, f"a request has at most {REQUEST_BYTES_MAX} bytes")
            return None
        try:
            return decode_request(line)
        except GarbageRequest as error:
            await self._refuse_garbage(writer, str(error))
            return None

    async def _refuse_garbage(self, writer: asyncio.StreamWriter, message: str) -> None:
        self._on_event("control_garbage", {"reason": message})
        await _write(writer, Response(0, error=Failure("bad_request", message)))

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = self._handlers.get(request.method)
        if handler is None:
            self._on_event("control_refused", {"method": request.method, "reason": "unknown method"})
            known = ", ".join(sorted(self._handlers))
            failure = Failure("not_found", f"unknown method {request.method!r}", f"known: {known}")
            await _write(writer, Response(request.id, error=failure))
            return
        result = await self._supervise(request, lambda: handler(request.params))
        if isinstance(result, AsyncIterator):
            await self._stream(request, result, reader, writer)
        elif isinstance(result, Failure):
            await _write(writer, Response(request.id, error=result))
        else:
            await _write(writer, Response(request.id, result=result))

    async def _supervise(self, request: Request, action: Callable[[], Any]) -> Any | Failure:
        """Named supervisor of handlers: a command that fails must not end the server that it asks."""
        try:
            result = action()
            return await result if inspect.isawaitable(result) else result
        except RequestRefused as error:
            if error.code == "bad_request":
                self._on_event("control_refused", {"method": request.method, "reason": str(error)})
            return Failure(error.code, str(error), error.hint)
        except Exception as error:  # noqa: BLE001  (supervisor; the failure is answered and a named event)
            self._on_event("control_handler_failed", {"method": request.method, "error": repr(error)})
            return Failure("internal", f"{request.method} failed: {error!r}", "see the server's log")

    async def _stream(
        self, request: Request, items: AsyncIterator[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send items until they end or the client hangs up; a byte from the client ends the stream too."""
        hang_up: asyncio.Future[Any] = asyncio.ensure_future(reader.read(1))
        item: asyncio.Future[Any] = hang_up
        try:
            while True:
                item = asyncio.ensure_future(self._supervise(request, lambda: anext(items, _END)))
                await asyncio.wait((item, hang_up), return_when=asyncio.FIRST_COMPLETED)
                if hang_up.done():
                    raise ConnectionResetError("the client has hung up")
                if item.result() is _END:
                    await _write(writer, Response(request.id, end=True))
                    return
                if isinstance(item.result(), Failure):
                    await _write(writer, Response(request.id, error=item.result()))
                    return
                await _write(writer, Response(request.id, item=item.result()))
        finally:
            # The item too: a generator that still waits for it cannot be closed.
            await _cancel(item)
            await _cancel(hang_up)
            if isinstance(items, AsyncGenerator):
                await items.aclose()


async def _cancel(task: asyncio.Future[Any]) -> None:
    """End `task` and wait until it has ended."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, so that nobody complains


async def _write(writer: asyncio.StreamWriter, response: Response) -> None:
    line = encode(response)
    if len(line) > RESPONSE_BYTES_MAX:
        message = f"the answer has {len(line)} bytes, more than {RESPONSE_BYTES_MAX}"
        line = encode(Response(response.id, error=Failure("too_large", message, "ask for less at once")))
    writer.write(line)
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await writer.drain()


def _answers(path: Path) -> bool:
    """Say whether somebody listens on `path`; a file left by a killed process answers nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except TimeoutError:
            return True  # its queue of connections is full: somebody is there
    return True
