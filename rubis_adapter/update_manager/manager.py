"""Follows the application's transactions and gives, per request, the update: what its commit changed.

Life of a request: `begin(sequence)`; statements and at most one commit that changed something; `finish()`.
Images wait for the commit; a rollback drops them.  Just before the commit the cursor is moved past the request, so
that it and the change become durable together or not at all.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Delete, Engine, ExceptionContext, Insert, Update, event

from rubis_adapter.errors import UnsupportedStatement
from rubis_adapter.schema import SPARE_STATE_ROW, spare_state
from rubis_adapter.update_manager.row_images import FORMAT_BYTE
from rubis_adapter.update_manager.statement_capture import StatementCapture, begin_capture

UPDATE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Largest update of one request; a frame of the wrapper protocol holds 16 MiB."""
STATEMENTS_REMEMBERED_MAX: Final = 1000

_READS: Final = re.compile(r"\s*\(?\s*select\b", re.IGNORECASE)
_MAY_WRITE: Final = re.compile(r";|\binto\b", re.IGNORECASE)


class UpdateManager:
    """Captures what an engine's connections change.  One request at a time."""

    def __init__(self, engine: Engine) -> None:
        """Begins to watch `engine`; from here on it refuses every change outside of a request."""
        self._sequence: int | None = None
        self._update = b""
        self._pending: _Pending | None = None
        self._open: StatementCapture | None = None
        self._is_reading = False
        self._harmless: set[str] = set()
        event.listen(engine, "before_execute", self._before_execute)
        event.listen(engine, "after_execute", self._after_execute)
        event.listen(engine, "before_cursor_execute", self._before_cursor_execute)
        event.listen(engine, "begin", self._on_begin)
        event.listen(engine, "commit", self._on_commit)
        event.listen(engine, "rollback", self._on_rollback)
        event.listen(engine, "handle_error", self._on_error)
        event.listen(engine, "savepoint", self._refuse_transaction)
        event.listen(engine, "begin_twophase", self._refuse_transaction)

    def begin(self, sequence: int) -> None:
        """A request starts: what is committed from now on is its effect."""
        self._sequence = sequence
        self._update = b""
        self._pending = None

    def finish(self) -> bytes:
        """The request's update, empty if it changed nothing.  Its transactions have ended."""
        assert self._pending is None or self._pending.is_committed, "a transaction is open at the end of a request"
        self._sequence = None
        self._pending = None
        return self._update

    # --- statements

    def _before_execute(
        self,
        connection: Connection,
        statement: object,
        many: Sequence[Mapping[str, Any]],
        single: Mapping[str, Any],
        _options: object,
    ) -> None:
        if self._is_reading:
            return
        self._open = None
        if not isinstance(statement, Insert | Update | Delete):
            return
        self._require_transaction(connection)
        self._is_reading = True
        try:
            self._open = begin_capture(connection, statement, many or [single])
        finally:
            self._is_reading = False

    def _require_transaction(self, connection: Connection) -> None:
        """A request changes the database in one transaction only: the cursor moves with it."""
        pending = self._pending
        is_another = pending is not None and (pending.connection is not connection or pending.is_committed)
        if self._sequence is None or is_another:
            raise UnsupportedStatement("a change outside of the one modifying transaction of a request")
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            raise UnsupportedStatement("a change that commits by itself cannot be captured")
        self._pending = pending or _Pending(connection)

    def _after_execute(self, connection: Connection, *_rest: object) -> None:
        capture, self._open = self._open, None
        if self._is_reading or capture is None:
            return
        assert self._pending is not None
        self._is_reading = True
        try:
            self._pending.record(capture, connection)
        finally:
            self._is_reading = False

    def _before_cursor_execute(
        self, _connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        """The last gate: whatever reaches the driver is a plain SELECT or a statement that is being captured."""
        if self._is_reading or statement in self._harmless:
            return
        if self._open is not None and (context.isinsert or context.isupdate or context.isdelete):
            return
        if not _READS.match(statement) or _MAY_WRITE.search(statement):
            raise UnsupportedStatement(f"cannot capture the effect of: {statement[:200]}")
        if len(self._harmless) >= STATEMENTS_REMEMBERED_MAX:
            self._harmless.clear()
        self._harmless.add(statement)

    # --- transactions

    def _on_commit(self, connection: Connection) -> None:
        """Runs just before the database commits."""
        pending = self._pending
        if pending is None or pending.connection is not connection or pending.is_committed:
            return
        update = pending.update()
        if not update:
            self._pending = None
            return
        self._pending = None  # if this refuses, the transaction ends without another word
        if len(update) > UPDATE_BYTES_MAX:
            raise UnsupportedStatement(f"an update of {len(update)} bytes; {UPDATE_BYTES_MAX} are allowed")
        self._pass_cursor(connection)
        self._update = update
        self._pending = pending
        pending.is_committed = True

    def _pass_cursor(self, connection: Connection) -> None:
        assert self._sequence is not None
        cursor_row = spare_state.c.id == SPARE_STATE_ROW
        is_new = spare_state.c.cursor <= self._sequence
        self._is_reading = True
        try:
            passed = connection.execute(
                spare_state.update().where(cursor_row, is_new).values(cursor=self._sequence + 1)
            )
        finally:
            self._is_reading = False
        if passed.rowcount != 1:
            raise UnsupportedStatement(f"request {self._sequence} is in the database already")

    def _on_begin(self, _connection: Connection) -> None:
        # The next transaction begins: the commit before it has succeeded, no rollback takes it back.
        if self._pending is not None and self._pending.is_committed:
            self._pending.is_sealed = True

    def _on_error(self, context: ExceptionContext) -> None:
        # A COMMIT that the database refused: no rollback is announced after it.
        if context.connection is not None and context.statement is None:
            self._on_rollback(context.connection)

    def _on_rollback(self, connection: Connection) -> None:
        pending = self._pending
        if pending is not None and pending.connection is connection and not pending.is_sealed:
            self._pending = None
            self._update = b""

    def _refuse_transaction(self, *_arguments: object) -> None:
        raise UnsupportedStatement("savepoints and two-phase commits cannot be captured")


class _Pending:
    """What one transaction has changed so far."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_committed = False
        self.is_sealed = False
        self._before: dict[tuple[int, int], bytes] = {}
        self._after: dict[tuple[int, int], bytes] = {}

    def record(self, capture: StatementCapture, connection: Connection) -> None:
        """Reads back the rows of a statement that has been executed."""
        after = capture.read_back(connection)
        for row_id, before in capture.before.items():
            key = (capture.table, row_id)
            self._before.setdefault(key, before)
            self._after[key] = after[row_id]

    def update(self) -> bytes:
        """The rows that differ from what they were before the transaction, by table and id."""
        changed = [self._after[key] for key in sorted(self._after) if self._after[key] != self._before[key]]
        return FORMAT_BYTE + b"".join(changed) if changed else b""
