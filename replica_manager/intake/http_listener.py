"""Listens for HTTP clients.  Each connection is a client; its requests are ordered one after another.

A connection that breaks loses its identity: a request in flight then has an unknown outcome.  Only the framed
protocol, or a proxy that speaks it, makes retries safe.

Source: design "Operator's view", Plain HTTP clients.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from replica_manager.identifiers import ClientId
from replica_manager.intake.arrival import Arrival, HeldBytes
from replica_manager.intake.http_framing import HttpFramer, HttpRejected, HttpRequest
from replica_manager.intake.port import IntakePort, Outcome, Submission

PIPELINED_MAX = 16
"""Requests of one connection that wait for their turn; above that it is not read."""
IDLE_MS_MAX = 300_000
WRITE_BYTES_MAX = 8 * 1024 * 1024

_REASONS = {
    400: "Bad Request",
    413: "Content Too Large",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def error_reply(status: int, text: str, *, is_last: bool) -> bytes:
    """Return a whole HTTP reply that the intake gives by itself."""
    body = f"{status} {_REASONS[status]}: {text}\n".encode()
    retry = "Retry-After: 1\r\n" if status == 503 else ""
    ending = "Connection: close\r\n" if is_last else ""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain\r\n{retry}{ending}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class HttpConnection(asyncio.Protocol):
    """One client connection; a `ReplySink`."""

    def __init__(self, listener: "HttpListener") -> None:
        """Serve a connection of `listener`."""
        self._listener = listener
        self._framer = HttpFramer(listener.request_bytes_max)
        self._arrival = Arrival(listener.held)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[HttpRequest] = deque()
        self._waiting_bytes = 0
        self._client: ClientId | None = None
        self._number = 0
        self._current: HttpRequest | None = None
        self._is_retried = False
        self._rejection: bytes | None = None
        self._active_ms = listener.now_ms()

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if not self._listener.admit(self):
            self._transport.write(error_reply(503, "too many connections", is_last=True))
            self._transport.close()
            self._transport = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._transport = None
        self._arrival.end()
        self._listener.release(self)

    def data_received(self, data: bytes) -> None:
        """Order every complete request."""
        if self._rejection is not None or self._transport is None:
            return
        self._active_ms = self._listener.now_ms()
        try:
            requests: Sequence[HttpRequest] = self._framer.feed(data)
        except HttpRejected as rejected:
            requests = rejected.requests
            self._reject(rejected)
        self._waiting.extend(requests)
        self._waiting_bytes += sum(len(request.raw) for request in requests)
        is_partial = self._framer.pending_bytes > 0
        self._arrival.note(is_partial=is_partial, is_new=bool(requests), now_ms=self._active_ms)
        if not self._hold() and self._rejection is None:
            limit = self._listener.held.bytes_max
            self._reject(HttpRejected(503, f"more than {limit} bytes of incomplete requests"))
        if len(self._waiting) > PIPELINED_MAX:
            self._transport.pause_reading()
        self._maybe_submit()

    def _hold(self) -> bool:
        return self._arrival.hold(self._framer.pending_bytes + self._waiting_bytes)

    def _reject(self, rejected: HttpRejected) -> None:
        """Answer what came before, then this, then nothing more."""
        self._listener.on_rejected(rejected.reason)
        self._rejection = error_reply(rejected.status, rejected.reason, is_last=True)

    def eof_received(self) -> bool:
        """The client sends no more: answer what it sent, then close."""
        if self._current is None and not self._waiting:
            return False
        self._rejection = self._rejection or b""
        return True

    # -- one request after another -----------------------------------------------------------------------------

    def _maybe_submit(self) -> None:
        if self._current is not None or self._transport is None:
            return
        if not self._waiting:
            if self._rejection is not None:
                self._transport.write(self._rejection)
                self._transport.close()
            elif self._framer.wants_continue:
                # Only now: before the replies to earlier requests it would be read as belonging to the first of them.
                self._framer.wants_continue = False
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._current = self._waiting.popleft()
        self._waiting_bytes -= len(self._current.raw)
        self._hold()
        self._is_retried = False
        if len(self._waiting) == PIPELINED_MAX:
            self._transport.resume_reading()
            self._arrival.restart_clock(self._listener.now_ms())
        self._submit_current()

    def _submit_current(self) -> None:
        assert self._current is not None
        if self._client is None:
            self._listener.port.open_client(self, 0)
            return
        self._number += 1
        self._listener.port.submit(self, Submission(self._client, self._number, self._current.raw))

    def client_opened(self, token: int, client: ClientId | None) -> None:
        """The connection has an identity (or not now)."""
        if self._transport is None or self._current is None:
            return
        self._client, self._number = client, 0
        if client is None:
            self._answer(error_reply(503, "the cell cannot take requests now", is_last=False))
        else:
            self._submit_current()

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        """Answer the current request."""
        if self._transport is None or self._current is None or client != self._client or number != self._number:
            return
        match outcome:
            case Outcome.ANSWERED:
                self._answer(reply)
            case Outcome.UNKNOWN_CLIENT:
                # The connection was silent for so long that its id was evicted; the request was surely not executed.
                self._client = None
                self._maybe_retry()
            case Outcome.TOO_LARGE:
                self._answer(error_reply(413, "the request is too large", is_last=False))
            case Outcome.SKIPPED:
                self._answer(error_reply(500, "an operator skipped this request; it changed nothing", is_last=False))
            case Outcome.MALFORMED:
                self._answer(error_reply(400, "the servers do not take this for one HTTP request", is_last=False))
            case Outcome.REPLY_LOST:
                self._answer(error_reply(502, "executed, but its reply is no longer kept", is_last=False))
            case Outcome.UNDECIDED:
                words = "no server answered in time; the request may have been executed, or may be yet"
                self._answer(error_reply(504, words, is_last=False))
            case _:
                self._answer(error_reply(503, "not executed; try again", is_last=False))

    def _maybe_retry(self) -> None:
        if self._is_retried:
            self._answer(error_reply(503, "not executed; try again", is_last=False))
        else:
            self._is_retried = True
            self._submit_current()

    def _answer(self, reply: bytes) -> None:
        assert self._transport is not None
        assert self._current is not None
        is_last = self._current.is_last
        self._current = None
        self._active_ms = self._listener.now_ms()
        # Before this reply is added: one reply may be larger than the limit, and is not the client's fault.
        is_behind = self._transport.get_write_buffer_size() > WRITE_BYTES_MAX
        self._transport.write(reply)
        if is_last:
            self._transport.close()
        elif is_behind:
            self._listener.on_rejected(f"more than {WRITE_BYTES_MAX} bytes of replies not read")
            self._transport.abort()
        else:
            self._maybe_submit()

    def sweep(self, now_ms: float) -> None:
        """End the connection if it was silent too long."""
        if self._transport is None or self._current is not None:
            return
        if self._arrival.is_late(now_ms):
            self._listener.on_rejected("a request was not completed in time")
            self._transport.abort()
        elif now_ms - self._active_ms > IDLE_MS_MAX:
            self._transport.abort()

    def close(self) -> None:
        """The server stops."""
        if self._transport is not None:
            self._transport.abort()


class HttpListener:
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
            request_bytes_max: bytes of one request, head included.
            connections_max: connections at a time; more are answered 503.
            on_rejected: hears why a connection was ended.
            now_ms: monotonic clock.
        """
        self.port = port
        self.request_bytes_max = request_bytes_max
        self.on_rejected = on_rejected
        self.now_ms = now_ms
        self.held = HeldBytes()
        self._connections_max = connections_max
        self.connections: set[HttpConnection] = set()

    def connection(self) -> HttpConnection:
        """Return a protocol for a new connection: the factory for `loop.create_server`."""
        return HttpConnection(self)

    def admit(self, connection: HttpConnection) -> bool:
        """Whether one more connection is served."""
        if len(self.connections) >= self._connections_max:
            self.on_rejected(f"more than {self._connections_max} connections")
            return False
        self.connections.add(connection)
        return True

    def release(self, connection: HttpConnection) -> None:
        """A connection ended."""
        self.connections.discard(connection)
        self.port.forget(connection)

    def sweep(self) -> None:
        """End connections that were silent too long; call every few seconds."""
        now_ms = self.now_ms()
        for connection in list(self.connections):
            connection.sweep(now_ms)

    def close(self) -> None:
        """End every connection."""
        for connection in list(self.connections):
            connection.close()
