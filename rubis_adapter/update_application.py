"""Applies updates of other replicas: many at once, merged, with few statements.

Of every row only the last image counts.  Rows go in by statements of many rows; the application is not involved.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection

from rubis_adapter.databases import delete_sql, insert_sql, is_postgres, quoted
from rubis_adapter.errors import MalformedUpdate
from rubis_adapter.schema import SERVICE_TABLES, SPARE_STATE_ROW, spare_state
from rubis_adapter.update_manager.row_images import RowImage, Value, decode_images

ROWS_PER_STATEMENT: Final = 200
"""With the longest texts still below MariaDB's `max_allowed_packet` and PostgreSQL's 65,535 parameters."""

Rows = Mapping[int, tuple[Value, ...] | None]
"""By id: all columns but `id`, or None if the row is gone."""

_HAS_SECOND_KEY: Final = [any(index.unique for index in table.indexes) for table in SERVICE_TABLES]
"""There an upsert could hit the wrong row when a value moves from one row to another; such rows are replaced."""

Anything = TypeVar("Anything")


def merge(updates: Iterable[bytes]) -> Mapping[int, Rows]:
    """The last image of every row, by table (index in `SERVICE_TABLES`) and id.

    Raises:
      MalformedUpdate: one of them is no update.
    """
    merged: dict[int, dict[int, tuple[Value, ...] | None]] = {}
    for update in updates:
        for image in decode_images(update):
            merged.setdefault(image.table, {})[image.id] = image.values
    return merged


def apply_rows(connection: Connection, merged: Mapping[int, Rows]) -> None:
    """Writes merged images within the connection's transaction."""
    for table, rows in sorted(merged.items()):
        present = sorted((row_id, *values) for row_id, values in rows.items() if values is not None)
        replaced = sorted(rows) if _HAS_SECOND_KEY[table] else sorted(i for i, values in rows.items() if values is None)
        for chunk in _chunks(replaced):
            connection.exec_driver_sql(delete_sql(connection, SERVICE_TABLES[table], len(chunk)), tuple(chunk))
        _write(connection, table, present, is_upsert=not _HAS_SECOND_KEY[table])


def insert_images(connection: Connection, images: Iterable[RowImage]) -> None:
    """Inserts the rows of a state part within the connection's transaction.  Raises `MalformedUpdate`."""
    by_table: dict[int, list[tuple[Value, ...]]] = {}
    for image in images:
        if image.values is None:
            raise MalformedUpdate(f"a state part without the values of row {image.id}")
        by_table.setdefault(image.table, []).append((image.id, *image.values))
    for table, rows in by_table.items():
        _write(connection, table, rows, is_upsert=False)


def empty_tables(connection: Connection) -> None:
    """Removes all rows of the service.  On MariaDB this commits."""
    names = [quoted(connection, table.name) for table in SERVICE_TABLES]
    for statement in [", ".join(names)] if is_postgres(connection) else names:
        connection.exec_driver_sql(f"TRUNCATE TABLE {statement}")


def write_cursor(connection: Connection, cursor: int) -> None:
    """Writes the cursor within the connection's transaction; the row is made if it is missing."""
    row = spare_state.c.id == SPARE_STATE_ROW
    if connection.execute(spare_state.update().where(row).values(cursor=cursor)).rowcount == 0:
        connection.execute(spare_state.insert().values(id=SPARE_STATE_ROW, cursor=cursor))


def read_cursor(connection: Connection) -> int:
    """The cursor in the database; 0 if the database holds no complete state."""
    row = spare_state.c.id == SPARE_STATE_ROW
    return connection.execute(spare_state.select().with_only_columns(spare_state.c.cursor).where(row)).scalar() or 0


def _write(connection: Connection, table: int, rows: Sequence[tuple[Value, ...]], is_upsert: bool) -> None:
    for chunk in _chunks(rows):
        values = tuple(value for row in chunk for value in row)
        connection.exec_driver_sql(insert_sql(connection, SERVICE_TABLES[table], len(chunk), is_upsert), values)


def _chunks(rows: Sequence[Anything]) -> Iterable[Sequence[Anything]]:
    return (rows[start : start + ROWS_PER_STATEMENT] for start in range(0, len(rows), ROWS_PER_STATEMENT))
