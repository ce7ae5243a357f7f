"""The update manager's own connection to the adapter: one frame per dynamic request.

    frame = length: u32 (of what follows) | sequence: u64 | update

The frame leaves before the application hands its reply to the web server, so it stands for "request `sequence` has
ended, and this is all that it changed".
"""

import os
import select
import selectors
import socket
import struct
from pathlib import Path
from typing import Final

from rubis_adapter.errors import ServiceFailed
from rubis_adapter.update_manager.manager import UPDATE_BYTES_MAX

_FRAME: Final = struct.Struct(">IQ")
_SEQUENCE_BYTES: Final = 8
_READ_BYTES: Final = 65536
_BACKLOG: Final = 4
CONNECTIONS_MAX: Final = 4
"""A restarted application server connects before the death of the old one is seen; more are refused."""


class UpdateSender:
    """The application's end.  Connects when the first update is sent, and again if the adapter has been restarted."""

    def __init__(self, path: Path) -> None:
        """`path`: the Unix socket on which the adapter listens."""
        self._path = path
        self._connection: socket.socket | None = None

    def send(self, sequence: int, update: bytes) -> None:
        """Reports the end of a request.  Raises `OSError` if the adapter is not there."""
        self._connected().sendall(_FRAME.pack(_SEQUENCE_BYTES + len(update), sequence) + update)

    def close(self) -> None:
        """Ends the connection; the next update opens one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> socket.socket:
        # The adapter never sends anything: what can be read is the end of the connection.
        if self._connection is not None and select.select([self._connection], [], [], 0)[0]:
            self.close()
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.connect(str(self._path))
        return self._connection


class UpdateReceiver:
    """The adapter's end: takes connections and frames as they come, keeps the update of the newest request.

    Register its sockets with a selector; when one of them is readable, call `receive`.
    """

    def __init__(self, path: Path, selector: selectors.BaseSelector, user_id: int, group_id: int) -> None:
        """Listens at `path`, for processes of the given account and of this one."""
        path.unlink(missing_ok=True)
        self._selector = selector
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o600)
        if os.getuid() == 0:
            os.chown(path, user_id, group_id)
        self._listener.listen(_BACKLOG)
        self._buffers: dict[socket.socket, bytearray] = {}
        self._newest: tuple[int, bytes] | None = None
        selector.register(self._listener, selectors.EVENT_READ, self)

    def take(self, sequence: int) -> bytes | None:
        """The update of request `sequence`, None if its frame has not come yet."""
        if self._newest is None or self._newest[0] != sequence:
            return None
        update = self._newest[1]
        self._newest = None
        return update

    def receive(self, ready: socket.socket) -> None:
        """Reads what is there on one of the registered sockets.

        Raises:
          ServiceFailed: it is no frame, or longer than an update may be.
        """
        if ready is self._listener:
            self._accept()
            return
        data = ready.recv(_READ_BYTES)
        if not data:
            self._drop(ready)
            return
        buffer = self._buffers[ready]
        buffer += data
        self._take_frames(buffer)

    def close(self) -> None:
        """Closes all sockets."""
        for connection in list(self._buffers):
            self._drop(connection)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if len(self._buffers) >= CONNECTIONS_MAX:
            connection.close()
            return
        self._buffers[connection] = bytearray()
        self._selector.register(connection, selectors.EVENT_READ, self)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._buffers[connection]
        connection.close()

    def _take_frames(self, buffer: bytearray) -> None:
        while len(buffer) >= _FRAME.size:
            length, sequence = _FRAME.unpack_from(buffer)
            end = _FRAME.size - _SEQUENCE_BYTES + length
            if not _SEQUENCE_BYTES <= length <= _SEQUENCE_BYTES + UPDATE_BYTES_MAX:
                raise ServiceFailed(f"the update manager sent a frame of {length} bytes")
            if len(buffer) < end:
                return
            self._newest = (sequence, bytes(buffer[_FRAME.size : end]))
            del buffer[:end]
