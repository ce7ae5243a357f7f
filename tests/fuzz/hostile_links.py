"""The manager's end of the wrapper channel, over a real socket, against domains that turn hostile after their Hello."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from exec_wrapper.encoding import encode_frame
from exec_wrapper.framing import decode_to_wrapper
from exec_wrapper.wire import EPOCH_BYTES, FromWrapper, Hello, WrapperHello
from replica_manager.execution.wrapper_link import LinkEnd, LinkEndReason, LinkSettings, UnixWrapperLink
from replica_manager.execution.wrapper_session import WrapperLimits, WrapperSession

PATIENCE_S = 60.0
LIMITS = WrapperLimits(64 * 1024, 4096)
SETTINGS = LinkSettings(LIMITS, write_buffer_bytes_max=4 * LIMITS.frame_bytes_max, open_timeout_ms=60_000)


class HostileDomain:
    """Listens on a channel; every connection gets a good Hello, then the next mutant, then the end."""

    def __init__(self, path: Path) -> None:
        """Make the domain of the channel `path`."""
        self._path = path
        self._mutants: asyncio.Queue[bytes] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def close(self) -> None:
        """Stop listening; return when the last connection is gone."""
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._serving)

    def send(self, mutant: bytes) -> None:
        """Send it to the manager that is connected."""
        self._mutants.put_nowait(mutant)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with contextlib.suppress(ConnectionError):
            writer.write(encode_frame(_hello(await _epoch(reader))))
            writer.write(await self._mutants.get())
            writer.write_eof()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _hello(epoch: bytes) -> WrapperHello:
    return WrapperHello(epoch, 1, 1, True, "hostile", "1", "image")


async def _epoch(reader: asyncio.StreamReader) -> bytes:
    decoder = decode_to_wrapper()
    while data := await reader.read(4096):
        for message in decoder.feed(data):
            if isinstance(message, Hello):
                return message.epoch
    raise ConnectionResetError("the manager hung up before its Hello")


async def attack_links(path: Path, mutants: Sequence[bytes]) -> Counter[LinkEndReason]:
    """Open a link per mutant; return how they ended.

    Raises:
        AssertionError: a link did not end exactly once, or not for the reason that its session gives.
    """
    domain = HostileDomain(path)
    await domain.open()
    ends: Counter[LinkEndReason] = Counter()
    for mutant in mutants:
        heard: list[LinkEnd] = []
        frames: list[FromWrapper] = []
        ended = asyncio.Event()

        def on_end(end: LinkEnd, heard: list[LinkEnd] = heard, ended: asyncio.Event = ended) -> None:
            heard.append(end)
            ended.set()

        link = UnixWrapperLink(path, SETTINGS, frames.extend, on_end)
        await link.open(os.urandom(EPOCH_BYTES))
        domain.send(mutant)
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        link.close()
        assert len(heard) == 1, f"{len(heard)} ends of one link"
        _check(mutant, frames, heard[0])
        ends[heard[0].reason] += 1
    await domain.close()
    return ends


def _check(mutant: bytes, frames: Sequence[FromWrapper], end: LinkEnd) -> None:
    session = WrapperSession(bytes(EPOCH_BYTES), LIMITS)
    session.receive(encode_frame(_hello(bytes(EPOCH_BYTES))))
    assert session.receive(mutant) == list(frames), "frames got lost or changed on their way"
    is_over = session.misbehaviour is not None or session.failure is not None
    assert (end.reason is not LinkEndReason.CLOSED) == is_over, f"{end} for {session.misbehaviour}, {session.failure}"
