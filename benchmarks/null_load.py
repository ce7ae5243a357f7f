"""A closed loop of clients over the framed protocol: each sends its next request when the reply has come.

Run as `python -m benchmarks.null_load`; prints one JSON document.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

from exec_wrapper.examples import key_value_commands
from replica_manager.client.framed_client import FramedClient
from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome


@dataclass(frozen=True)
class LoadSettings:
    """What to send, and how long."""

    addresses: list[tuple[str, int]]
    clients: int
    warm_up_s: float
    session_s: float
    payload: bytes
    requests_max: int = 0
    """Stop after this many requests; 0: only by time."""
    client_ids: int = 0
    """Client ids that the connections take in turn; 0: one per connection."""


class Load:
    """One run."""

    def __init__(self, settings: LoadSettings) -> None:
        """Prepare."""
        self._settings = settings
        self._latencies_us: list[int] = []
        self._is_measuring = False
        self._is_over = False
        self.sent = 0
        self.failed = 0

    async def run(self) -> dict[str, Any]:
        """Run all clients; return figures of the measured session."""
        settings = self._settings
        tasks = [asyncio.create_task(self._client(index)) for index in range(settings.clients)]
        await self._wait(settings.warm_up_s, tasks)
        before_cpu, before = _cpu_seconds(), time.monotonic()
        self._is_measuring = True
        await self._wait(settings.session_s, tasks)
        self._is_measuring = False
        elapsed, cpu = time.monotonic() - before, _cpu_seconds() - before_cpu
        self._is_over = True
        await asyncio.gather(*tasks)
        latencies = sorted(self._latencies_us)
        return {
            "clients": settings.clients,
            "requests": len(latencies),
            "requests_sent": self.sent,
            "failed_requests": self.failed,
            "session_s": round(elapsed, 3),
            "throughput_rps": round(len(latencies) / elapsed, 1),
            "latency_ms": {name: _percentile_ms(latencies, q) for name, q in (("p50", 0.5), ("p99", 0.99))},
            "client_cpu_us_per_request": round(1e6 * cpu / max(1, len(latencies)), 1),
        }

    async def _wait(self, seconds: float, tasks: "list[asyncio.Task[None]]") -> None:
        if seconds > 0:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()

    async def _client(self, index: int) -> None:
        settings = self._settings
        host, port = settings.addresses[index % len(settings.addresses)]
        connection = await FramedClient.connect(host, port)
        share = -(-settings.client_ids // settings.clients) or 1
        ids = [await connection.open_client() for _ in range(share)]
        try:
            await self._send_all(connection, ids)
        finally:
            connection.close()

    async def _send_all(self, connection: FramedClient, ids: list[ClientId]) -> None:
        limit = self._settings.requests_max
        turn = 0
        while not self._is_over and (not limit or self.sent < limit):
            client, number = ids[turn % len(ids)], turn // len(ids) + 1
            turn += 1
            self.sent += 1
            start_ns = time.monotonic_ns()
            outcome, _ = await connection.request(client, number, self._settings.payload)
            if outcome is not Outcome.ANSWERED:
                self.failed += 1
            elif self._is_measuring:
                self._latencies_us.append((time.monotonic_ns() - start_ns) // 1000)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _percentile_ms(ascending_us: list[int], quantile: float) -> float:
    if not ascending_us:
        return 0.0
    return round(ascending_us[min(len(ascending_us) - 1, int(quantile * len(ascending_us)))] / 1000, 3)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+", help="HOST:PORT")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--client-ids", type=int, default=0)
    parser.add_argument("--warm-up-s", type=float, default=2)
    parser.add_argument("--session-s", type=float, default=10)
    parser.add_argument("--requests-max", type=int, default=0)
    parser.add_argument("--payload-bytes", type=int, default=128)
    options = parser.parse_args()
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    addresses = [(host, int(port)) for host, _, port in (a.rpartition(":") for a in options.addresses)]
    overhead_bytes = len(key_value_commands.encode_echo(b""))
    payload = key_value_commands.encode_echo(b"x" * (options.payload_bytes - overhead_bytes))
    settings = LoadSettings(
        addresses,
        options.clients,
        options.warm_up_s,
        options.session_s,
        payload,
        options.requests_max,
        options.client_ids,
    )
    json.dump(asyncio.run(Load(settings).run()), sys.stdout)


if __name__ == "__main__":
    main()
