"""The fast way into a database, for building images: one file of tab-separated rows per table, and a script.

Both databases read the same rows: MariaDB by LOAD DATA, PostgreSQL by COPY in its text format.  The script can create
the tables, with the indexes after the rows, so that a server in bootstrap mode can run it; it changes into no
database: the caller chooses one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from sqlalchemy import Dialect, Table, make_url
from sqlalchemy.schema import CreateIndex, CreateTable

from rubis_adapter.population.errors import UnknownDialect
from rubis_adapter.population.rows import Population, Row, Value
from rubis_adapter.schema import metadata

SCRIPT_NAME: Final = "load.sql"
DIALECTS: Final = ("mariadb", "postgresql")

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


def write_bulk_files(
    population: Population,
    directory: Path,
    dialect_name: str,
    *,
    seen_by_server: Path | None = None,
    creates_tables: bool = True,
) -> Path:
    """Writes `<table>.tsv` per table and the script that loads them.

    Args:
        population: The rows.
        directory: Where to; made if missing, files in it are replaced.
        dialect_name: One of `DIALECTS`.
        seen_by_server: The directory's path for the server that will read the files (in an image, say), which needs
            the right to read files.  None: the client that runs the script reads them and sends them
            (`mariadb --local-infile=1`, `psql`).
        creates_tables: Whether the script creates the tables; if not, they must be there and empty.

    Returns:
        The script's path.

    Raises:
        UnknownDialect: `dialect_name` is none of `DIALECTS`.
        OSError: The directory cannot be written.
    """
    by_client = seen_by_server is None
    source = directory if seen_by_server is None else seen_by_server
    script = script_text(population, source, dialect_name, by_client=by_client, creates_tables=creates_tables)
    directory.mkdir(parents=True, exist_ok=True)
    for table_name in population.row_counts():
        with (directory / f"{table_name}.tsv").open("w", encoding="utf-8", newline="") as file:
            file.writelines(encoded_rows(population, table_name))
    path = directory / SCRIPT_NAME
    path.write_text(script, encoding="utf-8")
    return path


def encoded_rows(population: Population, table_name: str) -> Iterator[str]:
    """The rows of one table as lines of tab-separated text, which both databases read."""
    return (_line(row) for row in population.rows(table_name))


def digest(population: Population) -> str:
    """SHA-256 over all rows of all tables: two populations with the same digest fill equal databases."""
    total = hashlib.sha256()
    for table_name in population.row_counts():
        total.update(f"{table_name}\n".encode())
        for line in encoded_rows(population, table_name):
            total.update(line.encode())
    return total.hexdigest()


def script_text(
    population: Population, directory: Path, dialect_name: str, *, by_client: bool, creates_tables: bool
) -> str:
    """The SQL that loads all tables from `directory`; see `write_bulk_files` for the arguments.

    One line per statement: MariaDB's bootstrap mode and psql's `\\copy` both end at the line's end.

    Raises:
        UnknownDialect: `dialect_name` is none of `DIALECTS`.
    """
    if dialect_name not in DIALECTS:
        raise UnknownDialect(f"there is no dialect {dialect_name!r}; there are {', '.join(DIALECTS)}")
    load_statement, driver = (
        (_load_data, "mariadb+pymysql") if dialect_name == "mariadb" else (_copy, "postgresql+psycopg")
    )
    tables = [metadata.tables[name] for name in population.row_counts()]
    statements = [load_statement(table, directory, by_client) for table in tables]
    if creates_tables:
        dialect = make_url(f"{driver}://").get_dialect()()
        statements = [*_create_tables(tables, dialect), *statements, *_create_indexes(tables, dialect)]
    return "".join(f"{' '.join(statement.split())};\n" for statement in statements)


def _create_tables(tables: Sequence[Table], dialect: Dialect) -> list[str]:
    return [str(CreateTable(table).compile(dialect=dialect)) for table in tables]


def _create_indexes(tables: Sequence[Table], dialect: Dialect) -> list[str]:
    indexes = [index for table in tables for index in sorted(table.indexes, key=lambda index: str(index.name))]
    return [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]


def _load_data(table: Table, directory: Path, by_client: bool) -> str:
    columns = ", ".join(f"`{column.name}`" for column in table.columns)
    path = directory / f"{table.name}.tsv"
    return (
        f"LOAD DATA {'LOCAL ' if by_client else ''}INFILE '{path}' INTO TABLE `{table.name}` "
        f"CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({columns})"
    )


def _copy(table: Table, directory: Path, by_client: bool) -> str:
    copy = "\\copy" if by_client else "COPY"
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"{copy} \"{table.name}\" ({columns}) FROM '{directory / f'{table.name}.tsv'}'"


def _line(row: Row) -> str:
    return "\t".join(map(_field, row)) + "\n"


def _field(value: Value) -> str:
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return str(value)
