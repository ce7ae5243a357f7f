"""The web tier: serves the static pages and hands the servlet addresses to the application server.

nginx and lighttpd are its two kinds.  What a reply must not depend on is settled in the configuration of each and in
the adapter, which keeps three headers and replaces the pages of errors.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rubis_adapter.auction.static_site import STATIC_ROOT
from rubis_adapter.tiers.tier_process import Account, TierProcess, accepts_connections

START_TIMEOUT_SECONDS: Final = 60.0
CACHE_CONTROL: Final = "public, max-age=3600"
"""Of static pages; among the headers that are voted on."""


class WebServer(ABC):
    """One web server with a generated configuration; everything it writes is in the run directory."""

    def __init__(self, run_dir: Path, account: Account, application_socket: Path) -> None:
        """`application_socket`: where the application server listens."""
        self._run_dir = run_dir
        self._account = account
        self._application_socket = application_socket
        self.socket = run_dir / "web.sock"
        self._process: TierProcess | None = None

    def start(self) -> None:
        """Starts the server; returns when it takes connections.  Raises `MissingProgram`, `ProcessFailed`."""
        self._account.own_directory(self._run_dir)
        self.socket.unlink(missing_ok=True)  # a killed nginx leaves it behind, and the next one does not replace it
        root = self._copy_static_pages()
        configuration = self._run_dir / self._configuration_name()
        configuration.write_text(self._configuration(root), encoding="utf-8")
        self._account.own(configuration)
        process = TierProcess(self._command(configuration), self._run_dir / "web.log", self._account)
        process.start()
        process.wait_until(lambda: accepts_connections(self.socket), START_TIMEOUT_SECONDS, "takes connections")
        self._process = process

    def stop(self) -> None:
        """Stops the server."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Ends the server at once."""
        if self._process is not None:
            self._process.kill()

    def is_running(self) -> bool:
        """Whether the server is there."""
        return self._process is not None and self._process.is_running()

    @property
    def pid(self) -> int:
        """Process id of the server; workers are children of it."""
        assert self._process is not None, "not started"
        return self._process.pid

    def _copy_static_pages(self) -> Path:
        """Return a copy that the server may read: the code may lie where its account cannot."""
        root = self._run_dir / "static"
        shutil.copytree(STATIC_ROOT, root, dirs_exist_ok=True)
        for path in (root, *root.rglob("*")):
            self._account.own(path)
        return root

    @abstractmethod
    def _configuration_name(self) -> str: ...

    @abstractmethod
    def _configuration(self, root: Path) -> str: ...

    @abstractmethod
    def _command(self, configuration: Path) -> Sequence[str]: ...
