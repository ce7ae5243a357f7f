"""Running the programs that build an image, so that nothing of them outlives the build.

A program runs in a session and in mount and process namespaces of its own, which needs root.  When the build ends,
whatever the reason (an error, Ctrl-C, `kill -9` of the builder), the kernel ends every process of that namespace and
takes its mounts away.
"""

import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from images.errors import BuildFailed, DiskFull
from images.progress import ProgressLog

OUTPUT_LINES_KEPT: Final = 40
"""As many lines as an error shows; the log file has all."""
DETAIL_CHARACTERS_MAX: Final = 100
POLL_S: Final = 0.5
_NO_SPACE: Final = "No space left on device"


def run(command: Sequence[str], progress: ProgressLog, log: Path, environment: Mapping[str, str]) -> None:
    """Run a program to its end; its last line of output is the detail of the current step.

    Args:
        command: the program and its arguments, not interpreted by a shell.
        progress: told about every line, and at least every `POLL_S`.
        log: all output is appended to it.
        environment: the whole environment of the program.

    Raises:
        BuildFailed: its exit code is not 0.
        DiskFull: so, and it wrote that there is no space left.
    """
    with log.open("a", encoding="utf-8") as log_file:
        log_file.write("$ " + " ".join(command) + "\n")
        log_file.flush()
        process = subprocess.Popen(
            _contained(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            lines = _follow(process, progress, log_file)
        finally:
            _end(process)
    if process.returncode != 0:
        raise _failure(command, process.returncode, lines, log)


def _contained(command: Sequence[str]) -> list[str]:
    """Return `command` wrapped so that it ends with its parent, together with all its descendants and mounts."""
    parent_watch = ["setpriv", "--pdeathsig", "KILL", "--"]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]
    return [*parent_watch, *namespaces, *command]


def _follow(process: "subprocess.Popen[bytes]", progress: ProgressLog, log_file: IO[str]) -> "deque[str]":
    lines: deque[str] = deque(maxlen=OUTPUT_LINES_KEPT)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = ""
        while True:
            if not selector.select(POLL_S):
                progress.tick()
                continue
            chunk = os.read(process.stdout.fileno(), 65536).decode(errors="replace")
            if not chunk:
                break
            log_file.write(chunk)
            *complete, rest = (rest + chunk).replace("\r", "\n").split("\n")
            lines.extend(line for line in complete if line.strip())
            progress.tick(_readable(lines[-1]) if lines else None)
    if rest.strip():
        lines.append(rest)
    process.wait()
    progress.note("")
    return lines


def _readable(line: str) -> str:
    """Return a line of output without mmdebstrap's mark for information."""
    return line.strip().removeprefix("I: ")[:DETAIL_CHARACTERS_MAX]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of the program's session; after a normal end there is nothing."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _failure(command: Sequence[str], code: int, lines: "deque[str]", log: Path) -> BuildFailed | DiskFull:
    name = Path(command[0]).name
    if any(_NO_SPACE in line for line in lines):
        return DiskFull(f"{name} ran out of disk space.", f"Free some space on the file system of {log.parent}.")
    reason = next((line for line in lines if line.startswith(("E:", "ERROR", "error:", "step "))), "")
    reason = reason or (lines[-1] if lines else "no output")
    return BuildFailed(
        f"{name} failed with exit code {code}: {reason.strip()}", f"The whole output is in {log}.", tuple(lines)
    )
