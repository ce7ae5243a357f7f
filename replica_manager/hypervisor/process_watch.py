"""Notices the end of domains' processes, at once and whoever their parent is.

libvirt notices the end of a QEMU process when its monitor connection breaks, waits until the process is reaped, and
reports after 0.2 s at best; a process descriptor is readable in the same millisecond.
Source: pidfd_open(2), waitid(2).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from replica_manager.hypervisor.domain_process import ProcessUsage, process_usage


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a watched process ended."""

    pid: int
    reason: str
    """`exit status 1`, `killed by SIGKILL`, or `process ended` if it was no child of this process."""
    usage: ProcessUsage | None
    """Its last use, if it could still be read."""


class ProcessWatch:
    """Watches processes in the running event loop."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}
        """Process id to its descriptor."""

    def watch(self, pid: int, on_end: Callable[[ProcessEnd], None], *, leads_group: bool = False) -> bool:
        """Call `on_end` once when `pid` ends; return whether the process is still there to be watched.

        Args:
            pid: A process; need not be a child.
            on_end: Called in the event loop.
            leads_group: It leads a process group, which is to end with it.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        self._descriptors[pid] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._ended, pid, on_end, leads_group)
        return True

    def close(self) -> None:
        """Stop watching everything."""
        for pid in list(self._descriptors):
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _ended(self, pid: int, on_end: Callable[[ProcessEnd], None], leads_group: bool) -> None:
        usage = process_usage(pid)
        if leads_group:
            # Before the leader is reaped: until then its number cannot become another group's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        reason = _reap(self._descriptors[pid])
        self._forget(pid)
        on_end(ProcessEnd(pid, reason, usage))


def _reap(descriptor: int) -> str:
    """Take the ended child's status, so that whoever waits for its end sees it gone; return its words."""
    try:
        status = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return "process ended"
    if status is None:
        return "process ended"
    if status.si_code == os.CLD_EXITED:
        return f"exit status {status.si_status}"
    return f"killed by {signal.Signals(status.si_status).name}"
