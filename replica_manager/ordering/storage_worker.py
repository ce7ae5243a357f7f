"""The thread that writes the agreement log: group commit behind the event loop.

While one write is in flight, batches that come meanwhile wait and are merged into the next one: at low load an entry
pays one sync and nothing else, at high load many entries share it.  The thread takes what waits by itself when a write
is done, so that the next sync does not wait for the event loop.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable

from agreement.storage import StableStorage, Write

_Batch = tuple[tuple[Write, ...], int | None, Callable[[], None] | None]


class StorageWorker:
    """Writes batches in order, in one thread.  `submit` and `close` belong to the event loop's thread."""

    def __init__(
        self,
        storage: StableStorage,
        on_written: Callable[[int, float], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Start the thread; must be called in a running event loop, in which the callbacks run.

        `on_written(token, duration_ms)`: everything up to `token` is written.
        `on_failure(error)`: nothing is written any more.
        """
        self._storage = storage
        self._on_written, self._on_failure = on_written, on_failure
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="storage-worker", daemon=True)
        self._thread.start()

    def submit(self, writes: tuple[Write, ...], token: int) -> None:
        """Write a batch after all earlier ones."""
        self._waiting.put((writes, token, None))

    def submit_application(self, writes: tuple[Write, ...], on_written: Callable[[], None]) -> None:
        """Write a batch that is not agreement's, after all earlier ones; `on_written` is called in the event loop."""
        self._waiting.put((writes, None, on_written))

    def close(self) -> None:
        """Write what was submitted and end the thread; the storage stays open.  Blocks for at most a few syncs."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        # A supervisor: whatever ends this thread must end the process, which would otherwise wait for it for ever.
        try:
            while self._write_next():
                pass
        except Exception as error:  # noqa: BLE001
            self._loop.call_soon_threadsafe(self._on_failure, error)

    def _write_next(self) -> bool:
        """Write everything that waits as one batch; tell whether to go on."""
        batches, is_last = self._take_waiting()
        if batches:
            merged = [write for writes, _, _ in batches for write in writes]
            started = time.perf_counter()
            self._storage.write(merged)
            self._loop.call_soon_threadsafe(self._report, batches, (time.perf_counter() - started) * 1000.0)
        return not is_last

    def _take_waiting(self) -> tuple[list[_Batch], bool]:
        """Wait for a batch; return it with all that wait behind it, and whether the end was asked for."""
        batches: list[_Batch] = []
        while not batches or not self._waiting.empty():
            batch = self._waiting.get()
            if batch is None:
                return batches, True
            batches.append(batch)
        return batches, False

    def _report(self, batches: list[_Batch], duration_ms: float) -> None:
        tokens = [token for _, token, _ in batches if token is not None]
        if tokens:
            self._on_written(tokens[-1], duration_ms)
        for _, _, on_written in batches:
            if on_written is not None:
                on_written()
