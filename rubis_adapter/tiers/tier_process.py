"""One process of a tier: started as some account, watched until it is ready, stopped or killed, its log at hand."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rubis_adapter.errors import MissingProgram, ProcessFailed

STOP_TIMEOUT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
LOG_TAIL_CHARACTERS: Final = 2000

_UNTIL_PARENT_ENDS: Final = ("setpriv", "--pdeathsig", "TERM", "--")


@dataclass(frozen=True)
class Account:
    """Whose processes and files the tiers are."""

    user_id: int
    group_id: int
    is_bound: bool = False
    """Whether its processes share the fate of the thread that starts them: they are in its process group, so that they
    are suspended and killed together, and are told to end when it ends, however that ends."""

    @classmethod
    def current(cls) -> "Account":
        """The account of this process."""
        return cls(os.getuid(), os.getgid())

    def bound(self) -> "Account":
        """The same account with `is_bound`."""
        return replace(self, is_bound=True)

    @classmethod
    def named(cls, name: str) -> "Account":
        """The account `name` if this process may change to it (it is root's), otherwise the account of this process.

        Raises:
          MissingProgram: there is no such account; the Debian package that makes it is named.
        """
        if os.getuid() != 0:
            return cls.current()
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise MissingProgram(f"no account {name!r}; the Debian package of the database makes it") from None
        return cls(entry.pw_uid, entry.pw_gid)

    def own_directory(self, directory: Path) -> None:
        """Makes `directory` with mode 0700 if it is missing, and gives it to this account."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self.own(directory)

    def own(self, path: Path) -> None:
        """Gives one file or directory to this account."""
        if os.getuid() == 0:
            os.chown(path, self.user_id, self.group_id)

    def run(self, command: Sequence[str], log: Path) -> None:
        """Runs `command` to its end.

        Raises:
          ProcessFailed: it failed; the text holds the end of its output.
        """
        with log.open("ab") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, **self.options()
            )
        if done.returncode != 0:
            raise ProcessFailed(f"{command[0]} ended with status {done.returncode}:\n{log_tail(log)}")

    def options(self) -> dict[str, Any]:
        """Arguments of `subprocess.Popen` that make a child run as this account."""
        if os.getuid() != 0 or self.user_id == 0:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": [self.group_id]}


class TierProcess:
    """A long-running process of one tier."""

    def __init__(
        self, command: Sequence[str], log: Path, account: Account, environment: Mapping[str, str] | None = None
    ) -> None:
        """`log` receives what the process prints; `environment` replaces this process's own if given."""
        self._command = list(command)
        self._log = log
        self._account = account
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Starts the process; one that is not bound in a session of its own, out of a terminal's reach."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_UNTIL_PARENT_ENDS, *self._command] if self._account.is_bound else self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=self._environment,
                start_new_session=not self._account.is_bound,
                **self._account.options(),
            )

    def wait_until(self, is_ready: Callable[[], bool], timeout_seconds: float, what: str) -> None:
        """Polls `is_ready` until it is true.

        Raises:
          ProcessFailed: the process ended, or `timeout_seconds` passed; it is killed then.
        """
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if not self.is_running():
                raise ProcessFailed(f"{self._command[0]} ended before it {what}:\n{log_tail(self._log)}")
            if time.monotonic() > deadline:
                self.kill()
                raise ProcessFailed(f"{self._command[0]}: not {what} after {timeout_seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Asks the process to end and waits; kills it after `STOP_TIMEOUT_SECONDS`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal_number)
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the process and its descendants at once; returns when they are gone.

        PostgreSQL's server processes are not in the group of the one that started them, and a new server refuses to
        start while one of them is left.
        """
        if self._process is None or self._process.poll() is not None:
            return
        family = [self._process.pid, *_descendants(self._process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while any(_is_alive(pid) for pid in family) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
    return [found for child in children for found in (int(child), *_descendants(int(child)))]


def _is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie that waits for its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def find_program(name: str, debian_package: str, *directories: Path) -> str:
    """Path of a program, looked for in `directories` first.

    Raises:
      MissingProgram: it is not installed.
    """
    for directory in directories:
        if (directory / name).is_file():
            return str(directory / name)
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise MissingProgram(f"{name} is not installed; install the Debian package {debian_package}")
    return found


def accepts_connections(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except OSError:
        return False
    return True


def log_tail(log: Path) -> str:
    """The end of a tier's log, for an error message."""
    return log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:].strip()
