"""Starts the process of one member of a one-machine cell, detached from the command that starts it."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.config_addresses import parse_address
from replica_manager.control.cell_network import CELL_MARK, CellNetwork
from replica_manager.control.errors import ProcessError
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.control.processes import ProcessIdentity, identify, reap

LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 16 * 1024
PUBLISH_VARIABLE = "SPARE_PUBLISH_FD"
"""Tells the process which of its file descriptors is the published listening socket."""
PUBLISH_DESCRIPTOR = 3
PUBLISH_BACKLOG = 1024

MemberCommand = Callable[[MemberKind, int, Path], Sequence[str]]
"""Gives the command of a member's process: kind, number, configuration file."""


def member_command(kind: MemberKind, member: int, config_file: Path) -> Sequence[str]:
    """Return the command of a member's process; a unit file of a real host runs the same."""
    # -P: the directory in which the operator stands must not provide modules.
    return (
        *(sys.executable, "-P", "-m", "replica_manager"),
        *(kind, "run", "--id", str(member), "--config", str(config_file)),
    )


def start_member(
    paths: CellPaths, network: CellNetwork, kind: MemberKind, member: int, command: Sequence[str], publish: str = ""
) -> ProcessRecord:
    """Start `command` where the member lives, in a session of its own, and record it.

    Args:
        paths: of the cell; outputs are appended to the member's log.
        network: where members live.
        kind: of the member.
        member: its number.
        command: what to run.
        publish: `address:port` of this machine that the process shall serve too; it gets the listening socket.

    Raises:
        ProcessError: it cannot be started, or the address is taken.
    """
    log = paths.log(kind, member)
    environment = {CELL_MARK: str(paths.runtime_dir)}
    files: list[Any] = []
    with contextlib.ExitStack() as stack:
        if publish:
            listener = stack.enter_context(_listen(publish))
            files.append((os.POSIX_SPAWN_DUP2, listener.fileno(), PUBLISH_DESCRIPTOR))
            environment[PUBLISH_VARIABLE] = str(PUBLISH_DESCRIPTOR)
        identity, log_offset = network.inside(
            kind, member, lambda: start_detached(f"{kind} {member}", command, log, environment, files)
        )
    record = ProcessRecord(kind, member, identity, str(log), log_offset)
    ProcessRecords(paths.processes).write(record)
    return record


def start_detached(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], files: Sequence[Any] = ()
) -> tuple[ProcessIdentity, int]:
    """Start a process in a session of its own; return its identity, and the size that its log had before.

    Args:
        name: what errors call it.
        command: what to run.
        log: both outputs are appended to it.
        environment: added to that of this process.
        files: what else the process finds open, as for `os.posix_spawn`.

    Raises:
        ProcessError: it cannot be started, or ends at once.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    outputs = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        log_offset = os.fstat(outputs).st_size
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, outputs, descriptor) for descriptor in (1, 2)]
        pid = _spawn(command, {**os.environ, **environment}, [*actions, *files])
    finally:
        os.close(outputs)
    identity = identify(pid)
    if identity is None:
        raise ProcessError(f"{name} ended at once{ending(reap(pid))}", tail_of(log, log_offset))
    return identity, log_offset


def _spawn(command: Sequence[str], environment: dict[str, str], files: list[Any]) -> int:
    try:
        return os.posix_spawnp(
            command[0], list(command), environment, file_actions=files, setsid=True, setsigmask=(),
            # Python ignores these two, and a child would inherit that.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )  # fmt: skip
    except OSError as error:
        raise ProcessError(f"{command[0]} cannot be started: {error.strerror}") from error


def _listen(publish: str) -> socket.socket:
    """Open a port of this machine; its connections reach the member although it lives in another namespace."""
    address = parse_address(publish)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=PUBLISH_BACKLOG)
    except OSError as error:
        message = f"publish = {publish} cannot be opened: {error.strerror}"
        raise ProcessError(message, "is the port taken, or not an address of this machine?") from error


def ending(exit_code: int | None) -> str:
    """Return how a process ended, in words; empty if nobody knows."""
    if exit_code is None:
        return ""
    return f" by signal {-exit_code}" if exit_code < 0 else f" with exit code {exit_code}"


def tail_of(log: Path, offset: int = 0) -> str:
    """Return the last lines that a log has behind `offset`, to be shown under an error."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = file.read(LOG_TAIL_BYTES).decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError as error:
        return f"its log {log} cannot be read: {error.strerror}"
    return f"the end of {log}:\n" + "\n".join(f"  {line}" for line in lines) if lines else f"its log {log} is empty"
