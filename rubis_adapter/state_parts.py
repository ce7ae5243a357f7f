"""The whole state as canonical parts: every row of every table, by table and id, equal bytes from both databases.

The rows come from one transaction whose snapshot is fixed at its first read, in pieces by rising key, so that neither
memory nor the requests that execute meanwhile feel it.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, Engine, bindparam, select

from rubis_adapter.schema import SERVICE_TABLES
from rubis_adapter.update_application import read_cursor
from rubis_adapter.update_manager.row_images import encode_row, split_parts

ROWS_PER_READ: Final = 256
"""With descriptions of 32 KiB 8 MiB of memory."""
SNAPSHOT_ISOLATION: Final = "REPEATABLE READ"

_PIECES: Final = [
    select(table).where(table.c.id > bindparam("after")).order_by(table.c.id).limit(ROWS_PER_READ)
    for table in SERVICE_TABLES
]


class StateParts:
    """An iterator over the parts of a snapshot; `close` frees it, at the end it is freed by itself."""

    def __init__(self, engine: Engine, part_bytes_max: int) -> None:
        """Fixes the snapshot."""
        self._connection: Connection | None = engine.connect().execution_options(isolation_level=SNAPSHOT_ISOLATION)
        self.cursor = read_cursor(self._connection)
        """The cursor in the snapshot."""
        self._parts = split_parts(_images(self._connection), part_bytes_max)

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""
        return self

    def __next__(self) -> bytes:
        """The next part."""
        try:
            return next(self._parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the snapshot's transaction."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _images(connection: Connection) -> Iterator[bytes]:
    for table, piece in enumerate(_PIECES):
        last_id = -(2**31)
        while rows := connection.execute(piece, {"after": last_id}).all():
            for row in rows:
                yield encode_row(table, row)
            last_id = rows[-1][0]
            if len(rows) < ROWS_PER_READ:
                break
