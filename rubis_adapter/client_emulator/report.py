"""The report on an emulation: everything in it is about the runtime session."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from rubis_adapter.client_emulator.expected import expected_shares
from rubis_adapter.client_emulator.histogram import LatencyHistogram
from rubis_adapter.client_emulator.interactions import Interaction
from rubis_adapter.client_emulator.settings import EmulatorSettings
from rubis_adapter.client_emulator.statistics import InteractionStatistics, SessionStatistics

PERCENTILES: Final = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class EmulationReport:
    """What an emulation measured; `to_json` is its documented form."""

    settings: EmulatorSettings
    statistics: SessionStatistics

    @property
    def sorry_share(self) -> float:
        """The share of requests whose page found nothing."""
        return self.statistics.sorry_pages / max(1, self.statistics.requests)

    @property
    def throughput_rps(self) -> float:
        """Successful replies per second of the runtime session."""
        return sum(self.statistics.completed_per_second) / self.settings.session_s

    def to_json(self) -> dict[str, Any]:
        """The report as a value for `json.dumps`.

        Latencies are milliseconds, from when a request was due to its whole reply, of successful requests.
        `expected_interactions` are the numbers that the mix alone would give for as many requests.
        """
        statistics = self.statistics
        per_interaction = {name.value: part for name, part in statistics.per_interaction.items() if part.requests}
        return {
            "settings": asdict(self.settings),
            "requests": statistics.requests,
            "failed_requests": statistics.failed_requests,
            "failures": _failures(statistics),
            "sorry_pages": statistics.sorry_pages,
            "sorry_share": round(self.sorry_share, 4),
            "modifying_requests": statistics.modifying_requests,
            "interactions": {name: part.requests for name, part in per_interaction.items()},
            "expected_interactions": _expected(self.settings.mix, statistics.requests),
            "throughput_rps": round(self.throughput_rps, 3),
            "completed_per_second": list(statistics.completed_per_second),
            "latency_ms": _latency_ms(_total(statistics.per_interaction)),
            "per_interaction": {name: _interaction(part) for name, part in per_interaction.items()},
            "images": {"requests": statistics.images, "failed": statistics.failed_images},
            "all_phases": {
                "requests": statistics.requests_of_all_phases,
                "failed_requests": statistics.failed_requests_of_all_phases,
            },
        }


def _expected(mix: str, requests: int) -> dict[str, float]:
    shares = expected_shares(mix)
    return {interaction.value: round(share * requests, 1) for interaction, share in shares.items() if share}


def _failures(statistics: SessionStatistics) -> dict[str, Any]:
    return {
        failure.value: {"count": part.count, "samples": [asdict(sample) for sample in part.samples]}
        for failure, part in statistics.failures.items()
    }


def _interaction(part: InteractionStatistics) -> dict[str, Any]:
    return {
        "requests": part.requests,
        "failed": part.failed,
        "sorry": part.sorry,
        "latency_ms": _latency_ms(part.latency),
    }


def _total(per_interaction: Mapping[Interaction, InteractionStatistics]) -> LatencyHistogram:
    total = LatencyHistogram()
    for part in per_interaction.values():
        total.add(part.latency)
    return total


def _latency_ms(histogram: LatencyHistogram) -> dict[str, float]:
    percentiles = {f"p{percent}": histogram.percentile_us(percent) / 1000 for percent in PERCENTILES}
    return percentiles | {"max": histogram.max_us / 1000}
