"""`spare bench null`: what replication costs when the service costs nothing.

Subprocess domains with the key-value service, f = 1, one witness, everything on one machine, 128-byte requests and
replies, mutual TLS between members, the agreement log synced before anything is acknowledged.  Beside it, in the same
run and interleaved: the same client against the bare service, and cells that sync less if asked for.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environment import environment, is_on_real_disk
from benchmarks.null_cell import NullCell, null_cell, process_cpu_seconds

CLIENT_COUNTS = (1, 64)
SYNC = "sync"
MEMORY_CLIENT_IDS = 20_000
MEMORY_SAMPLES = 10
Report = Callable[[str], None]


@dataclass(frozen=True)
class NullSettings:
    """How long and how often."""

    directory: Path
    session_s: float = 8.0
    warm_up_s: float = 2.0
    rounds: int = 3
    memory_requests: int = 1_000_000
    """0: leave the memory out."""
    durabilities: tuple[str, ...] = (SYNC,)
    """A cell for each: `sync`, `async`, `none`."""


@dataclass
class Sample:
    """One run of one system with one number of clients."""

    load: dict[str, Any]
    cpu_us_per_request: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)


def run_null_benchmark(settings: NullSettings, report: Report) -> dict[str, Any]:
    """Run everything; write and return the report.

    Raises:
        ControlError: the cell does not start.
        NotOnDisk: the directory would make syncs free.
    """
    settings.directory.mkdir(parents=True, exist_ok=True)
    if not is_on_real_disk(settings.directory):
        raise NotOnDisk(f"{settings.directory} is in memory: syncs would cost nothing")
    before = environment()
    with ExitStack() as stack:
        bare = stack.enter_context(_BareService())
        cells = {
            _system(durability): stack.enter_context(
                null_cell(settings.directory / _system(durability), report, durability=durability)
            )
            for durability in settings.durabilities
        }
        samples = _interleaved_rounds(settings, cells, bare, report)
        memory = _memory_run(settings, next(iter(cells.values())), report) if settings.memory_requests else None
    document = {**before, "settings": _plain(settings), "runs": _rows(samples), "memory": memory}
    figures = {system: _replication_figures(samples[system, CLIENT_COUNTS[-1]]) for system in cells}
    document |= next(iter(figures.values())) | {"replication": figures}
    document["load_average_after"] = environment()["load_average"]
    (settings.directory / "report.json").write_text(json.dumps(document, indent=2) + "\n")
    return document


def _system(durability: str) -> str:
    return "spare" if durability == SYNC else f"spare-{durability}"


class NotOnDisk(Exception):
    """Raised when the benchmark's directory is no real disk: our misuse; choose another directory."""


class _BareService:
    """The unreplicated service in a process of its own."""

    def __enter__(self) -> "_BareService":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_service"], stdout=subprocess.PIPE, text=True, cwd=_project()
        )
        assert self._process.stdout is not None
        self.address = f"127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def cpu_seconds(self) -> dict[str, float]:
        """Return its CPU time so far."""
        return {"service": process_cpu_seconds(self._process.pid)}


def _interleaved_rounds(
    settings: NullSettings, cells: dict[str, NullCell], bare: _BareService, report: Report
) -> dict[tuple[str, int], list[Sample]]:
    samples: dict[tuple[str, int], list[Sample]] = {}
    leaders = {system: cell.addresses[cell.leader()] for system, cell in cells.items()}
    total = settings.rounds * len(CLIENT_COUNTS) * (1 + len(cells))
    for number in range(settings.rounds):
        for clients in CLIENT_COUNTS:
            for system, cell in cells.items():
                sample = _spare_sample(settings, cell, leaders[system], clients)
                samples.setdefault((system, clients), []).append(sample)
                _tell(report, samples, total, f"round {number + 1}: {system}, {clients} clients", sample)
            sample = _bare_sample(settings, bare, clients)
            samples.setdefault(("unreplicated", clients), []).append(sample)
            _tell(report, samples, total, f"round {number + 1}: unreplicated, {clients} clients", sample)
    return samples


def _tell(report: Report, samples: dict[tuple[str, int], list[Sample]], total: int, name: str, sample: Sample) -> None:
    done = sum(map(len, samples.values()))
    latency = sample.load["latency_ms"]
    report(f"{done}/{total} {name}: {sample.load['throughput_rps']:.0f}/s, p50 {latency['p50']} ms")


def _spare_sample(settings: NullSettings, cell: NullCell, address: str, clients: int) -> Sample:
    cpu, counters = cell.cpu_seconds(), _counters(cell)
    load = _load([address], clients, settings.warm_up_s, settings.session_s)
    time.sleep(1.1)  # the hypervisor is asked for CPU times once a second
    after_cpu, after = cell.cpu_seconds(), _counters(cell)
    requests = load["requests_sent"]
    per_request = {name: _us(after_cpu[name] - cpu.get(name, 0.0), requests) for name in after_cpu}
    per_request["client"] = load["client_cpu_us_per_request"]
    return Sample(load, per_request, {name: after[name] - counters[name] for name in after})


def _bare_sample(settings: NullSettings, bare: _BareService, clients: int) -> Sample:
    before = bare.cpu_seconds()
    load = _load([bare.address], clients, settings.warm_up_s, settings.session_s)
    cpu = {name: _us(after - before[name], load["requests_sent"]) for name, after in bare.cpu_seconds().items()}
    return Sample(load, {**cpu, "client": load["client_cpu_us_per_request"]})


def _us(seconds: float, requests: int) -> float:
    return round(1e6 * seconds / max(1, requests), 2)


def _counters(cell: NullCell) -> dict[str, float]:
    """Sums over all servers."""
    sums: dict[str, float] = {}
    for status in cell.statuses():
        for name, value in status["counters"].items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def _load(addresses: list[str], clients: int, warm_up_s: float, session_s: float, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.null_load", *addresses, "--clients", str(clients)]
    command += ["--warm-up-s", str(warm_up_s), "--session-s", str(session_s), *more]
    done = subprocess.run(command, cwd=_project(), capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _memory_run(settings: NullSettings, cell: NullCell, report: Report) -> dict[str, Any]:
    """Send many requests from many client ids and watch the managers' memory."""
    samples: list[dict[str, Any]] = [{"requests": 0, "manager_mib": _mib(cell)}]
    share = settings.memory_requests // MEMORY_SAMPLES
    sent = 0
    for _ in range(MEMORY_SAMPLES):
        load = _load(
            [cell.addresses[cell.leader()]], 64, 0, 600, "--requests-max", str(share),
            "--client-ids", str(MEMORY_CLIENT_IDS),
        )  # fmt: skip
        sent += load["requests_sent"]
        samples.append({"requests": sent, "manager_mib": _mib(cell)})
        report(f"memory after {sent} requests: {samples[-1]['manager_mib']} MiB")
    return {"client_ids": MEMORY_CLIENT_IDS, "samples": samples}


def _mib(cell: NullCell) -> list[float]:
    return [round(value / 2**20, 1) for value in cell.manager_memory_bytes()]


def _rows(samples: dict[tuple[str, int], list[Sample]]) -> list[dict[str, Any]]:
    """One row per system and number of clients: medians over the rounds."""
    rows = []
    for (system, clients), group in sorted(samples.items()):
        components = sorted({name for sample in group for name in sample.cpu_us_per_request})
        rows.append(
            {
                "system": system,
                "clients": clients,
                "throughput_rps": statistics.median(sample.load["throughput_rps"] for sample in group),
                "latency_ms": {
                    name: statistics.median(sample.load["latency_ms"][name] for sample in group)
                    for name in ("p50", "p99")
                },
                "failed_requests": sum(sample.load["failed_requests"] for sample in group),
                "cpu_us_per_request": {
                    name: round(statistics.median(s.cpu_us_per_request.get(name, 0.0) for s in group), 2)
                    for name in components
                },
                "rounds": [sample.load for sample in group],
            }
        )
    return rows


def _replication_figures(group: list[Sample]) -> dict[str, Any]:
    requests: int = sum(sample.load["requests_sent"] for sample in group)

    def per_request(name: str) -> float:
        total: float = sum(sample.counters[name] for sample in group)
        return round(total / max(1, requests), 4)

    return {
        "fsyncs_per_request": per_request("syncs"),
        "votes_per_request": per_request("votes"),
        "peer_bytes_per_request": per_request("peer_bytes_sent"),
        "log_bytes_per_request": per_request("log_bytes"),
        "witness_messages": sum(sample.counters["witness_messages"] for sample in group),
    }


def _plain(settings: NullSettings) -> dict[str, Any]:
    return {
        "session_s": settings.session_s,
        "warm_up_s": settings.warm_up_s,
        "rounds": settings.rounds,
        "request_bytes": 128,
        "f": 1,
        "witnesses": 1,
        "durability": list(settings.durabilities),
        "domains": "subprocess",
    }


def _project() -> Path:
    return Path(__file__).resolve().parent.parent
