"""One client's connection to a web server: kept alive, opened anew when lost, one request at a time.

A request is never sent twice: whoever repeats it could execute it twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from rubis_adapter.client_emulator.replies import FailedRequest, Failure, MalformedReply, Reply, ReplyReader
from rubis_adapter.client_emulator.requests import HttpRequest

Done = Callable[[Reply | FailedRequest], None]
"""Told once how a request ended."""


class _Connection(asyncio.Protocol):
    """One TCP connection; hands bytes and its end to the client that opened it."""

    def __init__(self, owner: "HttpClient") -> None:
        self.transport: asyncio.Transport | None = None
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._owner.on_data(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.on_lost(self, exc)


class HttpClient:
    """Sends requests one after the other; must be used from its event loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: Sequence[tuple[str, int]],
        first_address: int,
        timeout_s: float,
    ) -> None:
        self._loop = loop
        self._addresses = addresses
        self._address = first_address % len(addresses)
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reader = ReplyReader()
        self._request: HttpRequest | None = None
        self._done: Done | None = None
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the next request goes out on a connection that is open already."""
        return self._connection is not None

    def request(self, request: HttpRequest, done: Done) -> None:
        """Sends `request`, after connecting if need be, and calls `done` once, never before returning."""
        assert self._done is None, "one request at a time"
        self._request, self._done = request, done
        self._deadline_s = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline_s, self._on_timer)
        if self._connection is None:
            self._connecting = self._loop.create_task(self._connect())
        else:
            self._write()

    def close(self) -> None:
        """Ends the connection; a request under way is forgotten, its `done` is not called."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop()

    async def _connect(self) -> None:
        """Connects to the present address, or to the next one that answers: nothing has been sent yet."""
        errors: list[str] = []
        for _ in self._addresses:
            host, port = self._addresses[self._address]
            try:
                _, connection = await self._loop.create_connection(lambda: _Connection(self), host, port)
            except OSError as error:
                errors.append(f"{host}:{port}: {error}")
                self._address = (self._address + 1) % len(self._addresses)
                continue
            self._connecting = None
            self._use(connection)
            return
        self._connecting = None
        self._finish(FailedRequest(Failure.CONNECT, "; ".join(errors)))

    def _use(self, connection: _Connection) -> None:
        if connection.transport is None or connection.transport.is_closing():
            self._finish(FailedRequest(Failure.CONNECTION_LOST, "closed as soon as it was opened"))
            return
        self._connection = connection
        self._write()

    def _write(self) -> None:
        assert self._request is not None
        assert self._connection is not None
        assert self._connection.transport is not None
        self._connection.transport.write(self._request.encode(self._host()))

    def _host(self) -> str:
        host, port = self._addresses[self._address]
        name = f"[{host}]" if ":" in host else host
        return name if port == 80 else f"{name}:{port}"

    def on_data(self, connection: _Connection, data: bytes) -> None:
        """Bytes have come on `connection`."""
        if connection is not self._connection:
            return
        if self._done is None:
            self._drop()
            return
        try:
            reply = self._reader.feed(data)
        except MalformedReply as error:
            self._finish(FailedRequest(Failure.MALFORMED, str(error)))
            return
        if reply is None:
            return
        if reply.closes:
            self._drop()
        self._finish(reply)

    def on_lost(self, connection: _Connection, error: Exception | None) -> None:
        """`connection` has ended; between two requests that is the server's right."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._done is not None:
            failure = Failure.CONNECTION_LOST if self._reader.is_empty else Failure.TRUNCATED
            self._finish(FailedRequest(failure, str(error) if error else "closed by the server"))

    def _on_timer(self) -> None:
        """One timer per client that is seldom right is cheaper than one per request that is always cancelled."""
        self._timer = None
        if self._done is None:
            return
        if self._loop.time() < self._deadline_s:
            self._timer = self._loop.call_at(self._deadline_s, self._on_timer)
            return
        state = "connecting" if self._connection is None else "waiting for the reply"
        self._finish(FailedRequest(Failure.TIMEOUT, f"{self._timeout_s:g} s, {state}"))

    def _finish(self, result: Reply | FailedRequest) -> None:
        done, self._done = self._done, None
        if isinstance(result, FailedRequest):
            self._drop()
            self._address = (self._address + 1) % len(self._addresses)
        if done is not None:
            done(result)

    def _drop(self) -> None:
        """Gives up the connection and what has come on it."""
        self._reader = ReplyReader()
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        task, self._connecting = self._connecting, None
        if task is not None:
            task.cancel()
