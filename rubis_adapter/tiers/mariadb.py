"""MariaDB as the database tier."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pymysql
from sqlalchemy import URL

from rubis_adapter.tiers.database_server import APPLICATION_USER, CONNECTIONS_MAX, DATABASE, DatabaseServer
from rubis_adapter.tiers.tier_process import accepts_connections, find_program

ADMINISTRATOR: Final = "root"
PACKAGE: Final = "mariadb-server"
LOG_FILE_MIB: Final = 24

_OPTIONS: Final = (
    "--skip-networking",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--skip-slave-start",
    "--event-scheduler=off",
    "--performance-schema=off",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_nopad_bin",
    # Too long, out of range or impossible values are refused as PostgreSQL refuses them, never cut off.
    "--sql-mode=STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
    "--default-time-zone=+00:00",
    "--transaction-isolation=READ-COMMITTED",
    f"--max-connections={CONNECTIONS_MAX}",
    "--max-allowed-packet=16M",
    # Idle connections outlive a suspended night: the default closes them after eight hours.
    "--wait-timeout=31536000",
    "--interactive-timeout=31536000",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--table-open-cache=64",
    "--table-definition-cache=400",
    "--query-cache-type=0",
    "--query-cache-size=0",
    "--tmp-table-size=8M",
    "--max-heap-table-size=8M",
    f"--innodb-log-file-size={LOG_FILE_MIB}M",
    "--innodb-log-buffer-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-temp-data-file-path=ibtmp1:3M:autoextend",
    "--innodb-buffer-pool-dump-at-shutdown=off",
    "--innodb-buffer-pool-load-at-startup=off",
)


class MariaDbServer(DatabaseServer):
    """`mariadbd` with all settings on its command line; no configuration file is read."""

    def administrator_url(self) -> URL:
        """See `DatabaseServer`."""
        return self._url(ADMINISTRATOR)

    def application_url(self) -> URL:
        """See `DatabaseServer`."""
        return self._url(APPLICATION_USER)

    @property
    def _socket(self) -> str:
        return str(self._run_dir / "mariadb.sock")

    def _url(self, user: str) -> URL:
        query = {"unix_socket": self._socket, "charset": "utf8mb4"}
        return URL.create("mysql+pymysql", username=user, host="localhost", database=DATABASE, query=query)

    def _initialise_command(self) -> Sequence[str]:
        return (
            find_program("mariadb-install-db", PACKAGE),
            "--no-defaults",
            f"--datadir={self._data_dir}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            f"--innodb-log-file-size={LOG_FILE_MIB}M",
        )

    def _command(self) -> Sequence[str]:
        return (
            find_program("mariadbd", PACKAGE),
            "--no-defaults",
            *(("--user=root",) if self._account.user_id == 0 else ()),
            f"--datadir={self._data_dir}",
            f"--socket={self._socket}",
            f"--pid-file={self._run_dir / 'mariadb.pid'}",
            f"--tmpdir={self._run_dir}",
            f"--innodb-buffer-pool-size={self._cache_mib}M",
            *_OPTIONS,
        )

    def _answers(self) -> bool:
        if not accepts_connections(Path(self._socket)):  # PyMySQL leaks a socket that it cannot connect
            return False
        try:
            pymysql.connect(unix_socket=self._socket, user=ADMINISTRATOR).close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        with pymysql.connect(unix_socket=self._socket, user=ADMINISTRATOR) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin")

    def _grants(self) -> Sequence[str]:
        user = f"'{APPLICATION_USER}'@'localhost'"
        return (f"CREATE USER {user}", f"GRANT SELECT, INSERT, UPDATE, DELETE ON {DATABASE}.* TO {user}")

    def _stop_signal(self) -> int:
        return signal.SIGTERM
