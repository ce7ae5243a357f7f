"""Calls the operator's command for alarms: one at a time, never more often than configured, never in anybody's way."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from replica_manager.config import AlarmSection
from replica_manager.control.alarms import AlarmRate, alarm_of
from replica_manager.control.command_run import run_command
from replica_manager.control.event_log import Event, EventLog

WAITING_MAX = 50
"""Alarms that wait for the command; there are fewer kinds, so only a hanging command lets so many come together."""
LAST_WORDS_S = 5.0
"""Time that a process which ends gives to the alarms that are left."""


class AlarmHook:
    """Listens to an event log; for one event loop."""

    def __init__(self, settings: AlarmSection, cell: str, log: EventLog) -> None:
        """Call `settings.command` for every alarm among the events that `log` records from now on.

        Args:
            settings: command, interval, limit.
            cell: name of the cell, for the command's environment.
            log: whose events; failures of the command are recorded there as `alarm_failed`.
        """
        self._settings = settings
        self._cell = cell
        self._log = log
        self._rate = AlarmRate(settings.interval_ms)
        self._seen_id = log.newest_id
        self._waiting: deque[tuple[str, Event, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._forget = log.watch(self._look)

    def _look(self) -> None:
        for event in self._log.newer_than(self._seen_id):
            self._seen_id = event.id
            kind = alarm_of(event.kind, event.data)
            if kind is not None:
                self._maybe_call(kind, event)

    def _maybe_call(self, kind: str, event: Event) -> None:
        left_out = self._rate.admit(kind, int(time.monotonic() * 1000))
        if left_out is None or len(self._waiting) >= WAITING_MAX:
            return
        self._waiting.append((kind, event, left_out))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._call(*self._waiting.popleft())
        finally:
            self._task = None

    async def _call(self, kind: str, event: Event, left_out: int) -> None:
        document = msgspec.json.encode(_document(self._cell, kind, event, left_out)) + b"\n"
        environment = {"SPARE_CELL_NAME": self._cell, "SPARE_ALARM": kind, "SPARE_SERVER": str(event.server)}
        words = alarm_words(self._settings.command, kind, event)
        failure = await run_command(words, environment, document, self._settings.limit_ms / 1000)
        if failure:
            self._log.record("alarm_failed", alarm=kind, reason=failure)

    async def close(self) -> None:
        """Tell what is left, for a few seconds at most; then end the command."""
        self._forget()
        task = self._task
        if task is None:
            return
        _, late = await asyncio.wait([task], timeout=LAST_WORDS_S)
        for one in late:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one


def alarm_words(command: Sequence[str], kind: str, event: Event) -> list[str]:
    """Return program and arguments of one call: kind, server and a sentence behind what is configured."""
    # Part of the sentence may come from others; no program takes a zero in an argument.
    return [*command, kind, str(event.server), event.text.replace("\0", "")]


def _document(cell: str, kind: str, event: Event, left_out: int) -> dict[str, Any]:
    """Return what the command reads: the alarm, and the whole event."""
    return {"schema": 1, "cell": cell, "alarm": kind, "left_out": left_out, **msgspec.to_builtins(event)}
