"""The connection between a replica manager and the wrapper in one of its domains.

The manager connects; a domain only answers.  `UnixWrapperLink` serves virtio-serial ports (the hypervisor's end is
a Unix socket) and child processes, `TcpWrapperLink` domains behind a bridge.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from exec_wrapper.framing import encode_frame
from exec_wrapper.wire import FromWrapper, ToWrapper, WrapperHello
from replica_manager.execution.errors import LinkError
from replica_manager.execution.wrapper_session import NO_EPOCH, WrapperLimits, WrapperSession

_RETRY_S_MIN: Final = 0.01
_RETRY_S_MAX: Final = 0.2


class LinkEndReason(enum.Enum):
    """Why a link ended.  The values name events."""

    CLOSED = "link_closed"
    """The domain's end of the channel is gone."""
    MISBEHAVIOUR = "link_misbehaviour"
    """The domain sent what no correct wrapper sends."""
    FAILED = "link_wrapper_failed"
    """The wrapper said `Failed`, which is also handed on as a message."""
    WRITE_BUFFER_FULL = "link_write_buffer_full"
    """The domain does not read: more than `write_buffer_bytes_max` wait for it."""


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """The end of a link, as the domain caused it."""

    reason: LinkEndReason
    text: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.reason.value}: {self.text}"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Limits of a link."""

    limits: WrapperLimits
    write_buffer_bytes_max: int = 64 * 1024 * 1024
    """Bytes that wait for a domain that does not read, for instance a suspended one.  At least two frames."""
    open_timeout_ms: int = 300_000
    """From `open` to the echo: a virtual machine boots meanwhile."""


OnFrames = Callable[[Sequence[FromWrapper]], None]
OnEnd = Callable[[LinkEnd], None]


class WrapperLink(Protocol):
    """A channel to one wrapper.  Contract suite: `tests/contracts/test_wrapper_link.py`.

    All methods belong to the event loop's thread.  Callbacks come in the event loop, `on_end` at most once for each
    `open` that succeeded, and neither after `close`.
    """

    async def open(self, epoch: bytes) -> WrapperHello:
        """Connect, trying again until somebody answers, and exchange Hello.

        A link whose end was reported may be opened again.

        Args:
            epoch: 16 random bytes, new for every call.

        Raises:
            LinkError: not within `open_timeout_ms`, or what answers is no wrapper.
        """
        ...

    def send(self, message: ToWrapper) -> None:
        """Send one message; messages of one turn of the loop leave in one write.  Nothing happens after the end."""
        ...

    def send_frames(self, frames: bytes) -> None:
        """Send frames that are encoded already; otherwise like `send`."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the domain to read."""
        ...

    def close(self) -> None:
        """End the connection at once; what is not sent is lost."""
        ...


class _Connection(asyncio.Protocol):
    """One attempt to reach a wrapper, from the connection to its end.

    A connection of its own per attempt, because asyncio reports the loss of an aborted one only later.
    """

    def __init__(self, session: WrapperSession, settings: LinkSettings, on_frames: OnFrames, on_end: OnEnd) -> None:
        self.greeted: asyncio.Future[WrapperHello] = asyncio.get_running_loop().create_future()
        self.is_started = False
        """Set once `open` has returned; before, nothing was asked and nothing is handed on."""
        self.end: LinkEnd | None = None
        self._session = session
        self._settings = settings
        self._on_frames = on_frames
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._session.opening_frame())

    def data_received(self, data: bytes) -> None:
        session = self._session
        messages = session.receive(data)
        if not self.is_started:
            self._take_greeting(session, messages)
        elif messages and self.end is None:
            self._on_frames(messages)
        if session.failure is not None:
            # Not left to the wrapper: a virtio-serial port cannot be closed from within the machine.
            self._finish(LinkEnd(LinkEndReason.FAILED, session.failure))
        if session.misbehaviour is not None:
            self._finish(LinkEnd(LinkEndReason.MISBEHAVIOUR, str(session.misbehaviour)))

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(LinkEnd(LinkEndReason.CLOSED, str(error) if error else "the other end closed it"))

    def send_frames(self, frames: bytes) -> None:
        if self.end is not None:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frames)
        self._unsent_bytes += len(frames)

    @property
    def buffered_bytes(self) -> int:
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + self._unsent_bytes

    def close(self) -> None:
        """End it; nobody is told."""
        self.is_started = False
        self._finish(LinkEnd(LinkEndReason.CLOSED, "closed by this side"))

    def _take_greeting(self, session: WrapperSession, messages: Sequence[FromWrapper]) -> None:
        if messages and session.failure is None:
            said = type(messages[0]).__name__
            self._finish(LinkEnd(LinkEndReason.MISBEHAVIOUR, f"sent {said} before anything was asked"))
        elif session.hello is not None and not self.greeted.done():
            self.greeted.set_result(session.hello)

    def _flush(self) -> None:
        frames = b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._transport is None or self.end is not None:
            return
        self._transport.write(frames)
        waiting = self._transport.get_write_buffer_size()
        if waiting > self._settings.write_buffer_bytes_max:
            text = f"{waiting} bytes wait, allowed are {self._settings.write_buffer_bytes_max}"
            self._finish(LinkEnd(LinkEndReason.WRITE_BUFFER_FULL, text))

    def _finish(self, end: LinkEnd) -> None:
        if self.end is not None:
            return
        self.end = end
        if self._transport is not None:
            self._transport.abort()
        if self.is_started:
            self._on_end(end)
        elif not self.greeted.done():
            self.greeted.cancel()


class _StreamLink:
    """What both implementations share; a subclass connects."""

    def __init__(self, settings: LinkSettings, on_frames: OnFrames, on_end: OnEnd) -> None:
        self._settings = settings
        self._on_frames = on_frames
        self._on_end = on_end
        self._connection: _Connection | None = None
        self._former_epoch = NO_EPOCH

    async def _connect_once(self, connection: _Connection) -> None:
        """Make one attempt; raises `OSError` if nobody listens."""
        raise NotImplementedError

    def _target(self) -> str:
        raise NotImplementedError

    async def open(self, epoch: bytes) -> WrapperHello:
        """See `WrapperLink`."""
        timeout_s = self._settings.open_timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):
                return await self._open(epoch)
        except TimeoutError as error:
            raise LinkError(f"no wrapper answered at {self._target()} within {timeout_s:g} s") from error

    async def _open(self, epoch: bytes) -> WrapperHello:
        retry_s = _RETRY_S_MIN
        while True:
            connection = await self._attempt(epoch)
            if connection.end is None:
                connection.is_started = True
                self._connection = connection
                self._former_epoch = epoch
                return connection.greeted.result()
            if connection.end.reason is not LinkEndReason.CLOSED:
                raise LinkError(f"no wrapper at {self._target()}: {connection.end}")
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _RETRY_S_MAX)

    async def _attempt(self, epoch: bytes) -> _Connection:
        """Return a connection that is greeted, or one that has ended."""
        session = WrapperSession(epoch, self._settings.limits, self._former_epoch)
        connection = _Connection(session, self._settings, self._on_frames, self._on_end)
        try:
            await self._connect_once(connection)
            await asyncio.wait((connection.greeted,))
        except OSError:
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        return connection

    def send(self, message: ToWrapper) -> None:
        """See `WrapperLink`."""
        self.send_frames(encode_frame(message))

    def send_frames(self, frames: bytes) -> None:
        """See `WrapperLink`."""
        if self._connection is not None:
            self._connection.send_frames(frames)

    @property
    def buffered_bytes(self) -> int:
        """See `WrapperLink`."""
        return 0 if self._connection is None else self._connection.buffered_bytes

    def close(self) -> None:
        """See `WrapperLink`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class UnixWrapperLink(_StreamLink):
    """A link over a Unix socket that the hypervisor, or a wrapper as a child process, listens on."""

    def __init__(self, path: Path, settings: LinkSettings, on_frames: OnFrames, on_end: OnEnd) -> None:
        """Open nothing yet; `path` is the channel of the domain."""
        super().__init__(settings, on_frames, on_end)
        self._path = path

    async def _connect_once(self, connection: _Connection) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, str(self._path))

    def _target(self) -> str:
        return str(self._path)


class TcpWrapperLink(_StreamLink):
    """A link over TCP to a wrapper that listens in its domain."""

    def __init__(self, host: str, port: int, settings: LinkSettings, on_frames: OnFrames, on_end: OnEnd) -> None:
        """Open nothing yet; `host` is an address on the internal network."""
        super().__init__(settings, on_frames, on_end)
        self._host = host
        self._port = port

    async def _connect_once(self, connection: _Connection) -> None:
        await asyncio.get_running_loop().create_connection(lambda: connection, self._host, self._port)

    def _target(self) -> str:
        return f"{self._host}:{self._port}"
