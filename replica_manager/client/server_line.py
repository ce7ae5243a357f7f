"""One connection to one server, for `FailoverClient`: bytes to messages and back."""

import asyncio
from collections.abc import Callable
from typing import cast

from replica_manager.intake.framed_messages import (
    FramedError,
    FrameSplitter,
    ToClient,
    ToServer,
    decode_to_client,
    encode,
)

REPLY_BYTES_MAX = 64 * 1024 * 1024
"""Of one frame; what a domain may answer (`frame_bytes_max`) is less in any cell that works."""


class ServerLine(asyncio.Protocol):
    """Tells messages, misbehaviour and its end, until `hang_up`."""

    def __init__(
        self,
        on_message: Callable[[ToClient], None],
        on_garbage: Callable[[str], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Report to these; `on_garbage` is told what is wrong, `on_end` why."""
        self._on_message, self._on_garbage, self._on_end = on_message, on_garbage, on_end
        self._splitter = FrameSplitter(REPLY_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._is_hung_up = False
        self.has_ended = False

    def send(self, message: ToServer) -> None:
        """Send with everything else of this turn of the loop."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(encode(message))

    def hang_up(self) -> None:
        """End the connection; nothing is reported any more."""
        self._is_hung_up = True
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is not None and not self._is_hung_up:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._is_hung_up:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Report what is complete."""
        fault: FramedError | None = None
        try:
            bodies = self._splitter.feed(data)
        except FramedError as error:
            fault, bodies = error, list(error.bodies)
        try:
            for body in bodies:
                if not self._is_hung_up:
                    self._on_message(decode_to_client(body))
        except FramedError as error:
            fault = error
        if fault is not None and not self._is_hung_up:
            self._on_garbage(str(fault))

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end."""
        self._transport = None
        self.has_ended = True
        if not self._is_hung_up:
            self._on_end(str(exc or "the server closed the connection"))
