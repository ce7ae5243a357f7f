"""The operator's end of a control socket; blocking, for commands."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from replica_manager.control.control_messages import RESPONSE_BYTES_MAX, Request, Response, encode
from replica_manager.control.errors import ControlTimeout, ControlUnavailable, RequestRefused

ANSWER_TIMEOUT_S = 10.0
CHUNK_BYTES = 64 * 1024


class ControlClient:
    """One connection to one process; a context manager."""

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Connect to the process behind `path`.

        Args:
            path: its control socket.
            timeout_s: how long an answer may take.

        Raises:
            ControlUnavailable: nobody listens there, or it is not ours to ask.
        """
        self._path = path
        self._timeout_s = timeout_s
        self._received = bytearray()
        self._next_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise _unavailable(path, error) from error

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, method: str, **params: Any) -> Any:
        """Return what the process answers to `method`.

        Raises:
            RequestRefused: it answers that it will not or cannot.
            ControlTimeout: it does not answer in time.
            ControlUnavailable: it ended meanwhile.
        """
        self._send(method, params)
        response = self._receive(time.monotonic() + self._timeout_s)
        return _value(response, response.result)

    def stream(self, method: str, **params: Any) -> Iterator[Any]:
        """Yield the items of a stream as they come, without a time limit.

        Raises:
            RequestRefused: the process ends the stream with an error.
            ControlUnavailable: it ended meanwhile.
        """
        self._send(method, params)
        while True:
            response = self._receive(None)
            if response.end:
                return
            yield _value(response, response.item)

    def _send(self, method: str, params: dict[str, Any]) -> None:
        self._next_id += 1
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(encode(Request(self._next_id, method, params)))
        except TimeoutError as error:
            raise ControlTimeout(f"{self._path} takes no requests") from error
        except OSError as error:
            raise ControlUnavailable(f"{self._path} hung up: {error.strerror}") from error

    def _receive(self, deadline_s: float | None) -> Response:
        """Return the next response; `deadline_s` is monotonic, `None` waits for ever."""
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > RESPONSE_BYTES_MAX:
                raise ControlUnavailable(f"{self._path} answers with more than {RESPONSE_BYTES_MAX} bytes")
            self._received += self._receive_chunk(deadline_s)
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            response = msgspec.json.decode(line, type=Response)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ControlUnavailable(f"{self._path} does not speak the control protocol: {error}") from error
        if response.id not in (0, self._next_id):
            raise ControlUnavailable(f"{self._path} answers request {response.id} instead of {self._next_id}")
        return response

    def _receive_chunk(self, deadline_s: float | None) -> bytes:
        remaining_s = None if deadline_s is None else max(0.001, deadline_s - time.monotonic())
        self._socket.settimeout(remaining_s)
        try:
            chunk = self._socket.recv(CHUNK_BYTES)
        except TimeoutError as error:
            hint = "its event loop may be blocked; see its log"
            raise ControlTimeout(f"{self._path} did not answer within {self._timeout_s:g} s", hint) from error
        except OSError as error:
            raise ControlUnavailable(f"{self._path} hung up: {error.strerror}") from error
        if not chunk:
            raise ControlUnavailable(f"{self._path} hung up", "the process ended or was full; see its log")
        return chunk


def _value(response: Response, value: Any) -> Any:
    """Return the wanted field of a response, or raise its error."""
    if not isinstance(response.error, msgspec.UnsetType):
        raise RequestRefused(response.error.code, response.error.message, response.error.hint)
    return None if value is msgspec.UNSET else value


def _unavailable(path: Path, error: OSError) -> ControlUnavailable:
    if isinstance(error, PermissionError):
        return ControlUnavailable(f"{path} belongs to another user", "run as the user that started the cell")
    if isinstance(error, TimeoutError):
        return ControlTimeout(f"{path} takes no connections")
    return ControlUnavailable(f"nobody answers on {path}", "is the server running? spare status, spare cell up")
