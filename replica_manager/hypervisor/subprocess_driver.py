"""Domains as child processes of the replica manager: no isolation, for development and micro-benchmarks.

A domain may read and write whatever the manager may, so nothing that SPARE promises about misbehaving domains holds.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from replica_manager.hypervisor.console import cut_console, last_words
from replica_manager.hypervisor.domain_process import (
    NOTHING_USED,
    ProcessUsage,
    niceness_of,
    process_usage,
    set_niceness,
)
from replica_manager.hypervisor.domain_xml import check_channel_path
from replica_manager.hypervisor.hypervisor import (
    DomainEvent,
    DomainNotRunning,
    DomainObservation,
    DomainRefused,
    DomainSpec,
    DomainState,
    HypervisorError,
    UnknownDomain,
)
from replica_manager.hypervisor.process_watch import ProcessEnd, ProcessWatch
from replica_manager.identifiers import DomainId

START_TIMEOUT_S: Final = 60.0
"""Until the process listens on its channel."""
SIGNAL_TIMEOUT_S: Final = 5.0
"""Until a signal has had its effect; a process in an uninterruptible system call takes it late."""
_POLL_INTERVAL_S: Final = 0.001
_LISTENING_POLL_INTERVAL_S: Final = 0.01
_LISTENING_FLAG: Final = 0x10000
"""`__SO_ACCEPTCON` in the flags of /proc/net/unix.  Source: Linux, include/linux/net.h."""

_LAUNCHER: Final = ("setpriv", "--pdeathsig", "KILL", "--")
"""The kernel kills the child when its parent ends, however that ends: no orphans stay behind.  Source: prctl(2)."""


@dataclass(slots=True)
class _Child:
    """One domain."""

    spec: DomainSpec
    pid: int | None = None
    """`None`: defined or stopped."""
    was_started: bool = False
    is_ending: bool = False
    """`destroy` was asked for."""
    reported: DomainState = DomainState.DEFINED
    end_reason: str = ""
    weight: float = 1.0
    usage: ProcessUsage = NOTHING_USED
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SubprocessHypervisor:
    """Domains as child processes.  Implements `Hypervisor`; use it from the thread that lives as long as the manager.

    The kernel counts the end of the *thread* that started a child as the parent's end.
    """

    def __init__(self, *, isolation: Literal["vm", "none"]) -> None:
        """Prepare.

        Args:
            isolation: Must be `none`: whoever uses this has to say that they know.

        Raises:
            DomainRefused: it is not.
        """
        if isolation != "none":
            raise DomainRefused(
                'Child processes do not isolate domains; say isolation = "none" in [hypervisor] to use them anyway.'
            )
        self._children: dict[DomainId, _Child] = {}
        self._watch = ProcessWatch()
        self._on_event: Callable[[DomainEvent], None] | None = None

    async def open(self, on_event: Callable[[DomainEvent], None]) -> None:
        """See `Hypervisor.open`; a former process leaves no children."""
        self._on_event = on_event

    async def close(self) -> None:
        """See `Hypervisor.close`; children end with this process."""
        self._on_event = None
        self._watch.close()

    async def define(self, spec: DomainSpec) -> None:
        """See `Hypervisor.define`; the disk is the working directory."""
        known = self._children.get(spec.domain_id)
        if known is not None and known.spec != spec:
            raise DomainRefused(f"Domain {spec.domain_id} is already defined with another specification.")
        check_channel_path(spec)
        if not spec.command:
            raise DomainRefused(f"Domain {spec.domain_id} has no command to run as a child process.")
        if known is not None:
            return
        child = self._children[spec.domain_id] = _Child(spec)
        async with child.lock:
            if not spec.reuse_disk:
                await asyncio.to_thread(shutil.rmtree, spec.disk_path, ignore_errors=True)
            for directory in (spec.disk_path, spec.channel_path.parent, spec.console_path.parent):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not spec.reuse_disk:
                spec.console_path.unlink(missing_ok=True)

    async def start(self, domain_id: DomainId) -> None:
        """See `Hypervisor.start`."""
        child = self._known(domain_id)
        async with child.lock:
            if child.pid is None:
                self._spawn(child)
                await self._wait_for_channel(child)

    async def suspend(self, domain_id: DomainId) -> None:
        """See `Hypervisor.suspend`."""
        await self._signal(domain_id, signal.SIGSTOP, DomainState.SUSPENDED)

    async def resume(self, domain_id: DomainId) -> None:
        """See `Hypervisor.resume`."""
        await self._signal(domain_id, signal.SIGCONT, DomainState.RUNNING)

    async def destroy(self, domain_id: DomainId, *, keep_disk: bool = False) -> None:
        """See `Hypervisor.destroy`."""
        child = self._children.get(domain_id)
        if child is None:
            return
        async with child.lock:
            if child.pid is not None:
                child.is_ending = True
                os.killpg(child.pid, signal.SIGKILL)
                await _until(lambda: child.pid is None, SIGNAL_TIMEOUT_S, f"Domain {domain_id} did not end")
            child.spec.channel_path.unlink(missing_ok=True)
            if not keep_disk:
                await asyncio.to_thread(shutil.rmtree, child.spec.disk_path, ignore_errors=True)
            self._children.pop(domain_id, None)

    async def set_cpu_weight(self, domain_id: DomainId, weight: float) -> None:
        """See `Hypervisor.set_cpu_weight`; needs the right to raise a priority again."""
        child = self._known(domain_id)
        niceness_of(weight)  # refuses a weight out of range before it is remembered
        child.weight = weight
        _apply_weight(child)

    async def observe(self) -> Mapping[DomainId, DomainObservation]:
        """See `Hypervisor.observe`."""
        for child in self._children.values():
            cut_console(child.spec.console_path)
        return {domain_id: _observation(domain_id, child) for domain_id, child in self._children.items()}

    def _known(self, domain_id: DomainId) -> _Child:
        child = self._children.get(domain_id)
        if child is None:
            raise UnknownDomain(f"Domain {domain_id} is not defined here.")
        return child

    def _spawn(self, child: _Child) -> None:
        spec = child.spec
        spec.channel_path.unlink(missing_ok=True)
        command = ("env", f"--chdir={spec.disk_path}", *_LAUNCHER, *_filled_in(spec))
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            child.pid = os.posix_spawnp(
                command[0],
                command,
                {**os.environ, **spec.environment},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(spec.console_path), append, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                # Python ignores these two, and a child would inherit that.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            raise HypervisorError(f"Domain {spec.domain_id} cannot be started: {error}.") from error
        child.was_started = True
        self._watch.watch(child.pid, lambda end: self._on_process_end(child, end), leads_group=True)
        self._report(child, DomainState.RUNNING, "started")
        if child.weight != 1.0:
            _apply_weight(child)

    async def _wait_for_channel(self, child: _Child) -> None:
        """Wait until the process listens on its channel, if its command was told of one."""
        if not any("{channel}" in word for word in child.spec.command):
            return
        what = f"Domain {child.spec.domain_id} does not listen on {child.spec.channel_path}"
        await _until(
            lambda: child.pid is None or is_listening(child.spec.channel_path),
            START_TIMEOUT_S,
            what,
            _LISTENING_POLL_INTERVAL_S,
        )
        if child.pid is None:
            words = last_words(child.spec.console_path)
            raise HypervisorError(f"Domain {child.spec.domain_id} ended at its start ({child.end_reason}): {words}.")

    async def _signal(self, domain_id: DomainId, number: signal.Signals, wanted: DomainState) -> None:
        child = self._known(domain_id)
        async with child.lock:
            if child.pid is None:
                state = _observation(domain_id, child).state
                raise DomainNotRunning(f"Domain {domain_id} is {state.value}, not running.")
            os.killpg(child.pid, number)
            await _until(
                lambda: child.pid is None or _observation(domain_id, child).state is wanted,
                SIGNAL_TIMEOUT_S,
                f"Domain {domain_id} did not take {number.name}",
            )
            if child.pid is None:
                raise DomainNotRunning(f"Domain {domain_id} ended meanwhile ({child.end_reason}).")
            self._report(child, wanted, number.name)

    def _on_process_end(self, child: _Child, end: ProcessEnd) -> None:
        child.pid = None
        child.end_reason = end.reason
        if end.usage is not None:
            child.usage = ProcessUsage(end.usage.cpu_seconds, 0, end.usage.state)
        self._report(child, DomainState.STOPPED, "destroyed" if child.is_ending else end.reason)

    def _report(self, child: _Child, state: DomainState, reason: str) -> None:
        if child.reported is state:
            return
        child.reported = state
        if self._on_event is not None:
            self._on_event(DomainEvent(child.spec.domain_id, state, reason, time.monotonic()))


def is_listening(path: Path) -> bool:
    """Return whether a process in this network namespace listens on the Unix socket `path`.

    Connecting would tell as well, but would take the one connection that a wrapper expects.
    """
    wanted = str(path)
    with contextlib.suppress(FileNotFoundError), Path("/proc/net/unix").open() as table:
        for line in table:
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) == 8 and fields[7] == wanted and int(fields[3], 16) & _LISTENING_FLAG:
                return True
    return False


def _filled_in(spec: DomainSpec) -> Iterable[str]:
    values = {
        "{channel}": str(spec.channel_path),
        "{disk}": str(spec.disk_path),
        "{image}": spec.image,
        "{domain}": spec.domain_id,
    }
    for word in spec.command:
        for placeholder, value in values.items():
            word = word.replace(placeholder, value)
        yield word


def _observation(domain_id: DomainId, child: _Child) -> DomainObservation:
    usage = process_usage(child.pid) if child.pid is not None else None
    if usage is None or usage.state == "Z":
        state = DomainState.STOPPED if child.was_started else DomainState.DEFINED
        return DomainObservation(domain_id, state, child.usage.cpu_seconds, 0)
    child.usage = usage
    state = DomainState.SUSPENDED if usage.state == "T" else DomainState.RUNNING
    return DomainObservation(domain_id, state, usage.cpu_seconds, usage.memory_bytes)


def _apply_weight(child: _Child) -> None:
    if child.pid is None:
        return
    try:
        set_niceness(child.pid, niceness_of(child.weight))
    except OSError as error:
        raise HypervisorError(f"The priority of domain {child.spec.domain_id} cannot be set: {error}.") from error


async def _until(
    condition: Callable[[], bool], timeout_s: float, what: str, interval_s: float = _POLL_INTERVAL_S
) -> None:
    """Wait until `condition` holds.

    Raises:
        HypervisorError: it does not within `timeout_s`; the sentence begins with `what`.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise HypervisorError(f"{what} within {timeout_s:.0f} s.")
        await asyncio.sleep(interval_s)
