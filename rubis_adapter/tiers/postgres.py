"""PostgreSQL as the database tier."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg
from sqlalchemy import URL

from rubis_adapter.tiers.database_server import APPLICATION_USER, CONNECTIONS_MAX, DATABASE, DatabaseServer
from rubis_adapter.tiers.tier_process import find_program

ADMINISTRATOR: Final = "rubis_administrator"
PACKAGE: Final = "postgresql"

_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": str(CONNECTIONS_MAX),
    "superuser_reserved_connections": "2",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "wal_buffers": "1MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "16MB",
    "huge_pages": "off",
    "jit": "off",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "client_encoding": "UTF8",
    "log_min_messages": "warning",
}


class PostgresServer(DatabaseServer):
    """`postgres` with all settings on its command line."""

    def administrator_url(self) -> URL:
        """See `DatabaseServer`."""
        return self._url(ADMINISTRATOR)

    def application_url(self) -> URL:
        """See `DatabaseServer`."""
        return self._url(APPLICATION_USER)

    def _url(self, user: str) -> URL:
        return URL.create("postgresql+psycopg", username=user, database=DATABASE, query={"host": str(self._run_dir)})

    def _initialise_command(self) -> Sequence[str]:
        return (
            _program("initdb"),
            f"--pgdata={self._data_dir}",
            "--locale=C",
            "--encoding=UTF8",
            "--auth=trust",  # the socket's directory, mode 0700, is the lock
            f"--username={ADMINISTRATOR}",
        )

    def _command(self) -> Sequence[str]:
        settings = _SETTINGS | {
            "unix_socket_directories": str(self._run_dir),
            "shared_buffers": f"{self._cache_mib}MB",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (_program("postgres"), "-D", str(self._data_dir), *arguments)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self._run_dir), user=ADMINISTRATOR, dbname="postgres", autocommit=True)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        with self._connect() as connection:
            connection.execute(
                f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
            )

    def _grants(self) -> Sequence[str]:
        return (
            f"CREATE ROLE {APPLICATION_USER} LOGIN",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APPLICATION_USER}",
        )

    def _stop_signal(self) -> int:
        # "Fast shutdown": SIGTERM would wait for the sessions of clients that keep their connection.
        return signal.SIGINT


def _program(name: str) -> str:
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    return find_program(name, PACKAGE, *newest_first)
