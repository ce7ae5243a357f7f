"""The auction site as the wrapper sees it: the implementation of `exec_wrapper.service_adapter.ServiceAdapter`.

A request goes through the web server to the application; its update comes back on the update manager's connection and
is joined with the reply by the sequence number.  Updates of other replicas bypass the upper tiers.

The cursor has two homes.  In the database it moves within the transaction of every change, the application's or ours;
in memory also past requests that changed nothing.  `sync` writes the one in memory.
"""

import selectors
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate, Snapshot
from rubis_adapter.auction.agreed_context import OUTCOME_UNCHANGED, OUTCOME_UPDATE, TIMESTAMP_US_MAX, UPDATE_HEADER
from rubis_adapter.canonical_reply import WebReply, canonical_reply, plain_reply
from rubis_adapter.databases import commit_durably
from rubis_adapter.errors import FeedMisuse, ServiceFailed
from rubis_adapter.request_gate import Rejection, examine, service_request_bytes
from rubis_adapter.state_parts import StateParts
from rubis_adapter.tiers.tier_process import Account
from rubis_adapter.update_application import (
    apply_rows,
    empty_tables,
    insert_images,
    merge,
    read_cursor,
    write_cursor,
)
from rubis_adapter.update_manager.channel import UpdateReceiver
from rubis_adapter.update_manager.row_images import FORMAT, ImageReader
from rubis_adapter.web_client import WebClient

VERSION: Final = "1"
REQUEST_TIMEOUT_SECONDS: Final = 120.0
"""A tier that hangs longer is broken; the replica manager's own limit is shorter."""
NO_STATE: Final = 0
"""The cursor of a database that holds no complete state."""


class RubisAdapter:
    """One replica of the auction site.  Calls come one at a time, but for the iterator of `take_state`."""

    service = "rubis"
    version = VERSION
    state_format = FORMAT
    snapshot: Snapshot = "concurrent"

    def __init__(
        self,
        engine: Engine,
        web_socket: Path,
        update_socket: Path,
        web_account: Account,
        request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        """Listens for updates and reads the cursor.

        Args:
          engine: the database, as its administrator.
          web_socket: where the web server listens.
          update_socket: where to listen for the update manager, which connects with its first update.
          web_account: who runs the application.
          request_timeout_seconds: longest execution of one request.
        """
        self._engine = engine
        self._is_closed = False
        self._selector = selectors.DefaultSelector()
        self._receiver = UpdateReceiver(update_socket, self._selector, web_account.user_id, web_account.group_id)
        self._web = WebClient(web_socket, self._selector, self._receiver, request_timeout_seconds)
        with engine.connect() as connection:
            self._cursor = read_cursor(connection)

    def close(self) -> None:
        """Closes all connections; nothing happens if it is closed already."""
        if self._is_closed:
            return
        self._is_closed = True
        self._web.close()
        self._receiver.close()
        self._selector.close()
        self._engine.dispose()

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Executes one HTTP request; see `ServiceAdapter`.

        Raises:
          ServiceFailed: a tier does not work; whether the request was executed is not known.
          FeedMisuse: the number was handed out before, or the time is not usable.
        """
        if context.sequence < self._cursor or not 0 <= context.timestamp_us <= TIMESTAMP_US_MAX:
            raise FeedMisuse(f"request {context.sequence} at {context.timestamp_us} us, cursor {self._cursor}")
        examined = examine(request)
        if isinstance(examined, Rejection):
            reply, update = plain_reply(examined.status), b""
        else:
            reply, update = self._serve(service_request_bytes(examined, context), context.sequence)
        self._cursor = context.sequence + 1
        return Outcome(canonical_reply(reply, context.timestamp_us, examined.is_head), update)

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Applies a batch in one transaction; see `ServiceAdapter`.

        Raises:
          MalformedUpdate: an update is not of this format; nothing is applied.
          FeedMisuse: a number was applied before.
          ServiceFailed: the database does not work.
        """
        if up_to + 1 < self._cursor or any(update.sequence < self._cursor for update in updates):
            raise FeedMisuse(f"updates up to {up_to}, cursor {self._cursor}")
        merged = merge(update.update for update in updates)
        if merged:
            with _database(), self._engine.begin() as connection:
                apply_rows(connection, merged)
                write_cursor(connection, up_to + 1)
        self._cursor = up_to + 1

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Fixes a snapshot and returns its parts; see `ServiceAdapter`.

        Raises:
          FeedMisuse: the service does not stand at `point`, or does not write this format.
          ServiceFailed: the database does not work.
        """
        if point != self._cursor or state_format != FORMAT:
            raise FeedMisuse(f"state of {point} in format {state_format}; cursor {self._cursor}, format {FORMAT}")
        with _database():
            return StateParts(self._engine, part_bytes_max)

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        """Replaces the state; see `ServiceAdapter`.

        Parts are committed one by one, so that a large state needs no large transaction; until the last one the
        cursor in the database says `NO_STATE`.

        Raises:
          MalformedUpdate: a part is not of this format; the database holds no state then.
          FeedMisuse: the format is unknown here.
          ServiceFailed: the database does not work.
        """
        if state_format != FORMAT:
            raise FeedMisuse(f"state format {state_format} is not {FORMAT}")
        self._cursor = NO_STATE
        with _database():
            with self._engine.begin() as connection:
                write_cursor(connection, NO_STATE)
            with self._engine.begin() as connection:
                empty_tables(connection)
            reader = ImageReader()
            for part in parts:
                with self._engine.begin() as connection:
                    insert_images(connection, reader.feed(part))
            reader.finish()
            with self._engine.begin() as connection:
                write_cursor(connection, point)
        self._cursor = point

    def cursor(self) -> int:
        """The first sequence number that this replica has not been handed; 0 if it holds no state."""
        return self._cursor

    def sync(self) -> int:
        """Makes everything so far durable; returns the cursor.  Raises `ServiceFailed`."""
        with _database(), self._engine.connect() as connection:
            # Written twice: a row that keeps its value leaves nothing in MariaDB's log, and nothing is synced then.
            write_cursor(connection, NO_STATE)
            write_cursor(connection, self._cursor)
            commit_durably(connection)
        return self._cursor

    def _serve(self, request: bytes, sequence: int) -> tuple[WebReply, bytes]:
        """The reply of the upper tiers, and the update."""
        reply = self._web.exchange(request)
        outcome = reply.headers.get(UPDATE_HEADER.lower())
        if outcome == OUTCOME_UPDATE:
            return reply, self._web.await_update(sequence)
        if outcome == OUTCOME_UNCHANGED:
            return reply, b""
        if outcome is not None or reply.status >= 500:
            raise ServiceFailed(f"request {sequence}: a tier is out of order (status {reply.status})")
        if reply.status != 200:
            return plain_reply(reply.status, reply.headers.get("location")), b""
        return reply, b""


@contextmanager
def _database() -> Iterator[None]:
    """Names the database's errors as the failure of a tier."""
    try:
        yield
    except SQLAlchemyError as error:
        raise ServiceFailed(f"the database: {error}") from error
