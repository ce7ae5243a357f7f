"""The shell of one emulated client: sends what its visitor wants when it is due, and records what comes of it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urljoin

from rubis_adapter.client_emulator import pages
from rubis_adapter.client_emulator.http_client import Done
from rubis_adapter.client_emulator.interactions import Interaction
from rubis_adapter.client_emulator.replies import FailedRequest, Failure, Reply, found_nothing, judge
from rubis_adapter.client_emulator.requests import ROOT, HttpRequest
from rubis_adapter.client_emulator.statistics import SessionStatistics
from rubis_adapter.client_emulator.visitor import Visitor

RETRY_PAUSE_S: Final = 0.2
"""Least pause after a lost connection, so that clients without think time do not storm a dead server."""
_NO_CONNECTION: Final = frozenset({Failure.CONNECT, Failure.CONNECTION_LOST, Failure.TRUNCATED})


class Timers(Protocol):
    """The part of an event loop that a client needs."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """Calls back at `when`, or later if the loop is busy."""


class Requester(Protocol):
    """Sends one request at a time; implemented by `http_client.HttpClient`."""

    def request(self, request: HttpRequest, done: Done) -> None:
        """Sends and calls `done` once."""

    def close(self) -> None:
        """Gives up everything."""


class EmulatedClient:
    """One client from its start to its stop."""

    def __init__(
        self,
        timers: Timers,
        requester: Requester,
        visitor: Visitor,
        statistics: SessionStatistics,
        *,
        think_time_scale: float,
        loads_images: bool,
    ) -> None:
        self.is_running = False
        self._timers = timers
        self._requester = requester
        self._visitor = visitor
        self._statistics = statistics
        self._think_time_scale = think_time_scale
        self._loads_images = loads_images
        self._stop_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._interaction = Interaction.HOME
        self._request: HttpRequest | None = None
        self._images: deque[str] = deque()

    def start(self, start_s: float, stop_s: float) -> None:
        """Sends the first request at `start_s` and none that is due at `stop_s` or later."""
        self.is_running = True
        self._stop_s = stop_s
        self._schedule(start_s)

    def finish(self) -> None:
        """Sends nothing any more; a request under way is still waited for."""
        self._stop_s = min(self._stop_s, self._timers.time())
        if self._timer is not None:
            self.close()

    def close(self) -> None:
        """Stops at once; a request under way is not counted."""
        self.is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._requester.close()

    def _schedule(self, due_s: float) -> None:
        if due_s >= self._stop_s:
            self.close()
            return
        self._due_s = due_s
        self._timer = self._timers.call_at(due_s, self._send)

    def _send(self) -> None:
        self._timer = None
        self._interaction, self._request = self._visitor.next_request()
        self._requester.request(self._request, self._on_result)

    def _on_result(self, result: Reply | FailedRequest) -> None:
        failed = result if isinstance(result, FailedRequest) else judge(self._interaction, result)
        if failed is not None or isinstance(result, FailedRequest):
            assert failed is not None
            self._on_failure(failed)
            return
        is_sorry = found_nothing(result)
        self._statistics.record_page(self._interaction, self._due_s, self._timers.time(), is_sorry=is_sorry)
        self._visitor.record_page(result)
        if self._loads_images:
            self._images.extend(pages.images(result.body))
        self._next_image_or_think()

    def _on_failure(self, failed: FailedRequest) -> None:
        assert self._request is not None
        self._statistics.record_failure(self._interaction, self._due_s, failed, self._request.path)
        self._visitor.record_failure()
        self._think(RETRY_PAUSE_S if failed.failure in _NO_CONNECTION else 0.0)

    def _next_image_or_think(self) -> None:
        if not self._images:
            self._think(0.0)
            return
        target = urljoin(ROOT, self._images.popleft())
        if not target.startswith("/"):
            self._on_image(FailedRequest(Failure.STATUS, "image of another server"))
            return
        self._requester.request(HttpRequest(target), self._on_image)

    def _on_image(self, result: Reply | FailedRequest) -> None:
        is_failed = isinstance(result, FailedRequest) or not 200 <= result.status < 400
        self._statistics.record_image(self._due_s, is_failed=is_failed)
        self._next_image_or_think()

    def _think(self, least_s: float) -> None:
        pause_s = max(least_s, self._visitor.think_s() * self._think_time_scale)
        self._visitor.advance()
        self._schedule(self._timers.time() + pause_s)
