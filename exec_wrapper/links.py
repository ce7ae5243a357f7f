"""The ways to a replica manager: a virtio-serial port, a Unix socket, a TCP connection.

A `Link` opens one `Channel` after another; a channel is one connection as blocking reads and writes of bytes.
The replica manager always connects; a domain only answers.  (`…-connect` links are for set-ups of one's own.)
"""

import contextlib
import logging
import os
import socket
import stat
import time
from pathlib import Path
from typing import Callable, Dict, Optional, Protocol, Tuple

from exec_wrapper.errors import LinkClosed, UsageError

_logger = logging.getLogger("exec_wrapper")

READ_BYTES = 64 * 1024
RETRY_S = 0.2
"""Pause before looking again for a peer or a device that is not there.  A virtio port without a peer reads as ended
all the time: without a pause a waiting wrapper would use a whole CPU."""
VIRTIO_PORTS = Path("/sys/class/virtio-ports")
UNIX_PATH_BYTES_MAX = 107


class Channel(Protocol):
    """One connection."""

    def read(self) -> bytes:
        """Wait for bytes and return what is there; empty: the connection has ended."""
        ...

    def write(self, data: bytes) -> None:
        """Send everything.

        Raises:
            LinkClosed: the connection has ended.
        """
        ...

    def close(self) -> None:
        """End the connection; may be called in another thread to end a `read`."""
        ...


class Link(Protocol):
    """Where connections come from."""

    def open_channel(self) -> Channel:
        """Wait for the next connection."""
        ...


class SocketChannel:
    """A connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over `connection`."""
        self._connection = connection
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self) -> bytes:
        """See `Channel`."""
        try:
            return self._connection.recv(READ_BYTES)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """See `Channel`."""
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise LinkClosed("the connection ended: %s" % error) from error

    def close(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError):  # the peer was faster
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class PortChannel:
    """A connection over a virtio-serial port.

    The port stays open for the life of the process; only the host's side connects and disconnects.  A read of an
    unconnected port returns nothing at once; a write waits for the host.
    """

    def __init__(self, descriptor: int) -> None:
        """Use the open port `descriptor`, which the link owns."""
        self._descriptor = descriptor

    def read(self) -> bytes:
        """See `Channel`."""
        return os.read(self._descriptor, READ_BYTES)

    def write(self, data: bytes) -> None:
        """See `Channel`."""
        rest = memoryview(data)
        while rest:
            # The driver takes at most 32 KiB a call.
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Do nothing: bytes that are still to come belong to nobody, and the next `Hello` is found behind them."""


class VirtioLink:
    """The virtio-serial port that the hypervisor gave a name."""

    def __init__(self, name: str, ports: Path = VIRTIO_PORTS, devices: Path = Path("/dev")) -> None:
        """`name` is the target name of the channel in the domain's definition."""
        self._name = name
        self._ports = ports
        self._devices = devices
        self._descriptor: Optional[int] = None
        self._is_first = True

    def open_channel(self) -> Channel:
        """Open the port, once, and wait a moment if the host has just disconnected."""
        if self._descriptor is None:
            self._descriptor = self._open_port()
        elif not self._is_first:
            time.sleep(RETRY_S)
        self._is_first = False
        return PortChannel(self._descriptor)

    def close(self) -> None:
        """Close the port; for programs that outlive their wrapper."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open_port(self) -> int:
        while True:
            for entry in sorted(self._ports.glob("*/name")):
                if entry.read_text().strip() == self._name:
                    return os.open(str(self._devices / entry.parent.name), os.O_RDWR)
            # The driver finds its ports some time after it is loaded.
            time.sleep(RETRY_S)


class ListeningLink:
    """Accepts one connection at a time, in the order in which they come, like the port of a virtual machine."""

    def __init__(self, listener: socket.socket) -> None:
        """Take over a listening socket."""
        self._listener = listener

    @property
    def address(self) -> object:
        """The socket's own address, for instance the port that the system chose."""
        return self._listener.getsockname()

    def open_channel(self) -> Channel:
        """See `Link`."""
        connection, _ = self._listener.accept()
        return SocketChannel(connection)

    def close(self) -> None:
        """Stop listening; for programs that outlive their wrapper."""
        self._listener.close()


class ConnectingLink:
    """Connects, and tries again until somebody listens."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        """`connect` makes one attempt."""
        self._connect = connect
        self._is_first = True

    def open_channel(self) -> Channel:
        """See `Link`."""
        if not self._is_first:
            time.sleep(RETRY_S)
        self._is_first = False
        while True:
            try:
                return SocketChannel(self._connect())
            except OSError:
                time.sleep(RETRY_S)


def open_link(spec: str) -> Link:
    """Return the link that `spec` names.

    Args:
        spec: `virtio:NAME`, `unix:PATH` or `tcp:HOST:PORT` (listen), `unix-connect:PATH` or
            `tcp-connect:HOST:PORT`, `fd:NUMBER` (an inherited listening socket).

    Raises:
        UsageError: it names none, or one whose address cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if not rest or kind not in _OPENERS:
        raise UsageError("not a link: %r; write one of %s" % (spec, ", ".join(k + ":…" for k in _OPENERS)))
    try:
        return _OPENERS[kind](rest)
    except OSError as error:
        raise UsageError("the link %s cannot be opened: %s" % (spec, error)) from error


def _listen_unix(path: str) -> Link:
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        raise UsageError("the socket path %r has more than %d bytes" % (path, UNIX_PATH_BYTES_MAX))
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        os.unlink(path)  # left by a former process of this domain
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return ListeningLink(listener)


def _listen_tcp(address: str) -> Link:
    listener = socket.create_server(_host_and_port(address), backlog=1)
    _logger.info("listening on port %d", listener.getsockname()[1])
    return ListeningLink(listener)


def _listen_inherited(number: str) -> Link:
    if not number.isdigit():
        raise UsageError("not a file descriptor: %r" % number)
    return ListeningLink(socket.socket(fileno=int(number)))


def _connect_unix(path: str) -> Link:
    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection

    return ConnectingLink(connect)


def _connect_tcp(address: str) -> Link:
    target = _host_and_port(address)
    return ConnectingLink(lambda: socket.create_connection(target))


def _host_and_port(address: str) -> Tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError("not HOST:PORT: %r" % address)
    return host.strip("[]"), int(port)


_OPENERS: Dict[str, Callable[[str], Link]] = {
    "virtio": VirtioLink,
    "unix": _listen_unix,
    "tcp": _listen_tcp,
    "unix-connect": _connect_unix,
    "tcp-connect": _connect_tcp,
    "fd": _listen_inherited,
}
