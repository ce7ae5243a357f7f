"""A real cell of processes on loopback, to be attacked; nothing of it is left afterwards."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from agreement.identifiers import MemberId
from benchmarks.loopback_ports import free_port
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.config_addresses import Address, parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cell_up import bring_up
from replica_manager.control.control_client import ControlClient
from replica_manager.control.event_file import FILES_KEPT
from replica_manager.control.event_log import SUPPRESSED
from replica_manager.control.process_records import ProcessRecords
from replica_manager.member_addresses import peer_credentials, private_addresses
from replica_manager.ordering.peer_tls import PeerTls

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = {"framed": "exec_wrapper.examples.key_value", "http": "tests.fuzz.web_service"}
HOSTILE_DOMAIN = "s1.g1"
EVENTS_ASKED = 1000
CONNECTIONS_MAX = 200
"""Of clients; small, so that they can be used up."""

TEMPLATE = """[cell]
name = "{name}"
f = 1
network = "loopback"
state_dir = "cell"
restart = "never"
runtime_dir = "{directory}/run"

[hypervisor]
driver = "subprocess"
isolation = "none"

[limits]
connections_max = {connections_max}

[service]
listen = "{listen}"
command = ["env", "PYTHONPATH={root}", "{python}", "-m", "tests.fuzz.hostile_wrapper", "--channel", "{{channel}}",
    "--domain", "{{domain}}", "--hostile", "{hostile}", "--mutants", "{mutants}", "--seed", "{seed}",
    "--go", "{directory}/go", "{adapter}"]
"""


class LiveCell:
    """A running cell of two servers and a witness."""

    def __init__(self, config: Config, directory: Path) -> None:
        """Look at the cell of `config`."""
        self.config = config
        self._directory = directory
        self._paths = CellPaths.of(config)
        self.servers = [server.id for server in config.server]

    def client_address(self, server: int) -> Address:
        """Return where clients connect."""
        return parse_address(self.config.server[server].public_address)

    def admin_address(self, server: int) -> Address:
        """Return where scrapers connect."""
        return parse_address(self.config.server[server].admin_address)

    def peer_address(self, server: int) -> Address:
        """Return where members connect."""
        return private_addresses(self.config)[MemberId.server(server)]

    def control_socket(self, server: int) -> Path:
        """Return where operators connect."""
        return self._paths.control_socket(server)

    def tls_of(self, member: MemberId) -> PeerTls:
        """Return what `member` proves itself with."""
        return PeerTls(peer_credentials(self._paths.keys, self.config.cell.name, member))

    def call(self, server: int, method: str, **parameters: Any) -> Any:
        """Return the answer of a server to its operator."""
        with ControlClient(self.control_socket(server), 60.0) as client:
            return client.call(method, **parameters)

    def memory_bytes(self) -> list[int]:
        """Return the resident memory of each manager."""
        return [int(self.call(server, "status")["rss_bytes"]) for server in self.servers]

    def shown_kinds(self, server: int, kinds: list[str]) -> set[str]:
        """Return which of these kinds the server's events show, as `spare events` asks for them."""
        found: set[str] = set()
        for kind in kinds:
            events = self.call(server, "events", limit=EVENTS_ASKED, kinds=[kind])
            found |= {event["kind"] for event in events}
        return found

    def count_events(self, server: int) -> Counter[str]:
        """Return how often each kind occurred, with those that were left out as too many; after the end."""
        counts: Counter[str] = Counter()
        file = self._paths.event_file(server)
        for path in [file.with_name(f"{file.name}.{number}") for number in range(1, FILES_KEPT + 1)] + [file]:
            if path.exists():
                for line in path.read_bytes().splitlines():
                    event = msgspec.json.decode(line)
                    counts[event["kind"]] += 1
                    if event["kind"] == SUPPRESSED:
                        counts[event["data"]["of_kind"]] += event["data"]["count"]
        return counts

    def dead_members(self) -> list[str]:
        """Return the members whose process has ended."""
        return [record.name for record in ProcessRecords(self._paths.processes).read() if not record.is_alive]

    def let_the_domain_loose(self) -> None:
        """Have the hostile domain send garbage from now on."""
        (self._directory / "go").touch()

    def stop(self) -> None:
        """End all processes in good order; the state stays."""
        take_down(self.config, LoopbackNetwork(), plan_down(self.config, purge=False), lambda _: None)


@contextmanager
def live_cell(listen: str, mutants: int, seed: int, report: Callable[[str], None]) -> Iterator[LiveCell]:
    """Run a new cell whose clients speak `listen`; remove everything of it at the end."""
    with tempfile.TemporaryDirectory(prefix="spare-fuzz-") as name:
        directory = Path(name)
        file = directory / "cell.toml"
        file.write_text(_configuration(listen, mutants, seed, directory))
        config, network = load(file), LoopbackNetwork()
        try:
            bring_up(config, network, report)
            yield LiveCell(config, directory)
        finally:
            take_down(config, network, plan_down(config, purge=True), lambda _: None)


def _configuration(listen: str, mutants: int, seed: int, directory: Path) -> str:
    text = TEMPLATE.format(
        name=f"fuzz-{os.getpid()}",
        directory=directory,
        listen=listen,
        root=ROOT,
        python=sys.executable,
        hostile=HOSTILE_DOMAIN,
        mutants=mutants,
        seed=seed,
        adapter=ADAPTERS[listen],
        connections_max=CONNECTIONS_MAX,
    )
    for server in range(2):
        text += f'\n[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
        text += f'framed_address = "127.0.0.1:{free_port()}"\n' if listen == "http" else ""
        text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
    return f'{text}\n[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'
