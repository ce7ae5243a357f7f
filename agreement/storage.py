"""What agreement needs of a durable medium: an ordered map of bytes with atomic batches.

Source: design "Agreement stage", Storage.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class Put(NamedTuple):
    """Store `value` under `key`, replacing what was there."""

    key: bytes
    value: bytes


class DeleteRange(NamedTuple):
    """Forget every key with `first <= key < end`."""

    first: bytes
    end: bytes


Write = Put | DeleteRange


class StableStorage(Protocol):
    """An ordered map of bytes; each `write` is one atomic batch.  Contract suite: `tests/contracts`."""

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` with `first <= key < end`, ascending."""
        ...

    def write(self, batch: Sequence[Write]) -> None:
        """Apply `batch` atomically and in order; with `durability = "sync"` it is durable on return.

        Blocks on the medium: shells call it from a worker thread, one call at a time.

        Raises:
            StorageError: the medium refuses (full, broken); the process must end, a crash is inside the fault model.
        """
        ...

    def close(self) -> None:
        """Release the medium; idempotent."""
        ...
