"""Fills a database through SQLAlchemy: any dialect, no files; about 20,000 rows a second."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from sqlalchemy import Connection, Engine, Table

from rubis_adapter.population.rows import Population, Row
from rubis_adapter.schema import metadata

ROWS_PER_INSERT: Final = 1000
"""Rows per statement: with descriptions of 8,192 characters below MariaDB's default `max_allowed_packet` of 16 MiB."""

Progress = Callable[[str, int], None]
"""Called with a table's name and the rows that it has so far."""


def load(engine: Engine, population: Population, progress: Progress = lambda table_name, rows: None) -> None:
    """Creates the tables and fills them, one transaction per table.

    Args:
        engine: An empty database.
        population: The rows.
        progress: Told after every insert.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database refused, for instance because a table has rows already.
    """
    metadata.create_all(engine)
    for table_name in population.row_counts():
        with engine.begin() as connection:
            _fill(connection, metadata.tables[table_name], population.rows(table_name), progress)


def _fill(connection: Connection, table: Table, rows: Iterator[Row], progress: Progress) -> None:
    columns = table.columns.keys()
    loaded = 0
    while chunk := list(islice(rows, ROWS_PER_INSERT)):
        connection.execute(table.insert(), [dict(zip(columns, row, strict=True)) for row in chunk])
        loaded += len(chunk)
        progress(table.name, loaded)
