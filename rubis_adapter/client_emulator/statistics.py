"""Counts what happens to requests; only those that were due in the runtime session are measured."""

import math
from dataclasses import dataclass, field
from typing import Final

from rubis_adapter.client_emulator.histogram import LatencyHistogram
from rubis_adapter.client_emulator.interactions import MODIFYING, Interaction
from rubis_adapter.client_emulator.replies import FailedRequest, Failure

SAMPLES_PER_FAILURE_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class FailureSample:
    """One failed request as an example; `path` is without the query, which may hold a password."""

    interaction: Interaction
    path: str
    detail: str


@dataclass(slots=True)
class FailureStatistics:
    """The requests that failed for one reason."""

    count: int = 0
    samples: list[FailureSample] = field(default_factory=list)


@dataclass(slots=True)
class InteractionStatistics:
    """The measured requests of one interaction; latencies are those of successful requests."""

    requests: int = 0
    failed: int = 0
    sorry: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


class SessionStatistics:
    """Statistics of the runtime session `[begin_s, end_s)`, on the event loop's clock.

    A request belongs to the session if it was *due* in it.  Latencies count from that moment, not from when the
    client came to send: a client that is held up must not hide how long its user waited.
    """

    def __init__(self, begin_s: float, end_s: float) -> None:
        self.per_interaction = {interaction: InteractionStatistics() for interaction in Interaction}
        self.failures: dict[Failure, FailureStatistics] = {}
        self.completed_per_second = [0] * math.ceil(end_s - begin_s)
        self.requests = 0
        self.failed_requests = 0
        self.sorry_pages = 0
        self.modifying_requests = 0
        self.images = 0
        self.failed_images = 0
        self.requests_of_all_phases = 0
        self.failed_requests_of_all_phases = 0
        self._begin_s = begin_s
        self._end_s = end_s

    def record_page(self, interaction: Interaction, due_s: float, done_s: float, *, is_sorry: bool) -> None:
        """A request succeeded; `is_sorry`: its page found nothing."""
        self.requests_of_all_phases += 1
        second = int(done_s - self._begin_s)
        if self._begin_s <= done_s < self._end_s and second < len(self.completed_per_second):
            self.completed_per_second[second] += 1
        if not self._begin_s <= due_s < self._end_s:
            return
        statistics = self.per_interaction[interaction]
        statistics.requests += 1
        statistics.latency.record(round((done_s - due_s) * 1_000_000))
        self.requests += 1
        if is_sorry:
            statistics.sorry += 1
            self.sorry_pages += 1
        elif interaction in MODIFYING:
            self.modifying_requests += 1

    def record_failure(self, interaction: Interaction, due_s: float, failed: FailedRequest, path: str) -> None:
        """A request failed."""
        self.requests_of_all_phases += 1
        self.failed_requests_of_all_phases += 1
        if not self._begin_s <= due_s < self._end_s:
            return
        statistics = self.per_interaction[interaction]
        statistics.requests += 1
        statistics.failed += 1
        self.requests += 1
        self.failed_requests += 1
        reason = self.failures.setdefault(failed.failure, FailureStatistics())
        reason.count += 1
        if len(reason.samples) < SAMPLES_PER_FAILURE_MAX:
            reason.samples.append(FailureSample(interaction, path, failed.detail))

    def record_image(self, due_s: float, *, is_failed: bool) -> None:
        """An image of a page that was due at `due_s` has been fetched, or not."""
        if self._begin_s <= due_s < self._end_s:
            self.images += 1
            self.failed_images += is_failed
