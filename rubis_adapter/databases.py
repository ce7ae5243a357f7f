"""What differs between MariaDB and PostgreSQL in the SQL of adapter and update manager: all of it, and nothing else."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import URL, Connection, Engine, Table, create_engine

ISOLATION: Final = "READ COMMITTED"
"""Requests execute one at a time; with it a locking read and a plain read see the same rows on both databases."""

STATEMENTS_REMEMBERED_MAX: Final = 256
_statements: dict[tuple[str, str, int, bool | None], str] = {}


def open_engine(url: URL | str) -> Engine:
    """An engine on one database of the service; connections are kept and never checked before use."""
    return create_engine(url, isolation_level=ISOLATION, pool_size=2, max_overflow=2)


def is_postgres(connection: Connection) -> bool:
    """Whether `connection` leads to PostgreSQL (otherwise: MariaDB)."""
    return connection.dialect.name == "postgresql"


def quoted(connection: Connection, name: str) -> str:
    """A table's or column's name as this database wants it in a statement."""
    return connection.dialect.identifier_preparer.quote(name)


def insert_sql(connection: Connection, table: Table, row_count: int, is_upsert: bool) -> str:
    """INSERT of `row_count` rows with all columns, for the driver.

    With `is_upsert` rows that exist already get the new values.  MariaDB takes a row for existing on *any* unique key
    that collides: use it only for tables with no unique key but the primary one.
    """
    key = (connection.dialect.name, table.name, row_count, is_upsert)
    if key not in _statements:
        columns = [quoted(connection, name) for name in table.columns.keys()]  # noqa: SIM118 - values are columns
        row = "(" + ", ".join(["%s"] * len(columns)) + ")"
        names = f"{quoted(connection, table.name)} ({', '.join(columns)})"
        end = _upsert_clause(connection, columns[0], columns[1:]) if is_upsert else ""
        _remember(key, f"INSERT INTO {names} VALUES {', '.join([row] * row_count)}{end}")  # noqa: S608 - no values in it
    return _statements[key]


def delete_sql(connection: Connection, table: Table, row_count: int) -> str:
    """DELETE of `row_count` rows by id, for the driver."""
    key = (connection.dialect.name, table.name, row_count, None)
    if key not in _statements:
        places = ", ".join(["%s"] * row_count)
        _remember(key, f"DELETE FROM {quoted(connection, table.name)} WHERE id IN ({places})")  # noqa: S608
    return _statements[key]


def _upsert_clause(connection: Connection, key: str, others: Sequence[str]) -> str:
    if is_postgres(connection):
        return f" ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
    return " ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = VALUES({name})" for name in others)


def _remember(key: tuple[str, str, int, bool | None], statement: str) -> None:
    if len(_statements) >= STATEMENTS_REMEMBERED_MAX:
        _statements.clear()
    _statements[key] = statement


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
