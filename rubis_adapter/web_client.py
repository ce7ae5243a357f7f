"""The adapter as the web server's HTTP client, with an ear for the update manager.

Both connections are read in one loop: an update longer than a socket's buffer would otherwise block the application,
which would never send the reply that the adapter waits for.
"""

import re
import selectors
import socket
import time
from pathlib import Path
from typing import Final

from rubis_adapter.canonical_reply import WebReply
from rubis_adapter.errors import ServiceFailed
from rubis_adapter.update_manager.channel import UpdateReceiver

HEAD_BYTES_MAX: Final = 32 * 1024
BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest reply; a frame of the wrapper protocol holds 16 MiB."""
_READ_BYTES: Final = 262144
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})( .*)?")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")


class WebClient:
    """One persistent connection to the web server of this replica."""

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, receiver: UpdateReceiver, timeout_seconds: float
    ) -> None:
        """Connects when the first request is sent.

        Args:
          path: the web server's Unix socket.
          selector: holds the sockets of `receiver` already.
          receiver: is handed what comes from the update manager.
          timeout_seconds: for one request and its update; longer is a hanging tier.
        """
        self._path = path
        self._selector = selector
        self._receiver = receiver
        self._timeout_seconds = timeout_seconds
        self._connection: socket.socket | None = None
        self._buffer = b""

    def exchange(self, request: bytes) -> WebReply:
        """Sends one request and reads its whole reply.

        Raises:
          ServiceFailed: no connection, a broken reply, none in time.  The request may have been executed.
        """
        deadline = time.monotonic() + self._timeout_seconds
        try:
            connection = self._connected()
            connection.sendall(request)
            while (reply := self._read_reply()) is None:
                self._wait(deadline, "a reply of the web server")
        except OSError as error:
            self.close()
            raise ServiceFailed(f"the web server at {self._path}: {error}") from error
        except ServiceFailed:
            self.close()
            raise
        return reply

    def await_update(self, sequence: int) -> bytes:
        """The update that the application has announced for a request.  Raises `ServiceFailed`."""
        deadline = time.monotonic() + self._timeout_seconds
        while (update := self._receiver.take(sequence)) is None:
            self._wait(deadline, f"the update of request {sequence}")
        return update

    def close(self) -> None:
        """Ends the connection; the next request opens one."""
        if self._connection is not None:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None
        self._buffer = b""

    def _connected(self) -> socket.socket:
        """An open connection.  One that the server closed while it was idle is replaced before anything is sent."""
        self._handle(self._selector.select(timeout=0))
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX)
            self._selector.register(self._connection, selectors.EVENT_READ)
            self._connection.connect(str(self._path))
        return self._connection

    def _wait(self, deadline: float, what: str) -> None:
        ready = self._selector.select(timeout=max(0.0, deadline - time.monotonic()))
        if not ready or time.monotonic() > deadline:
            raise ServiceFailed(f"no sign of {what} after {self._timeout_seconds:.0f} s")
        had_connection = self._connection is not None
        self._handle(ready)
        if had_connection and self._connection is None and what.startswith("a reply"):
            raise ServiceFailed("the web server closed the connection in the middle of a request")

    def _handle(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            if key.data is self._receiver:
                self._receiver.receive(key.fileobj)
            elif data := key.fileobj.recv(_READ_BYTES):
                self._buffer += data
            else:
                self.close()

    def _read_reply(self) -> WebReply | None:
        """The reply in the buffer, None if it is not complete."""
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise ServiceFailed("the web server's reply has no end of headers")
            return None
        lines = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise ServiceFailed(f"the web server answered {lines[0][:100]!r}")
        pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length) or int(length) > BODY_BYTES_MAX:
            raise ServiceFailed(f"a reply of unusable length {length!r}")
        if len(rest) < int(length):
            return None
        self._buffer = rest[int(length) :]
        if headers.get("connection", "").lower() == "close":
            self.close()
        return WebReply(int(match[1]), headers, rest[: int(length)])
