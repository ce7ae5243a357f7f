"""The shell of exports: writes what the core tells the file, part by part, beside the event loop.  Decides nothing."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from exec_wrapper.wire import Ping, Pong, SetPart, SetState, StateSet, ToWrapper
from replica_manager.control.errors import RequestRefused
from replica_manager.core_output import ExportFailed
from replica_manager.manager_core import ManagerCore
from replica_manager.standing import Standing
from replica_manager.state_files.errors import StateFileError
from replica_manager.state_files.state_disk import StateFileWriter
from replica_manager.state_files.state_file import StateHead

PROGRESS_S = 0.2
"""Between two progress reports: a large state has hundreds of thousands of parts."""
TOKEN_BYTES = 7


class StateSource(NamedTuple):
    """What the head of a file says of where it is from."""

    cell: str
    part_bytes_max: int
    service: Callable[[], str]
    """As the domains here call themselves; empty: they do not agree."""
    wall_us: Callable[[], int]


class StateExport:
    """Exports of one server, one at a time."""

    def __init__(
        self,
        core: ManagerCore,
        source: StateSource,
        touch: Callable[[], None],
        record: Callable[[str, dict[str, Any]], None],
        progress_s: float = PROGRESS_S,
    ) -> None:
        """Serve `core`.

        Args:
            core: what decides.
            source: for the head of each file.
            touch: has the core's output taken soon.
            record: records an event.
            progress_s: between two reports of its progress.
        """
        self._progress_s = progress_s
        self._core = core
        self._source = source
        self._touch = touch
        self._record = record
        self._steps: asyncio.Queue[ToWrapper | ExportFailed] = asyncio.Queue()
        self._writer: StateFileWriter | None = None
        self._is_whole = False
        """Whether the file has its name."""

    def take(self, steps: Sequence[ToWrapper | ExportFailed]) -> None:
        """What the core tells the file."""
        for step in steps:
            if isinstance(step, SetState | ExportFailed):
                while not self._steps.empty():
                    self._steps.get_nowait()  # of an earlier attempt
            self._steps.put_nowait(step)

    def report(self) -> dict[str, Any] | None:
        """Return how far the export under way is; None: none is."""
        writer, filling = self._writer, self._core.export.filling
        if writer is None:
            return None
        agreed = 0 if filling is None else filling.progress[1]
        return {
            "file": str(writer.path),
            "point": self._core.export.point or None,
            "parts": writer.part_count,
            "parts_agreed": agreed,
            "bytes": writer.byte_count,
        }

    async def export(self, parameters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Write the agreed state to the file `path`; yield its progress, and at last what was written as `done`.

        When the caller hangs up, the export ends and leaves nothing.

        Raises:
            RequestRefused: it cannot be; nothing was written.
        """
        path = self._path(parameters)
        if self._core.standing is not Standing.SERVING:
            raise RequestRefused("not_ready", f"this server is {self._core.standing.value}", "wait until it serves")
        if self._writer is not None:
            raise RequestRefused("under_way", f"this server exports to {self._writer.path}", "see spare status")
        try:
            self._writer = StateFileWriter(path, may_overwrite=bool(parameters.get("overwrite")))
        except (OSError, StateFileError) as error:
            raise self._failure(path, error) from error
        token = int.from_bytes(os.urandom(TOKEN_BYTES)) + 1
        # One thread: what it is closing or removing, it does not write any more.
        executor = ThreadPoolExecutor(1, "state-export")
        self._steps, self._is_whole = asyncio.Queue(), False
        self._core.order_export(token)
        self._touch()
        try:
            async with contextlib.aclosing(self._write(self._writer, executor)) as reports:
                async for report in reports:
                    yield report
        except (asyncio.CancelledError, GeneratorExit):
            if not self._is_whole:
                self._record("export_failed", {"file": str(path), "reason": "it was given up"})
            raise
        except (OSError, StateFileError) as error:
            raise self._failure(path, error) from error
        finally:
            self._core.abort_export(token)
            self._touch()
            closing = executor.submit(self._writer.close)
            self._writer = None
            executor.shutdown(wait=False)
            await asyncio.wrap_future(closing)

    @staticmethod
    def _path(parameters: dict[str, Any]) -> Path:
        name = parameters.get("path")
        if not isinstance(name, str) or not os.path.isabs(name):
            raise RequestRefused("bad_request", "export needs the absolute path of a file on the server's machine")
        return Path(name)

    async def _write(self, writer: StateFileWriter, executor: ThreadPoolExecutor) -> AsyncGenerator[dict[str, Any]]:
        """Do what the core says until the file is whole; yield reports."""
        loop, told_s, point = asyncio.get_running_loop(), time.monotonic(), 0
        while True:
            step = await self._steps.get()
            match step:
                case ExportFailed(reason=reason):
                    self._record("export_failed", {"file": str(writer.path), "reason": reason})
                    hint = "see spare status and spare events; order it again"
                    raise RequestRefused("export_failed", f"no state was exported: {reason}", hint)
                case SetState():
                    point, state_format = step
                    await loop.run_in_executor(executor, writer.begin, self._head(point, state_format))
                case SetPart(is_last=is_last, data=data):
                    await loop.run_in_executor(executor, partial(writer.add, data, is_last=is_last))
                    if is_last:
                        await loop.run_in_executor(executor, writer.finish)
                        yield self._done(writer, point)
                        return
                case Ping(token=token):
                    self._core.on_export_frame(Pong(token))
                    self._touch()
            if time.monotonic() - told_s >= self._progress_s:
                told_s = time.monotonic()
                yield self.report() or {}

    def _head(self, point: int, state_format: int) -> StateHead:
        cell, part_bytes_max, service, wall_us = self._source
        time_us = self._core.export.service_time_us
        return StateHead(cell, service(), state_format, part_bytes_max, point, wall_us(), time_us)

    def _done(self, writer: StateFileWriter, point: int) -> dict[str, Any]:
        """The file is whole, and on the disk."""
        self._is_whole = True
        self._core.on_export_frame(StateSet(point))
        self._touch()
        done = {
            "file": str(writer.path),
            "point": point,
            "parts": writer.part_count,
            "bytes": writer.byte_count,
            "digest": writer.content_digest.hex(),
        }
        self._record("state_exported", done)
        return {"done": done}

    def _failure(self, path: Path, error: OSError | StateFileError) -> RequestRefused:
        reason = str(error) if isinstance(error, StateFileError) else f"{path}: {error.strerror or error}"
        self._record("export_failed", {"file": str(path), "reason": reason})
        hint = error.hint if isinstance(error, StateFileError) else "nothing was left there"
        return RequestRefused("export_failed", f"no state was exported: {reason}", hint)
