"""Which rows one modifying statement touches, found out before it runs, and what they hold afterwards.

The database executes the statement; only its effect is taken: rows are read before and read back after.  (`RETURNING`
differs between databases: MariaDB has none for UPDATE.)  Two attributes of SQLAlchemy's statements that are private
(`_where_criteria`, `_values` and their neighbours) are read here and nowhere else.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Delete, Insert, Table, Update, bindparam, select
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter

from rubis_adapter.errors import UnsupportedStatement
from rubis_adapter.schema import SERVICE_TABLES
from rubis_adapter.update_manager.row_images import encode_gone, encode_row

ROWS_MAX: Final = 10_000
"""Rows that one statement may touch: their images are held in memory twice."""
KEYS_PER_READ: Final = 500

Parameters = Mapping[str, Any]
Images = dict[int, bytes]
"""Encoded images by id."""

_BY_ID: Final = [select(table).where(table.c.id == bindparam("key")) for table in SERVICE_TABLES]
_BY_IDS: Final = [select(table).where(table.c.id.in_(bindparam("keys", expanding=True))) for table in SERVICE_TABLES]


class StatementCapture:
    """The rows of one statement: their images before it, and a way to read them back."""

    def __init__(self, table: int, before: Images, must_exist: bool) -> None:
        """`before`: images of all rows that the statement may change; `must_exist`: whether they all have to stay."""
        self.table = table
        self.before = before
        self._must_exist = must_exist

    def read_back(self, connection: Connection) -> Images:
        """The images of the same rows now.

        Raises:
          UnsupportedStatement: a row is not there under its key, although the statement did not delete it.
        """
        keys = sorted(self.before)
        after = {row[0]: encode_row(self.table, row) for row in self._rows(connection, keys)}
        if self._must_exist and len(after) != len(keys):
            name = SERVICE_TABLES[self.table].name
            raise UnsupportedStatement(f"{name}: rows are not found under their key after the statement")
        return {row_id: after.get(row_id) or encode_gone(self.table, row_id) for row_id in keys}

    def _rows(self, connection: Connection, keys: Sequence[int]) -> Iterator[Any]:
        if len(keys) == 1:
            yield from connection.execute(_BY_ID[self.table], {"key": keys[0]})
            return
        for start in range(0, len(keys), KEYS_PER_READ):
            yield from connection.execute(_BY_IDS[self.table], {"keys": keys[start : start + KEYS_PER_READ]})


def begin_capture(
    connection: Connection, statement: Insert | Update | Delete, parameter_sets: Sequence[Parameters]
) -> StatementCapture:
    """Finds the rows that `statement` is going to change, and locks and reads them.

    Raises:
      UnsupportedStatement: its effect cannot be captured; it must not be executed.
    """
    table = _service_table(statement)
    _refuse_extras(statement)
    if isinstance(statement, Insert):
        keys = sorted(_inserted_keys(statement, parameter_sets))
        _limit(len(keys))
        return StatementCapture(table, {key: encode_gone(table, key) for key in keys}, must_exist=True)
    if isinstance(statement, Update):
        _refuse_changed_keys(statement, parameter_sets)
    before: Images = {}
    locking_read = select(statement.table).where(*statement._where_criteria).with_for_update()
    for parameters in parameter_sets:
        for row in connection.execute(locking_read, dict(parameters)):
            before[row[0]] = encode_row(table, row)
            _limit(len(before))
    return StatementCapture(table, before, must_exist=isinstance(statement, Update))


def _service_table(statement: Insert | Update | Delete) -> int:
    if not isinstance(statement.table, Table) or statement.table not in SERVICE_TABLES:
        raise UnsupportedStatement(f"{statement.table} is not a table of the service")
    return SERVICE_TABLES.index(statement.table)


def _limit(rows: int) -> None:
    if rows > ROWS_MAX:
        raise UnsupportedStatement(f"a statement that changes more than {ROWS_MAX} rows cannot be captured")


def _refuse_extras(statement: Insert | Update | Delete) -> None:
    """Upserts, prefixes such as IGNORE, LIMIT, and further changes inside common table expressions."""
    if statement._prefixes or getattr(statement, "_post_values_clause", None) is not None or statement.dialect_kwargs:
        raise UnsupportedStatement(f"{statement.table}: prefixes, upserts and dialect options cannot be captured")
    parts = (part for part in visitors.iterate(statement) if part is not statement)
    if statement._independent_ctes or any(isinstance(part, Insert | Update | Delete) for part in parts):
        raise UnsupportedStatement(f"{statement.table}: a change within another one cannot be captured")


def _inserted_keys(statement: Insert, parameter_sets: Sequence[Parameters]) -> Iterator[int]:
    """The ids that an INSERT names; it has to name them all."""
    if statement.select is not None:
        raise UnsupportedStatement(f"{statement.table}: INSERT … SELECT cannot be captured")
    for rows in statement._multi_values:
        for values in rows:
            yield _literal_key(statement, values)
    if not statement._multi_values:
        for parameters in parameter_sets:
            yield _literal_key(statement, parameters if "id" in parameters else statement._values or {})


def _literal_key(statement: Insert, values: Any) -> int:
    key = values.get("id", values.get(statement.table.c.id)) if isinstance(values, Mapping) else None
    if isinstance(key, BindParameter):
        key = key.value
    if not isinstance(key, int):
        raise UnsupportedStatement(f"{statement.table}: INSERT without explicit id, so its row is not known")
    return key


def _refuse_changed_keys(statement: Update, parameter_sets: Sequence[Parameters]) -> None:
    key = statement.table.c.id
    changed = {*(statement._values or {}), *dict(getattr(statement, "_ordered_values", None) or ())}
    named = {getattr(column, "name", column) for column in changed}
    if key.name in named or any(key.name in parameters for parameters in parameter_sets):
        raise UnsupportedStatement(f"{statement.table}: an UPDATE of the primary key cannot be captured")
