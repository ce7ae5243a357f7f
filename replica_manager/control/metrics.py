"""Prometheus metrics of one server, made from a snapshot of its status when somebody asks.

The paths of requests only count plain integers; names, labels and text cost nothing until a scrape.
Every server has a registry of its own, so that several can live in one process.
Source: Prometheus, "Metric and label naming".
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SERVER_STATES = ("starting", "serving", "degraded", "not_serving", "returning", "restarting", "learning")
ROLES = ("starting", "passive", "active", "retired")
COUNTERS_MAX = 500
"""Counters are named in the code; this bounds a scrape should one ever be named by others."""

Snapshot = Callable[[], Mapping[str, Any]]
"""Gives the status of the server, as the control socket's `status`."""
Samples = Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]
"""Label values, and the status or domain that has the number."""


class _Measure(NamedTuple):
    """One number of the status."""

    name: str
    help: str
    key: tuple[str, ...]
    """Where it stands in the status, or in one of its domains."""
    is_counter: bool = False
    scale: float = 1.0
    """From the status's unit to the metric's."""


_SERVER_MEASURES = (
    _Measure("spare_is_leader", "Whether this server leads the agreement.", ("is_leader",)),
    _Measure("spare_configuration", "Number of the current configuration of the cell.", ("configuration",)),
    _Measure("spare_faults_tolerated", "Faults that the cell tolerates.", ("f",)),
    _Measure("spare_stability_threshold", "Matching votes that make a reply stable.", ("threshold",)),
    _Measure("spare_delivered_sequence", "Newest sequence number delivered by the agreement.", ("delivered",)),
    _Measure("spare_stable_sequence", "End of the contiguous stable prefix.", ("stable",)),
    _Measure("spare_clients", "Entries of the client table.", ("clients",)),
    _Measure("spare_update_buffer_updates", "Stable updates that wait for the passive domain.", ("buffer", "updates")),
    _Measure("spare_update_buffer_bytes", "Bytes of these updates.", ("buffer", "bytes")),
    _Measure("spare_refreshes", "Times the passive domain was woken and brought up to date.", ("refreshes",), True),
    _Measure("spare_last_refresh_updates", "Updates applied by the last refresh.", ("last_refresh", "updates")),
    _Measure(
        "spare_last_refresh_duration_seconds",
        "Length of the last refresh.",
        ("last_refresh", "duration_ms"),
        False,
        1e-3,
    ),
    _Measure(
        "spare_last_refresh_timestamp_seconds", "When it ended, since 1970.", ("last_refresh", "at_us"), False, 1e-6
    ),
    _Measure("spare_recoveries", "Proactive recoveries that the cell has begun.", ("recoveries", "begun"), True),
    _Measure(
        "spare_recoveries_incomplete_in_a_row",
        "The newest of them that did not renew every server.",
        ("recoveries", "incomplete_in_a_row"),
    ),
    _Measure("spare_manager_cpu_seconds", "CPU time of the replica manager.", ("cpu_seconds",), True),
    _Measure("spare_manager_resident_bytes", "Resident memory of the replica manager.", ("rss_bytes",)),
)
_DOMAIN_MEASURES = (
    _Measure("spare_domain_cpu_seconds", "CPU time of the domain's process.", ("cpu_seconds",), True),
    _Measure("spare_domain_memory_bytes", "Resident memory of the domain's process.", ("memory_bytes",)),
    _Measure("spare_domain_suspended_seconds", "Time the domain was suspended.", ("suspended_seconds",), True),
    _Measure("spare_domain_cursor", "First sequence number not yet handed to the domain.", ("cursor",)),
)
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]")


class StatusCollector(Collector):
    """Turns a status into metric families at every scrape."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: registering must not take a snapshot."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one snapshot."""
        status = self._snapshot()
        for measure in _SERVER_MEASURES:
            yield _family(measure, (), [((), status)])
        yield _one_of("spare_server_state", "State of the server.", ("state",), SERVER_STATES, [((), status)], "state")
        domains = [
            ((str(domain.get("domain", "")), str(domain.get("server", ""))), domain)
            for domain in status.get("domains", ())
        ]
        labels = ("domain", "server")
        for measure in _DOMAIN_MEASURES:
            yield _family(measure, labels, domains)
        yield _one_of("spare_domain_role", "Role of the domain.", (*labels, "role"), ROLES, domains, "role")
        yield from _counters(status.get("counters", {}))


def new_registry(snapshot: Snapshot) -> CollectorRegistry:
    """Return a registry whose scrapes show `snapshot`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(snapshot))
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """Return a scrape of `registry` in the text format."""
    return generate_latest(registry)


def _family(measure: _Measure, labels: tuple[str, ...], samples: Samples) -> Metric:
    kind = CounterMetricFamily if measure.is_counter else GaugeMetricFamily
    family = kind(measure.name, measure.help, labels=labels)
    for label_values, source in samples:
        value = _look_up(source, measure.key)
        if value is not None:
            family.add_metric(label_values, value * measure.scale)
    return family


def _look_up(source: Mapping[str, Any], key: tuple[str, ...]) -> float | None:
    """Return the number at `key`; `None` if there is none: a server that starts has not measured everything."""
    value: Any = source
    for part in key:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return float(value) if isinstance(value, int | float) else None


def _one_of(
    name: str,
    text: str,
    labels: tuple[str, ...],
    choices: tuple[str, ...],
    samples: Samples,
    key: str,
) -> Metric:
    """Return one series per choice, 1 for the true one."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, source in samples:
        for choice in choices:
            family.add_metric((*label_values, choice), float(source.get(key) == choice))
    return family


def _counters(counters: Mapping[str, Any]) -> Iterator[Metric]:
    for name in sorted(counters)[:COUNTERS_MAX]:
        value = counters[name]
        if isinstance(value, int | float):
            metric_name = "spare_" + _NOT_IN_A_NAME.sub("_", name.lower()).removesuffix("_total")
            yield CounterMetricFamily(metric_name, f"Count of {name.replace('_', ' ')}.", value=value)
