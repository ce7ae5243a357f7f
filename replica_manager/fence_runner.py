"""Carries out fencing beside the event loop, and has the departure ordered once a server has surely stopped."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from functools import partial

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.command_run import run_command
from replica_manager.faults.fencing import Fencing
from replica_manager.loop_failures import raise_failure

Fence = Callable[[int], Awaitable[str]]
"""Ends a server for ever; returns why that failed, or an empty text."""


class FenceRunner:
    """One server's fencing at work."""

    def __init__(
        self, fencing: Fencing, fence: Fence, leave: Callable[[int], None], record: Callable[..., None]
    ) -> None:
        """Nobody is being fenced.

        Args:
            fencing: decides.
            fence: ends a server.
            leave: has the departure of a server that has surely stopped ordered.
            record: takes the events `fencing_began`, `fenced`, `fencing_failed`.
        """
        self.fencing = fencing
        self._fence = fence
        self._leave = leave
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()

    def on_tick(self, now_ms: Callable[[], int], live_servers: tuple[int, ...], *, may_fence: bool) -> None:
        """Begin what is due."""
        for server in self.fencing.take_due(now_ms(), live_servers, may_fence=may_fence):
            self._record("fencing_began", suspect=server)
            task = asyncio.get_running_loop().create_task(self._run(server, now_ms))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(raise_failure)

    async def _run(self, server: int, now_ms: Callable[[], int]) -> None:
        failure = await self._fence(server)
        self.fencing.on_result(server, failure, now_ms())
        if failure:
            # Nothing else happens: while it may run, going on without it could give two answers.
            self._record("fencing_failed", suspect=server, reason=failure)
        else:
            self._record("fenced", suspect=server)
            self._leave(server)

    async def close(self) -> None:
        """End what is under way; a command is killed."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def fence_of(config: Config) -> Fence:
    """Return how the cell `config` fences a server."""
    match config.cell.fencing:
        case "none":
            return _assume_stopped
        case "local":
            return partial(_fence_here, CellPaths.of(config))
        case command:
            return partial(_fence_by_command, config, shlex.split(command))


async def _assume_stopped(_server: int) -> str:
    """The thesis's assumption: who is silent has crashed."""
    return ""


async def _fence_here(paths: CellPaths, server: int) -> str:
    from replica_manager.control.local_fence import fence_local

    return await asyncio.to_thread(fence_local, paths, server)


async def _fence_by_command(config: Config, command: list[str], server: int) -> str:
    host = next(one.host for one in config.server if one.id == server)
    environment = {"SPARE_CELL_NAME": config.cell.name, "SPARE_FENCE_SERVER": str(server), "SPARE_FENCE_HOST": host}
    limit_s = config.timeouts.fence_ms / 1000
    return await run_command([*command, str(server), host], environment, b"", limit_s)
