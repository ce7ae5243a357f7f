"""An event loop in a thread, for tests whose client blocks like a command does."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest


class LoopThread:
    """Runs coroutines beside the test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run `coroutine` to its end and return its result."""
        return self.start(coroutine).result(timeout=60)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Run `coroutine` beside the test."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        """End the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """A running loop for one test."""
    thread = LoopThread()
    yield thread
    thread.close()
