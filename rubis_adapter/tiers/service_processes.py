"""All three tiers of one replica together, started from the database upwards and stopped in the other order."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never

from rubis_adapter.tiers.application_server import ApplicationServer
from rubis_adapter.tiers.database_server import DatabaseServer
from rubis_adapter.tiers.gunicorn import Gunicorn
from rubis_adapter.tiers.lighttpd import Lighttpd
from rubis_adapter.tiers.nginx import Nginx
from rubis_adapter.tiers.tier_process import Account
from rubis_adapter.tiers.waitress import Waitress
from rubis_adapter.tiers.web_server import WebServer


class DatabaseKind(StrEnum):
    """Which database a replica runs, and with it which other tiers."""

    MARIADB = "mariadb"
    POSTGRESQL = "postgresql"


DATABASE_ACCOUNTS: Final[Mapping[DatabaseKind, str]] = {
    DatabaseKind.MARIADB: "mysql",
    DatabaseKind.POSTGRESQL: "postgres",
}
"""Accounts that the databases' Debian packages make."""
_WEB_SERVERS: Final[Mapping[DatabaseKind, type[WebServer]]] = {
    DatabaseKind.MARIADB: Nginx,
    DatabaseKind.POSTGRESQL: Lighttpd,
}
_APPLICATION_SERVERS: Final[Mapping[DatabaseKind, type[ApplicationServer]]] = {
    DatabaseKind.MARIADB: Gunicorn,
    DatabaseKind.POSTGRESQL: Waitress,
}
"""Replicas of different kinds have no server program in common: a defect of one is a fault of one replica."""


@dataclass(frozen=True)
class ServiceConfiguration:
    """Where one replica of the service lives and what it may use."""

    database: DatabaseKind
    data_dir: Path
    """The database's files; they outlive the processes."""
    run_dir: Path
    """Sockets, logs, generated configuration; at most some 80 characters long, because it holds Unix sockets."""
    cache_mib: int = 32
    """Page cache of the database."""
    web_account: str | None = None
    """Who runs web and application server; None: whoever runs this process.  It must be able to enter `run_dir`."""
    is_bound: bool = False
    """See `Account.is_bound`."""


def database_server(configuration: ServiceConfiguration) -> DatabaseServer:
    """The database tier alone: for making and filling a data directory.  Raises `MissingProgram`."""
    account = _account(configuration, DATABASE_ACCOUNTS[configuration.database])
    make = _database_class(configuration.database)
    return make(configuration.data_dir, configuration.run_dir / "database", account, configuration.cache_mib)


def _database_class(kind: DatabaseKind) -> type[DatabaseServer]:
    """The class that runs `kind`, imported when it is wanted: an image has the driver of its own database alone."""
    match kind:
        case DatabaseKind.MARIADB:
            from rubis_adapter.tiers.mariadb import MariaDbServer

            return MariaDbServer
        case DatabaseKind.POSTGRESQL:
            from rubis_adapter.tiers.postgres import PostgresServer

            return PostgresServer
        case _:
            assert_never(kind)


def _account(configuration: ServiceConfiguration, name: str | None) -> Account:
    account = Account.current() if name is None else Account.named(name)
    return account.bound() if configuration.is_bound else account


class ServiceProcesses:
    """The tiers of one replica."""

    def __init__(self, configuration: ServiceConfiguration, update_socket: Path | None) -> None:
        """`update_socket`: where the adapter takes updates; None: the site runs without a cell.

        Raises:
          MissingProgram: an account is missing; the text names the package that makes it.
        """
        self.web_account = _account(configuration, configuration.web_account)
        self._run_dir = configuration.run_dir
        run_dir = configuration.run_dir / "web"
        self.database = database_server(configuration)
        url = self.database.application_url()
        application_server = _APPLICATION_SERVERS[configuration.database]
        self.application = application_server(run_dir, self.web_account, url, update_socket)
        self.web = _WEB_SERVERS[configuration.database](run_dir, self.web_account, self.application.socket)

    def start(self) -> None:
        """Starts all tiers over an existing data directory; returns when a request can be served.

        Raises:
          MissingProgram: a program is missing; the text names its package.
          ProcessFailed: a tier did not start; the ones before it are stopped again.
        """
        # The two accounts meet in this directory; each has its own below it.
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._run_dir.chmod(0o711)
        try:
            for tier in (self.database, self.application, self.web):
                tier.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops all tiers in order; tiers that do not run are passed over."""
        for tier in (self.web, self.application, self.database):
            tier.stop()

    def kill(self) -> None:
        """Ends all tiers at once, as a power cut would."""
        for tier in (self.web, self.application, self.database):
            tier.kill()

    def is_running(self) -> bool:
        """Whether all tiers are there."""
        return all(tier.is_running() for tier in (self.database, self.application, self.web))
