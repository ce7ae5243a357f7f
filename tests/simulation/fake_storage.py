"""A stable storage in memory that forgets, at a crash, what was not synced."""

import bisect
import random
from collections.abc import Iterator, Sequence

from agreement.errors import StorageError
from agreement.storage import DeleteRange, Put, Write


class FakeStableStorage:
    """An ordered map of bytes; batches become durable one after the other, as on a real log.

    With `is_synced` every `write` is durable on return, as the protocol says.  Without, `sync` makes the oldest
    batches durable, so that a simulated disk can take its time; `scan` sees all batches, as a reader of the page
    cache does.
    """

    def __init__(self, is_synced: bool = True) -> None:
        self._is_synced = is_synced
        self._durable = _OrderedMap()
        self._visible = _OrderedMap()
        self._unsynced: list[tuple[Write, ...]] = []
        self._is_broken = False

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` with `first <= key < end`, ascending."""
        return iter(self._visible.items(first, end))

    def scan_durable(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What a crash now would leave at least."""
        return iter(self._durable.items(first, end))

    def write(self, batch: Sequence[Write]) -> None:
        """Apply one atomic batch.

        Raises:
            StorageError: after `break_medium`.
        """
        if self._is_broken:
            raise StorageError("the medium is broken")
        self._visible.apply(batch)
        self._unsynced.append(tuple(batch))
        if self._is_synced:
            self.sync(len(self._unsynced))

    @property
    def unsynced_count(self) -> int:
        """Batches that a crash may lose."""
        return len(self._unsynced)

    def sync(self, count: int) -> None:
        """Make the oldest `count` batches durable."""
        for batch in self._unsynced[:count]:
            self._durable.apply(batch)
        del self._unsynced[:count]

    def crash(self, rng: random.Random) -> None:
        """Lose power: of the batches that were not synced, a random number of the oldest has reached the medium."""
        self.sync(rng.randint(0, len(self._unsynced)))
        self._unsynced.clear()
        self._visible = self._durable.copy()

    def break_medium(self) -> None:
        """Refuse every write from now on."""
        self._is_broken = True

    def close(self) -> None:
        """Nothing to release."""


class _OrderedMap:
    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def copy(self) -> "_OrderedMap":
        copied = _OrderedMap()
        copied._values = dict(self._values)
        copied._keys = list(self._keys)
        return copied

    def items(self, first: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        return [(key, self._values[key]) for key in self._keys_between(first, end)]

    def _keys_between(self, first: bytes, end: bytes) -> list[bytes]:
        return self._keys[bisect.bisect_left(self._keys, first) : bisect.bisect_left(self._keys, end)]

    def apply(self, batch: Sequence[Write]) -> None:
        for write in batch:
            match write:
                case Put(key=key, value=value):
                    if key not in self._values:
                        bisect.insort(self._keys, key)
                    self._values[key] = value
                case DeleteRange(first=first, end=end):
                    for key in self._keys_between(first, end):
                        del self._values[key]
                    low = bisect.bisect_left(self._keys, first)
                    del self._keys[low : bisect.bisect_left(self._keys, end)]
