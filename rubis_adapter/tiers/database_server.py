"""The database tier as a private server process on a Unix socket; MariaDB and PostgreSQL are its two kinds.

No server syncs its log at every commit: the cell asks for durability at chosen points (`rubis_adapter.databases`),
and what a power cut takes away is fed again, because the cursor is committed together with the data.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import URL, text

from rubis_adapter.databases import open_engine
from rubis_adapter.schema import metadata
from rubis_adapter.tiers.tier_process import Account, TierProcess

DATABASE: Final = "rubis"
APPLICATION_USER: Final = "rubis_application"
"""May read and write rows and nothing else."""
CONNECTIONS_MAX: Final = 16
START_TIMEOUT_SECONDS: Final = 180.0
"""A guest on an emulated processor and a busy host may need more than a minute to recover its log."""


class DatabaseServer(ABC):
    """One database server with its data directory (kept) and its run directory (socket and log, mode 0700).

    `initialise` and `create_tables` are done once per data directory, `start` and `stop` as often as wanted.
    """

    def __init__(self, data_dir: Path, run_dir: Path, account: Account, cache_mib: int = 32) -> None:
        """`cache_mib`: memory for the server's page cache; `account`: whose processes and files these are."""
        self._data_dir = data_dir
        self._run_dir = run_dir
        self._account = account
        self._cache_mib = cache_mib
        self._process: TierProcess | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "not started"
        return self._process.pid

    def initialise(self) -> None:
        """Makes an empty data directory.  Raises `MissingProgram`, `ProcessFailed`."""
        self._account.own_directory(self._data_dir)
        self._account.own_directory(self._run_dir)
        self._account.run(self._initialise_command(), self._run_dir / "initialise.log")

    def start(self) -> None:
        """Starts the server; returns when it answers.  Raises `MissingProgram`, `ProcessFailed`."""
        self._account.own_directory(self._run_dir)
        process = TierProcess(self._command(), self._run_dir / "database.log", self._account)
        process.start()
        process.wait_until(self._answers, START_TIMEOUT_SECONDS, "answers")
        self._process = process

    def is_running(self) -> bool:
        """Whether the server process is there."""
        return self._process is not None and self._process.is_running()

    def stop(self) -> None:
        """Stops the server in order: all that was committed is on disk then."""
        if self._process is not None:
            self._process.stop(self._stop_signal())

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def create_tables(self) -> None:
        """Makes the database, its empty tables, and the application's user; rows come from a data set or a state."""
        self._create_database()
        engine = open_engine(self.administrator_url())
        with engine.begin() as connection:
            metadata.create_all(connection, checkfirst=False)
            for statement in self._grants():
                connection.execute(text(statement))
        engine.dispose()

    @abstractmethod
    def administrator_url(self) -> URL:
        """Address of the database for the adapter and for loading data."""

    @abstractmethod
    def application_url(self) -> URL:
        """Address of the database for the auction site."""

    @abstractmethod
    def _initialise_command(self) -> Sequence[str]: ...

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @abstractmethod
    def _create_database(self) -> None: ...

    @abstractmethod
    def _grants(self) -> Sequence[str]: ...

    @abstractmethod
    def _stop_signal(self) -> int: ...
