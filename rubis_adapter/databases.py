"""What differs between MariaDB and PostgreSQL in the SQL of adapter and update manager: all of it, and nothing else."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine

ISOLATION: Final = "READ COMMITTED"
"""Requests execute one at a time; with it a locking read and a plain read see the same rows on both databases."""


def open_engine(url: URL | str) -> Engine:
    """An engine on one database of the service; connections are kept and never checked before use."""
    return create_engine(url, isolation_level=ISOLATION, pool_size=2, max_overflow=2)


def is_postgres(connection: Connection) -> bool:
    """Whether `connection` leads to PostgreSQL (otherwise: MariaDB)."""
    return connection.dialect.name == "postgresql"


def quoted(connection: Connection, name: str) -> str:
    """A table's or column's name as this database wants it in a statement."""
    return connection.dialect.identifier_preparer.quote(name)


def upsert_clause(connection: Connection, key: Sequence[str], columns: Sequence[str]) -> str:
    """The end of an INSERT that makes it replace the values of rows that exist already.

    MariaDB replaces on *any* unique key that collides, PostgreSQL on `key` only: use it only for tables without
    another unique key.
    """
    others = [quoted(connection, name) for name in columns if name not in key]
    if is_postgres(connection):
        target = ", ".join(quoted(connection, name) for name in key)
        return f" ON CONFLICT ({target}) DO UPDATE SET " + ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
    return " ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = VALUES({name})" for name in others)


def commit_durably(connection: Connection) -> None:
    """Commits the open transaction so that it and every earlier commit is on disk when this returns.

    * PostgreSQL: `synchronous_commit` for this transaction; its commit record follows all earlier ones in the log.
    * MariaDB: `innodb_flush_log_at_trx_commit` is global only; with 1 a commit writes and syncs the whole log so far.
      `FLUSH ENGINE LOGS` and `FLUSH LOGS` sync nothing while it is 0 (traced on 10.11: no `fdatasync`).
    The transaction must have changed something: an empty commit writes no log.
    """
    if is_postgres(connection):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
        connection.commit()
        return
    connection.exec_driver_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    try:
        connection.commit()
    finally:
        connection.exec_driver_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        connection.rollback()
