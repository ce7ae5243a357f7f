"""The agreement log on disk: `StableStorage` over SQLite, through SQLAlchemy Core.

One table, an ordered map of bytes.  Each batch is one SQLite transaction; SQLite's write-ahead log turns it into one
append and, with `durability = "sync"`, one `fdatasync`.

Schema, statements and scans are SQLAlchemy Core.  The hot path keeps the text that Core compiled and runs it with
`exec_driver_sql`: 33 µs for two small values without a sync, where building the same insert anew takes twice as much,
in a thread that shares the interpreter with the event loop.

A batch of puts is *one* statement in autocommit mode, `INSERT OR REPLACE … VALUES (…), (…)`, not `BEGIN`, many inserts,
`COMMIT`: the driver releases the interpreter lock once per step of a statement, and taking it back from a busy event
loop may cost a whole switch interval (5 ms) each time.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite as sqlite_dialect

from agreement.errors import StorageError
from agreement.storage import DeleteRange, Put, Write
from replica_manager.ordering.histogram import DurationHistogram

Durability = Literal["sync", "async", "none"]

ASYNC_SYNC_INTERVAL_S = 0.010
"""`durability = "async"`: at most this much acknowledged work is lost in a power cut."""
PUTS_PER_STATEMENT_MAX = 128
"""SQLite allows 32,766 parameters; longer statements than this gain nothing and each length is compiled once."""
CHECKPOINT_PAGES = 1024
"""Pages in the write-ahead log before SQLite copies them into the database file, inside a commit.  Measured: four times
as many make that commit longer and the others no cheaper."""
PAGE_BYTES = 4096
CACHE_KIB = 4096
"""Of SQLite's own page cache.  The log is written at its end and deleted at its beginning: more is never read again."""
STATEMENT_CACHE_SIZE = PUTS_PER_STATEMENT_MAX + 32
_FILLER_KEY = b"\xff" * 16
"""Never in the table after `_preallocate`, unless a crash hits it; removed at the next start."""
SCAN_ROWS = 256
"""Rows fetched at once by `scan`: values may be large, the log larger than memory."""

_Statement = tuple[str, tuple[bytes, ...]]

_METADATA = sa.MetaData()
_RECORD = sa.Table(
    "record",
    _METADATA,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)


# NORMAL does not sync at a commit; an own thread does, every `ASYNC_SYNC_INTERVAL_S`.
_SYNCHRONOUS = {"sync": "FULL", "async": "NORMAL", "none": "OFF"}


@dataclass(slots=True)
class StorageCounters:
    """What the disk did; read by metrics from another thread, so only ever replaced by greater numbers."""

    batch_count: int = 0
    sync_count: int = 0
    """Batches that were synced before `write` returned, or periodic syncs with `durability = "async"`."""
    byte_count: int = 0
    """Bytes of keys and values written."""
    write_ms: DurationHistogram = field(default_factory=DurationHistogram)
    """Duration of `write`; with `durability = "sync"` nearly all of it is the sync."""


class SqliteStableStorage:
    """`StableStorage` in one SQLite file, owned by one process.

    `scan`, `write` and `close` may be called from any thread, one call at a time.

    The file is created with mode 0600.  SQLite's exclusive locking mode keeps a second process out for as long as this
    one lives; the lock ends with the process, also with `kill -9`.
    """

    def __init__(self, path: Path, durability: Durability = "sync") -> None:
        """Open or create the log at `path`, in an existing directory.

        Raises:
            StorageError: the file cannot be created or read, is damaged, or another process has it open.
        """
        self.path = path
        self.counters = StorageCounters()
        self._durability = durability
        self._syncer: _PeriodicSyncer | None = None
        self._put_texts: dict[int, str] = {}
        self._delete_text = _compiled(
            sa.delete(_RECORD).where(_RECORD.c.key >= sa.bindparam("first"), _RECORD.c.key < sa.bindparam("end"))
        )
        try:
            _create_private(path)
            self._connection = _connect(path, durability)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise StorageError(f"agreement log {path} cannot be opened: {_reason(error)}") from error
        if durability == "async":
            self._syncer = _PeriodicSyncer(path.with_name(path.name + "-wal"), self.counters)

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` with `first <= key < end`, ascending; later writes may or may not be seen."""
        rows = (
            sa.select(_RECORD.c.key, _RECORD.c.value)
            .where(_RECORD.c.key < end, _RECORD.c.key >= sa.bindparam("from"))
            .order_by(_RECORD.c.key)
            .limit(SCAN_ROWS)
        )
        while True:
            try:
                page = self._connection.execute(rows, {"from": first}).all()
            except sa.exc.SQLAlchemyError as error:
                raise StorageError(f"agreement log {self.path} cannot be read: {_reason(error)}") from error
            yield from ((key, value) for key, value in page)
            if len(page) < SCAN_ROWS:
                return
            first = page[-1].key + b"\0"

    def write(self, batch: Sequence[Write]) -> None:
        """Apply `batch` atomically and in order; with `durability = "sync"` it is durable on return.

        Raises:
            StorageError: the medium refuses (full, broken); nothing may be acknowledged any more.
        """
        if not batch:
            return
        started = time.perf_counter()
        statements = list(self._statements(batch))
        try:
            self._execute(statements)
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"agreement log {self.path} cannot be written: {_reason(error)}") from error
        if self._syncer is not None:
            self._syncer.request()
        self._count(batch, (time.perf_counter() - started) * 1000.0)

    def close(self) -> None:
        """Release the file; idempotent."""
        if self._syncer is not None:
            self._syncer.close()
            self._syncer = None
        if not self._connection.closed:
            engine = self._connection.engine
            self._connection.close()
            engine.dispose()

    def _execute(self, statements: Sequence[_Statement]) -> None:
        """Run all statements in one transaction: alone in autocommit mode, or between BEGIN and COMMIT."""
        execute = self._connection.exec_driver_sql
        if len(statements) == 1:
            execute(*statements[0])
            return
        execute("BEGIN IMMEDIATE")
        try:
            for text, parameters in statements:
                execute(text, parameters)
            execute("COMMIT")
        except sa.exc.SQLAlchemyError:
            # "disk I/O error" and "database or disk is full" may have rolled back already.
            driver = self._connection.connection.driver_connection
            if isinstance(driver, sqlite3.Connection) and driver.in_transaction:
                execute("ROLLBACK")
            raise

    def _statements(self, batch: Sequence[Write]) -> Iterator[_Statement]:
        """Turn a batch into statements, joining neighbouring puts."""
        for kind, writes in groupby(batch, key=type):
            if kind is DeleteRange:
                yield from ((self._delete_text, tuple(write)) for write in writes)
            else:
                puts = list(writes)
                for start in range(0, len(puts), PUTS_PER_STATEMENT_MAX):
                    chunk = puts[start : start + PUTS_PER_STATEMENT_MAX]
                    yield self._put_text(len(chunk)), tuple(part for put in chunk for part in put)

    def _put_text(self, count: int) -> str:
        """Return the statement that stores `count` pairs, compiled once per count."""
        text = self._put_texts.get(count)
        if text is None:
            rows = [{"key": b"", "value": b""}] * count
            text = _compiled(sa.insert(_RECORD).prefix_with("OR REPLACE").values(rows))
            self._put_texts[count] = text
        return text

    def _count(self, batch: Sequence[Write], duration_ms: float) -> None:
        counters = self.counters
        counters.batch_count += 1
        counters.sync_count += self._durability == "sync"
        counters.byte_count += sum(len(write.key) + len(write.value) for write in batch if isinstance(write, Put))
        counters.write_ms.observe(duration_ms)


class _PeriodicSyncer:
    """Syncs the write-ahead log every 10 ms while there is something new in it (`durability = "async"`).

    Loses at most the last interval in a power cut; the member then takes a new incarnation, so a failed sync here need
    not be reported: "async" makes no promise that it would break.
    """

    def __init__(self, path: Path, counters: StorageCounters) -> None:
        self._counters = counters
        # Opening the log file beside SQLite is safe: its POSIX locks are on the database file, never on this one.
        self._descriptor = os.open(path, os.O_RDONLY)
        self._is_requested = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stable-log-sync", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Ask for a sync within the interval."""
        self._is_requested.set()

    def close(self) -> None:
        """Sync once more and stop."""
        self._is_closing.set()
        self._is_requested.set()
        self._thread.join()
        os.close(self._descriptor)

    def _run(self) -> None:
        while not self._is_closing.is_set():
            self._is_requested.wait()
            self._is_requested.clear()
            os.fdatasync(self._descriptor)
            self._counters.sync_count += 1
            self._is_closing.wait(ASYNC_SYNC_INTERVAL_S)


def _create_private(path: Path) -> None:
    """Create the file with mode 0600 before SQLite does with the process's umask; make its name durable."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(path: Path, durability: Durability) -> sa.Connection:
    """Open the one connection, check the file, create the table."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.pool.StaticPool,
        connect_args={"check_same_thread": False, "cached_statements": STATEMENT_CACHE_SIZE, "timeout": 1.0},
    )
    connection = engine.connect()
    for pragma in (
        # First of all: it decides that the index of the write-ahead log lives in memory and keeps others out.
        "locking_mode = EXCLUSIVE",
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        f"synchronous = {_SYNCHRONOUS[durability]}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"cache_size = -{CACHE_KIB}",
    ):
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    finding = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if finding != "ok":
        connection.close()
        engine.dispose()
        raise StorageError(f"agreement log {path} is damaged: {finding}; start this member with an empty log")
    _METADATA.create_all(connection)
    if durability == "sync":
        _preallocate(connection)
    return connection


def _preallocate(connection: sa.Connection) -> None:
    """Let the write-ahead log reach its full size now: 4 MiB, some ten milliseconds.

    From then on commits overwrite it from its beginning, and a sync need not make the file system write down a new file
    size: measured 0.21 ms instead of 0.35 ms.
    """
    filler = sa.insert(_RECORD).prefix_with("OR REPLACE")
    size = CHECKPOINT_PAGES * PAGE_BYTES
    connection.execute(filler.values(key=_FILLER_KEY, value=sa.func.zeroblob(size)))
    connection.execute(sa.delete(_RECORD).where(_RECORD.c.key == _FILLER_KEY))
    connection.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)")


def _compiled(statement: sa.sql.ClauseElement) -> str:
    """Return the text of a Core statement with `?` for its parameters, in the order they are given."""
    return str(statement.compile(dialect=sqlite_dialect.dialect(paramstyle="qmark")))


def _reason(error: Exception) -> str:
    """Return the innermost explanation: SQLAlchemy's own message repeats the statement and its parameters."""
    return str(getattr(error, "orig", None) or error)
