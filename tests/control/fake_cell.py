"""Servers of a cell as far as the command line sees them: control sockets with prepared answers."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from replica_manager.cell_paths import CellPaths
from replica_manager.config_check import load
from replica_manager.control.cli.root import spare
from replica_manager.control.control_socket import ControlSocket
from replica_manager.control.errors import RequestRefused
from replica_manager.control.event_log import EventLog
from replica_manager.control.event_stream import events_handler
from tests.control.conftest import LoopThread

FILE = """\
[cell]
name = "shop"
network = "loopback"
state_dir = "state"
runtime_dir = "run"
[service]
command = ["true", "{channel}"]
[hypervisor]
driver = "subprocess"
isolation = "none"
"""
DIGEST = "ab" * 32


class FakeServer:
    """One server; tests change its attributes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = "serving"
        self.clock_us = 1_700_000_000_000_000 + number
        self.log = EventLog(number, self._tick)
        self.digests = {"s0.g1": DIGEST, "s1.g1": DIGEST}
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.refusal: RequestRefused | None = None
        self.more_status: dict[str, Any] = {}
        self.export_items: list[dict[str, Any]] = []
        self.votes = [self.vote(0, DIGEST), self.vote(1, "cd" * 32)]

    def _tick(self) -> int:
        self.clock_us += 1000
        return self.clock_us

    def vote(self, server: int, digest: str) -> dict[str, Any]:
        """Return a row of `explain`; sizes are known where the domain lives."""
        row = {"domain": f"s{server}.g1", "server": server, "digest": digest}
        row["verdict"] = "agrees" if digest == DIGEST else "differs"
        return row | ({"reply_bytes": 120, "update_bytes": 0} if server == self.number else {})

    def domain(self, server: int, generation: int) -> dict[str, Any]:
        """Return a row of `status`; use is known where the domain lives."""
        row = {"domain": f"s{server}.g{generation}", "server": server, "role": ("active", "passive")[generation - 1]}
        if server == self.number:
            row |= {"hypervisor_state": "running", "cursor": 42, "cpu_seconds": 3.25, "memory_bytes": 300 << 20}
        return row

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """Return what the control socket answers."""
        return {
            "status": lambda _: {
                "server": self.number,
                "cell": "shop",
                "state": self.state,
                "leader": "s0",
                "is_leader": self.number == 0,
                "configuration": 1,
                "threshold": 2,
                "delivered": 41,
                "stable": 41,
                "buffer": {"updates": 7, "bytes": 2048},
                "last_refresh": {"at_us": 1_700_000_000_000_000, "updates": 100, "duration_ms": 41.6},
                "refreshes": 3,
                "clients": 5,
                "cpu_seconds": 12.5,
                "rss_bytes": 80 << 20,
                **self.more_status,
                "domains": [self.domain(server, generation) for server in (0, 1) for generation in (1, 2)],
            },
            "events": events_handler(self.log),
            "explain": self._explain,
            "checkpoint": lambda _: {"point": 17, "digests": self.digests},
            "export": self._export,
            **{name: partial(self._order, name) for name in ("resolve", "activate", "retire", "leave")},
        }

    def _order(self, name: str, params: dict[str, Any]) -> Any:
        if self.refusal is not None:
            raise self.refusal
        self.orders.append((name, params))
        return params

    async def _export(self, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.orders.append(("export", params))
        if self.refusal is not None:
            raise self.refusal
        for item in self.export_items:
            yield item

    def _explain(self, params: dict[str, Any]) -> Any:
        if params["sequence"] != 41:
            raise RequestRefused("unknown_sequence", f"sequence {params['sequence']} is not ordered yet")
        return {
            "sequence": 41,
            "kind": "request",
            "client": "00ff",
            "number": 3,
            "timestamp_us": 1_700_000_000_000_000,
            "payload_bytes": 128,
            "outcome": "diverged",
            "stable_digest": None,
            "votes": self.votes,
        }


class FakeCell:
    """Two servers and the command line over them."""

    def __init__(self, directory: Path, loop: LoopThread) -> None:
        self.file = directory / "spare.toml"
        self.file.write_text(FILE)
        self.paths = CellPaths.of(load(self.file))
        self.loop = loop
        self.servers = [FakeServer(0), FakeServer(1)]
        self._sockets = [ControlSocket(self.paths.control_socket(one.number), one.handlers()) for one in self.servers]
        for socket in self._sockets:
            loop.run(socket.open())

    def stop(self, server: int) -> None:
        """End one server."""
        self.loop.run(self._sockets[server].close())

    def close(self) -> None:
        """End all servers."""
        for server in range(2):
            self.stop(server)

    def run(self, *words: str, config: bool = True) -> Result:
        """Run `spare` with `words`."""
        environment = {"SPARE_CONFIG": str(self.file) if config else "", "NO_COLOR": "1"}
        return CliRunner().invoke(spare, words, env=environment)
