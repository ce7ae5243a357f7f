"""Keeps the members of a one-machine cell running: a process that ended is started again.

Without it the second fault finds a cell that has not recovered from the first one.  On real hosts the service manager
does this, see `Restart=` in the unit file.

A member that is started again is not born: a server finds out whether the cell went on without it, and rejoins.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.config import Config
from replica_manager.control.cell_network import CellNetwork
from replica_manager.control.errors import ControlError
from replica_manager.control.member_process import MemberCommand, member_command, start_member
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.hypervisor.process_watch import ProcessEnd, ProcessWatch

DELAY_S_MIN, DELAY_S_MAX = 1.0, 30.0
"""Before a member is started again: doubled each time it ends soon."""
STEADY_S = 60.0
"""A member that has lived so long has not ended soon."""
LOOK_S = 1.0
"""How often the records are read: others start members too."""
SOON_ENDS_MAX = 3
"""Ends in a row, each soon after the start, that a person should know of."""

Member = tuple[MemberKind, int]
Report = Callable[[str, Mapping[str, Any]], None]
"""Takes a named event with its data."""


class RestartDelay:
    """How long to wait before one member is started again.  Pure; time is an argument."""

    def __init__(self) -> None:
        self.soon_ends = 0
        """Ends in a row that came soon after the start."""
        self._started_s = float("-inf")

    def on_started(self, now_s: float) -> None:
        """The member was started, or found running."""
        self._started_s = now_s

    def on_ended(self, now_s: float) -> float:
        """The member has ended; return the seconds until its next start."""
        self.soon_ends = 1 if now_s - self._started_s >= STEADY_S else self.soon_ends + 1
        return min(DELAY_S_MAX, DELAY_S_MIN * 2.0 ** (self.soon_ends - 1))


class Keeper:
    """Watches the members of one cell; for one event loop."""

    def __init__(
        self,
        config: Config,
        network: CellNetwork,
        report: Report,
        command_of: MemberCommand = member_command,
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            config: complete configuration, as the cell was started with it.
            network: where members live.
            report: takes `keeper_started`, `member_ended`, `member_started`, `member_keeps_ending`,
                `member_start_failed`, `keeper_stopping`.
            command_of: the command of a member's process.
        """
        self._config = config
        self._paths = CellPaths.of(config)
        self._records = ProcessRecords(self._paths.processes)
        self._network = network
        self._report = report
        self._command_of = command_of
        self._watch = ProcessWatch()
        self._watched: dict[Member, ProcessRecord] = {}
        self._delays: dict[Member, RestartDelay] = {}
        self._starting: dict[Member, asyncio.TimerHandle] = {}
        self._publish = {("server", server.id): server.publish for server in config.server}
        self._stopping = asyncio.Event()
        self.look_count = 0
        """How often the records were read."""

    async def run(self) -> None:
        """Keep members running until `stop`."""
        self._report("keeper_started", {"members": len(self._records.read())})
        try:
            while not self._stopping.is_set():
                self._look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LOOK_S)
        finally:
            for handle in self._starting.values():
                handle.cancel()
            self._watch.close()
            self._report("keeper_stopping", {})

    def stop(self) -> None:
        """Let `run` return; nothing is started from here on."""
        self._stopping.set()

    def _look(self) -> None:
        """Watch what is on record and not watched yet."""
        for record in self._records.read():
            member = (record.kind, record.member)
            if member not in self._starting and self._watched.get(member) != record:
                self._take_up(member, record)
        self.look_count += 1

    def _take_up(self, member: Member, record: ProcessRecord) -> None:
        self._watched[member] = record
        self._delay(member).on_started(time.monotonic())
        is_there = self._watch.watch(record.identity.pid, partial(self._on_end, member, record))
        # The number may have been given to another process before it was watched.
        if not is_there or not record.is_alive:
            self._on_end(member, record, ProcessEnd(record.identity.pid, "process ended", None))

    def _delay(self, member: Member) -> RestartDelay:
        return self._delays.setdefault(member, RestartDelay())

    def _on_end(self, member: Member, record: ProcessRecord, end: ProcessEnd) -> None:
        if self._watched.get(member) != record or member in self._starting or self._stopping.is_set():
            return
        data = {"member": record.name, "pid": end.pid, "reason": end.reason}
        if self._records.is_held(*member):
            self._report("member_ended", {**data, "text": f"{record.name} ended, as the operator wishes"})
            return
        delay = self._delay(member)
        delay_s = delay.on_ended(time.monotonic())
        self._report("member_ended", {**data, "restart_in_s": delay_s})
        if delay.soon_ends >= SOON_ENDS_MAX:
            self._report("member_keeps_ending", {"member": record.name, "times": delay.soon_ends, "log": record.log})
        self._start_in(member, delay_s)

    def _start_in(self, member: Member, delay_s: float) -> None:
        self._starting[member] = asyncio.get_running_loop().call_later(delay_s, self._start, member)

    def _start(self, member: Member) -> None:
        del self._starting[member]
        if self._stopping.is_set() or self._records.is_held(*member) or self._runs(member):
            return
        kind, number = member
        command = self._command_of(kind, number, self._config.path)
        try:
            record = start_member(self._paths, self._network, kind, number, command, self._publish.get(member, ""))
        except (ControlError, OSError) as error:
            self._report("member_start_failed", {"member": f"{kind} {number}", "reason": str(error)})
            self._start_in(member, self._delay(member).on_ended(time.monotonic()))
            return
        self._report("member_started", {"member": record.name, "pid": record.identity.pid})
        self._take_up(member, record)

    def _runs(self, member: Member) -> bool:
        """Say whether somebody else has started it; `_look` will see it."""
        return any((record.kind, record.member) == member and record.is_alive for record in self._records.read())
