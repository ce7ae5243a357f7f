"""The contract of `StableStorage`, run against every implementation."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement.storage import DeleteRange, Put, StableStorage, Write
from replica_manager.ordering.stable_log import SqliteStableStorage
from tests.simulation.fake_storage import FakeStableStorage

Open = Callable[[], StableStorage]
FIRST, END = b"", b"\xff" * 8


@pytest.fixture(params=["fake-synced", "fake-unsynced", "sqlite-sync", "sqlite-async", "sqlite-none"])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """A factory that opens the same medium again and again, closing the former handle first."""
    kind, _, durability = request.param.partition("-")
    if kind == "fake":
        fake = FakeStableStorage(is_synced=durability == "synced")
        yield lambda: fake
        return
    opened: list[StableStorage] = []

    def open_storage() -> StableStorage:
        for storage in opened:
            storage.close()
        opened.append(SqliteStableStorage(tmp_path / "log.db", durability))
        return opened[-1]

    yield open_storage
    for storage in opened:
        storage.close()


def contents(storage: StableStorage) -> list[tuple[bytes, bytes]]:
    return list(storage.scan(FIRST, END))


def test_new_storage_is_empty(storages: Open) -> None:
    assert contents(storages()) == []


def test_scan_is_ordered_by_bytes_and_half_open(storages: Open) -> None:
    storage = storages()
    storage.write([Put(key, b"value of " + key) for key in (b"b", b"\x00", b"a\xff", b"a", b"c")])
    assert [key for key, _ in storage.scan(b"a", b"c")] == [b"a", b"a\xff", b"b"]
    assert contents(storage)[0] == (b"\x00", b"value of \x00")


def test_a_batch_applies_in_order(storages: Open) -> None:
    storage = storages()
    storage.write([Put(b"a", b"1"), Put(b"b", b"1"), DeleteRange(b"a", b"b"), Put(b"a", b"2"), Put(b"a", b"3")])
    assert contents(storage) == [(b"a", b"3"), (b"b", b"1")]


def test_delete_range_is_half_open(storages: Open) -> None:
    storage = storages()
    storage.write([Put(bytes([number]), b"") for number in range(6)])
    storage.write([DeleteRange(b"\x01", b"\x04")])
    assert [key for key, _ in contents(storage)] == [b"\x00", b"\x04", b"\x05"]


def test_an_empty_batch_is_nothing(storages: Open) -> None:
    storage = storages()
    storage.write([])
    assert contents(storage) == []


def test_long_batches_and_long_scans_are_complete(storages: Open) -> None:
    """More puts than one statement holds, more rows than one page of a scan."""
    storage = storages()
    pairs = [(number.to_bytes(4, "big"), bytes([number % 256]) * (number % 50)) for number in range(1500)]
    storage.write([Put(*pair) for pair in pairs])
    assert contents(storage) == pairs


def test_large_values_survive(storages: Open) -> None:
    storage = storages()
    value = bytes(range(256)) * 4096
    storage.write([Put(b"large", value)])
    assert contents(storages()) == [(b"large", value)]


def test_what_was_written_is_there_after_reopening(storages: Open) -> None:
    storage = storages()
    storage.write([Put(b"a", b"1"), Put(b"b", b"2")])
    storage.write([DeleteRange(b"a", b"b")])
    assert contents(storages()) == [(b"b", b"2")]


def test_close_is_idempotent(storages: Open) -> None:
    storage = storages()
    storage.close()
    storage.close()


keys = st.binary(min_size=1, max_size=3)
writes: st.SearchStrategy[Write] = st.one_of(
    st.builds(Put, keys, st.binary(max_size=8)),
    st.builds(DeleteRange, keys, keys),
)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(writes, max_size=12), max_size=6))
def test_any_batches_leave_what_a_dictionary_would_hold(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Write]]
) -> None:
    """The model: a dictionary to which every write is applied in order."""
    storage = SqliteStableStorage(tmp_path_factory.mktemp("model") / "log.db", "none")
    fake = FakeStableStorage()
    model: dict[bytes, bytes] = {}
    for batch in batches:
        storage.write(batch)
        fake.write(batch)
        for write in batch:
            if isinstance(write, Put):
                model[write.key] = write.value
            else:
                model = {key: value for key, value in model.items() if not write.first <= key < write.end}
    assert contents(storage) == contents(fake) == sorted(model.items())
    storage.close()
