"""The operating system's view of a domain's process: use, state, priority.

Source: proc(5), sched(7), getpriority(2).
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_WEIGHT_PER_NICE_STEP: Final = 1.25
"""One nice level is a factor of 1.25 in the share of a busy CPU.  Source: sched(7), kernel `sched_prio_to_weight`."""
NICE_MAX: Final = 10
"""A tenth of a normal share.  Below that a booting domain starves: at nice 19 it never gets ready on busy cores."""


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process has used."""

    cpu_seconds: float
    """User and system time of all its threads, ended ones too; resolution 10 ms."""
    memory_bytes: int
    """Resident memory."""
    state: str
    """One letter: `R` running, `S` sleeping, `T` stopped, `Z` ended and not reaped, …"""


NOTHING_USED: Final = ProcessUsage(0.0, 0, "")


def process_usage(pid: int) -> ProcessUsage | None:
    """Return the use of process `pid`, or `None` if it does not exist."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may hold any character; the rest is numbers, `state` first (field 3).
    fields = text.rpartition(")")[2].split()
    return ProcessUsage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        memory_bytes=int(fields[21]) * _PAGE_BYTES,
        state=fields[0],
    )


def find_process(argument: str) -> int | None:
    """Return the process that was started with `argument` among its arguments, or `None`.

    An own life's UUID makes a machine's process findable whoever started it, also through libvirtd.
    """
    wanted = argument.encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in arguments:
            return int(name)
    return None


def niceness_of(weight: float) -> int:
    """Return the nice level that gives `weight` (0 < weight ≤ 1) of a normal share, bounded by `NICE_MAX`.

    Raises:
        ValueError: weight out of range.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"a CPU weight is above 0 and at most 1, not {weight}")
    return min(NICE_MAX, round(-math.log(weight) / math.log(_WEIGHT_PER_NICE_STEP)))


def set_niceness(pid: int, nice: int) -> None:
    """Give every thread of `pid` the nice level `nice`, and its session too where the kernel groups by session.

    Raises:
        OSError: not permitted, or the process is gone.
    """
    done: set[str] = set()
    # A thread that is born meanwhile has its creator's level, which may still be the old one: look again.
    while new := {entry for entry in os.listdir(f"/proc/{pid}/task") if entry not in done}:
        for thread in new:
            _set_thread_niceness(int(thread), nice)
        done |= new
    autogroup = Path(f"/proc/{pid}/autogroup")
    if autogroup.exists() and os.getsid(pid) != os.getsid(0):
        # With autogroups (sched(7)) a thread's level counts only within its session, and a domain is a session;
        # our own session must keep its level.
        autogroup.write_text(str(nice))


def _set_thread_niceness(thread: int, nice: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    except ProcessLookupError:
        return
