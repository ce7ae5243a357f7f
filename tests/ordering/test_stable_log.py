"""What only the log on disk has: file mode, exclusive use, damage, a full disk, a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agreement.errors import StorageError
from agreement.storage import Put
from replica_manager.ordering.stable_log import CHECKPOINT_PAGES, PAGE_BYTES, SqliteStableStorage

WRITER = """
import resource, sys
from pathlib import Path
from agreement.errors import StorageError
from agreement.storage import Put
from replica_manager.ordering.stable_log import SqliteStableStorage
storage = SqliteStableStorage(Path(sys.argv[1]), "sync")
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
for number in range(1_000_000):
    try:
        storage.write([Put(number.to_bytes(4, "big"), b"v" * 500), Put(b"z", number.to_bytes(4, "big"))])
    except StorageError as error:
        print("refused", error, flush=True)
        break
    print(number, flush=True)
"""


def test_the_files_are_readable_by_the_owner_alone(tmp_path: Path) -> None:
    storage = SqliteStableStorage(tmp_path / "log.db")
    storage.write([Put(b"a", b"1")])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600}
    storage.close()


def test_a_second_opener_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    storage = SqliteStableStorage(tmp_path / "log.db")
    with pytest.raises(StorageError, match="cannot be opened: database is locked"):
        SqliteStableStorage(tmp_path / "log.db")
    storage.write([Put(b"a", b"1")])
    storage.close()
    SqliteStableStorage(tmp_path / "log.db").close()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    storage = SqliteStableStorage(path)
    storage.write([Put(number.to_bytes(4, "big"), b"v" * 900) for number in range(100)])
    storage.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096 : len(damaged) // 2] = os.urandom(len(damaged) // 2 - 4096)
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match=r"log\.db is damaged|log\.db cannot be opened"):
        SqliteStableStorage(path)


def test_a_missing_directory_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        SqliteStableStorage(tmp_path / "nowhere" / "log.db")


def test_a_full_disk_is_a_storage_error_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    result = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "200000"], capture_output=True, text=True, timeout=120, check=True
    )
    *acknowledged, refusal = result.stdout.splitlines()
    assert refusal.startswith("refused agreement log")
    storage = SqliteStableStorage(path)
    kept = [int.from_bytes(key, "big") for key, _ in storage.scan(b"", b"z")]
    assert kept == [int(number) for number in acknowledged]
    storage.close()


def test_a_killed_writer_keeps_every_acknowledged_batch_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().splitlines() if line]
    writer.wait()
    writer.stdout.close()
    storage = SqliteStableStorage(path)
    kept = [int.from_bytes(key, "big") for key, _ in storage.scan(b"", b"z")]
    assert kept == list(range(len(kept)))
    assert kept[: len(acknowledged)] == acknowledged
    # The second put of a batch is there exactly when the first one is.
    assert list(storage.scan(b"z", b"{")) == [(b"z", kept[-1].to_bytes(4, "big"))]
    storage.close()


def test_the_write_ahead_log_has_its_full_size_from_the_start_and_keeps_it(tmp_path: Path) -> None:
    """A commit that makes the file longer takes half as long again: the file system writes down the new size."""
    storage = SqliteStableStorage(tmp_path / "log.db")
    log = tmp_path / "log.db-wal"
    size = log.stat().st_size
    assert size >= CHECKPOINT_PAGES * PAGE_BYTES
    assert list(storage.scan(b"", b"\xff" * 32)) == []
    for number in range(CHECKPOINT_PAGES):
        storage.write([Put(number.to_bytes(4, "big"), b"v" * 200)])
    assert log.stat().st_size == size
    storage.close()


def test_counters_tell_syncs_and_bytes(tmp_path: Path) -> None:
    storage = SqliteStableStorage(tmp_path / "log.db")
    storage.write([Put(b"ab", b"cde"), Put(b"f", b"")])
    storage.write([Put(b"g", b"h")])
    assert (storage.counters.batch_count, storage.counters.sync_count, storage.counters.byte_count) == (2, 2, 8)
    assert storage.counters.write_ms.count == 2
    storage.close()


def test_async_durability_syncs_in_the_background(tmp_path: Path) -> None:
    storage = SqliteStableStorage(tmp_path / "log.db", "async")
    storage.write([Put(b"a", b"1")])
    storage.close()
    assert storage.counters.sync_count >= 1
