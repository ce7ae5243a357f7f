"""Metrics show the status of the server under stable names."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from replica_manager.control.metrics import new_registry, render

STATUS: dict[str, Any] = {
    "server": 0,
    "cell": "shop",
    "state": "serving",
    "is_leader": True,
    "configuration": 3,
    "f": 1,
    "threshold": 2,
    "delivered": 120,
    "stable": 118,
    "clients": 7,
    "buffer": {"updates": 5, "bytes": 4096},
    "last_refresh": {"at_us": 1_700_000_000_000_000, "updates": 100, "duration_ms": 42.0},
    "refreshes": 9,
    "recoveries": {"begun": 12, "incomplete_in_a_row": 2},
    "counters": {"votes_sent": 240, "Fsyncs-total": 3, "requests_total": 11},
    "cpu_seconds": 1.5,
    "rss_bytes": 50_000_000,
    "domains": [
        {"domain": "s0.g1", "server": 0, "role": "active", "cursor": 121, "cpu_seconds": 9.0, "memory_bytes": 3e8,
         "suspended_seconds": 0},
        {"domain": "s0.g2", "server": 0, "role": "passive", "cursor": 101, "cpu_seconds": 0.5, "memory_bytes": 2e8,
         "suspended_seconds": 60.5},
    ],
}  # fmt: skip


def samples_of(status: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape `status` and parse it as a Prometheus server does."""
    text = render(new_registry(lambda: status)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_numbers_of_the_status_are_metrics_with_units() -> None:
    """Counters end in `_total`, times are seconds."""
    samples = samples_of(STATUS)
    assert samples["spare_delivered_sequence", ()] == 120
    assert samples["spare_is_leader", ()] == 1
    assert samples["spare_refreshes_total", ()] == 9
    assert samples["spare_last_refresh_duration_seconds", ()] == 0.042
    assert samples["spare_last_refresh_timestamp_seconds", ()] == 1_700_000_000
    assert samples["spare_manager_cpu_seconds_total", ()] == 1.5
    assert samples["spare_server_state", (("state", "serving"),)] == 1
    assert samples["spare_server_state", (("state", "degraded"),)] == 0


def test_domains_are_labels() -> None:
    """One series per domain, its role as one of a fixed set."""
    samples = samples_of(STATUS)
    passive = (("domain", "s0.g2"), ("server", "0"))
    assert samples["spare_domain_suspended_seconds_total", passive] == 60.5
    assert samples["spare_domain_cursor", passive] == 101
    assert samples["spare_domain_role", (("domain", "s0.g2"), ("role", "passive"), ("server", "0"))] == 1
    assert samples["spare_domain_role", (("domain", "s0.g2"), ("role", "active"), ("server", "0"))] == 0


def test_plain_counters_become_metrics_whatever_they_are_called() -> None:
    """Names are made valid; `_total` stands once."""
    samples = samples_of(STATUS)
    assert samples["spare_votes_sent_total", ()] == 240
    assert samples["spare_fsyncs_total", ()] == 3
    assert samples["spare_requests_total", ()] == 11


def test_a_server_that_starts_has_fewer_metrics_and_no_error() -> None:
    """What is not measured yet is absent, not zero."""
    samples = samples_of({"state": "starting", "last_refresh": None})
    assert samples["spare_server_state", (("state", "starting"),)] == 1
    assert ("spare_delivered_sequence", ()) not in samples
    assert ("spare_last_refresh_updates", ()) not in samples
