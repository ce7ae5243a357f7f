"""The keeper as a process.  Its events: a file of its own, a line each in its log, and alarms."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.alarm_hook import AlarmHook
from replica_manager.control.cell_network import network_of
from replica_manager.control.event_file import EventFile
from replica_manager.control.event_log import EventLog
from replica_manager.control.keeper import Keeper, Report

KEEPER = -1
"""Stands where an event names its server: the keeper is none."""


@contextlib.asynccontextmanager
async def keeper_events(config: Config) -> AsyncIterator[Report]:
    """Give what records the keeper's events until the end of the block."""
    log = EventLog(KEEPER, lambda: time.time_ns() // 1000, EventFile(CellPaths.of(config).keeper_event_file))
    hook = AlarmHook(config.alarm, config.cell.name, log) if config.alarm.command else None

    def report(kind: str, data: Mapping[str, Any]) -> None:
        log.record(kind, **data)
        words = ", ".join(f"{key} {value}" for key, value in data.items())
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {kind}: {words}", flush=True)

    try:
        yield report
    finally:
        if hook is not None:
            await hook.close()
        log.close()


async def keep(config: Config) -> int:
    """Keep the members of `config` running until SIGTERM or SIGINT; return the exit code."""
    async with keeper_events(config) as report:
        keeper = Keeper(config, network_of(config), report)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, keeper.stop)
        await keeper.run()
    return 0
