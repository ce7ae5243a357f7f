"""The application tier: runs the auction site for one request at a time, because requests execute one at a time.

gunicorn and waitress are its two kinds.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from rubis_adapter.tiers.tier_process import Account, TierProcess, accepts_connections

APPLICATION: Final = "rubis_adapter.auction.wsgi:application"
START_TIMEOUT_SECONDS: Final = 180.0


class ApplicationServer(ABC):
    """Runs the auction site behind a Unix socket."""

    def __init__(self, run_dir: Path, account: Account, database: URL, update_socket: Path | None) -> None:
        """`update_socket`: where the adapter takes updates; None: the site runs without a cell."""
        self._account = account
        self._run_dir = run_dir
        self.socket = run_dir / "application.sock"
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": os.pathsep.join(path for path in (str(_code_root()), *sys.path) if path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "TZ": "UTC",
            "RUBIS_DATABASE_URL": database.render_as_string(hide_password=False),
            "RUBIS_UPDATE_SOCKET": str(update_socket or ""),
        }
        command = (sys.executable, "-m", *self._module_and_options())
        self._process = TierProcess(command, run_dir / "application.log", account, environment)

    def start(self) -> None:
        """Starts the server; returns when it takes connections.  Raises `ProcessFailed`."""
        self._account.own_directory(self._run_dir)
        self._process.start()
        self._process.wait_until(lambda: accepts_connections(self.socket), START_TIMEOUT_SECONDS, "takes connections")

    def stop(self) -> None:
        """Stops the server.  No request is under way then."""
        self._process.stop(self._stop_signal())

    def kill(self) -> None:
        """Ends the server at once."""
        self._process.kill()

    def is_running(self) -> bool:
        """Whether the server is there."""
        return self._process.is_running()

    @property
    def pid(self) -> int:
        """Process id of the server; workers are children of it."""
        return self._process.pid

    @abstractmethod
    def _module_and_options(self) -> Sequence[str]: ...

    @abstractmethod
    def _stop_signal(self) -> int: ...


def _code_root() -> Path:
    """The directory that holds this package."""
    return Path(__file__).resolve().parents[2]
