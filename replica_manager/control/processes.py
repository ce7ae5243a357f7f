"""Processes by identity: a process id alone may be another process tomorrow.

Source: proc(5), `stat` field 22 and `sys/kernel/random/boot_id`; pidfd_open(2).
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

POLL_S = 0.05


class ProcessIdentity(msgspec.Struct, frozen=True):
    """One process, for as long as the machine runs and after."""

    pid: int
    started_ticks: int
    """Clock ticks between the start of the machine and that of the process."""
    boot_id: str
    """Which start of the machine."""


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the process that has `pid` now; `None` if none has, or it has ended already."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold blanks and parentheses; the state follows it, the start is 19 fields on.
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return ProcessIdentity(pid, int(fields[19]), boot_id())


def boot_id() -> str:
    """Return the id of this start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_alive(identity: ProcessIdentity) -> bool:
    """Say whether exactly this process still runs; an ended one that nobody has reaped does not."""
    return identify(identity.pid) == identity


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; tell whether it was there to take it."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process: if it is the right one now, the signal reaches no other.
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def end_all(identities: Iterable[ProcessIdentity], patience_s: float, on_kill: Callable[[int], None]) -> None:
    """Ask processes to end, and kill those that have not after `patience_s`; return when none is left.

    Args:
        identities: whom.
        patience_s: time between asking and killing; 0 kills at once.
        on_kill: told the process id of each that had to be killed after it was asked.
    """
    asked = [identity for identity in identities if is_alive(identity)]
    if patience_s > 0:
        for identity in asked:
            send(identity, signal.SIGTERM)
        wait_until_ended(asked, patience_s)
    remaining = [identity for identity in asked if is_alive(identity)]
    for identity in remaining:
        if patience_s > 0:
            on_kill(identity.pid)
        send(identity, signal.SIGKILL)
        # A stopped process takes SIGKILL too; nothing else is needed.
    wait_until_ended(remaining, patience_s=60.0)


def wait_until_ended(identities: Iterable[ProcessIdentity], patience_s: float) -> None:
    """Wait until all of `identities` have ended, at most `patience_s`."""
    deadline_s = time.monotonic() + patience_s
    waiting = list(identities)
    while waiting and time.monotonic() < deadline_s:
        waiting = [identity for identity in waiting if is_alive(identity)]
        for identity in waiting:
            reap(identity.pid)
        if waiting:
            time.sleep(POLL_S)


def reap(pid: int) -> int | None:
    """Collect the exit status of `pid` if it is an ended child of ours: minus the signal, or the exit code."""
    with suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    return None


def variable_of(pid: int, name: str) -> str | None:
    """Return an environment variable with which process `pid` was started; `None` if it has none or is gone."""
    prefix = f"{name}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    return next((item[len(prefix) :].decode() for item in environment.split(b"\0") if item.startswith(prefix)), None)


def find_processes(is_wanted: Callable[[Path], bool]) -> Iterator[ProcessIdentity]:
    """Yield the processes whose directory in /proc satisfies `is_wanted`, never this one."""
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            wanted = is_wanted(directory)
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
        if wanted and (identity := identify(int(directory.name))) is not None:
            yield identity
