"""A cell of child processes with the key-value service on this machine, for measuring replication alone."""

import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.loopback_ports import free_port
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cell_up import bring_up
from replica_manager.control.control_client import ControlClient
from replica_manager.control.process_records import ProcessRecords
from replica_manager.hypervisor.domain_process import find_process

TEMPLATE = """# Made by `spare bench null`.
[cell]
name = "bench-null-{mark}"
f = {f}
network = "loopback"
state_dir = "cell"
restart = "never"
durability = "{durability}"

[hypervisor]
driver = "subprocess"
isolation = "none"

[service]
listen = "framed"
command = ["{python}", "-P", "-m", "exec_wrapper", "--link", "unix:{{channel}}", "exec_wrapper.examples.key_value"]
"""


class NullCell:
    """A running cell."""

    def __init__(self, config: Config) -> None:
        """Look at the cell of `config`."""
        self.config = config
        self._paths = CellPaths.of(config)

    @property
    def addresses(self) -> list[str]:
        """Where clients connect, `host:port` per server."""
        return [server.public_address for server in self.config.server]

    def status(self, server: int) -> dict[str, Any]:
        """Return a server's status."""
        with ControlClient(self._paths.control_socket(server), 30.0) as client:
            answer: dict[str, Any] = client.call("status")
            return answer

    def statuses(self) -> list[dict[str, Any]]:
        """Return every server's status."""
        return [self.status(server.id) for server in self.config.server]

    def checkpoint(self) -> dict[str, Any]:
        """Compare the states of all domains; return `{"point", "digests"}`."""
        with ControlClient(self._paths.control_socket(0), 60.0) as client:
            answer: dict[str, Any] = client.call("checkpoint")
            return answer

    def explain(self, server: int, sequence: int) -> dict[str, Any]:
        """Return what a server knows of a sequence number."""
        with ControlClient(self._paths.control_socket(server), 30.0) as client:
            answer: dict[str, Any] = client.call("explain", sequence=sequence)
            return answer

    def manager_pid(self, server: int) -> int:
        """Return the process of a server's manager."""
        records = ProcessRecords(self._paths.processes).read()
        return next(r.identity.pid for r in records if r.kind == "server" and r.member == server)

    def domain_pid(self, domain: str) -> int:
        """Return the process of a domain's wrapper: the one that was given the domain's channel."""
        pid = find_process(f"unix:{self._paths.runtime_dir}/s{domain[1]}/{domain}.sock")
        if pid is None:
            raise LookupError(f"no process of {domain}")
        return pid

    def leader(self) -> int:
        """Return the server that leads the agreement: clients of one server save it a hop."""
        return next(int(status["server"]) for status in self.statuses() if status["is_leader"])

    def cpu_seconds(self) -> dict[str, float]:
        """Return CPU time so far by component: managers, witnesses, domains."""
        found: dict[str, float] = {}
        for record in ProcessRecords(self._paths.processes).read():
            found[f"{'manager' if record.kind == 'server' else record.kind} {record.member}"] = process_cpu_seconds(
                record.identity.pid
            )
        for status in self.statuses():
            for row in status["domains"]:
                if row.get("cpu_seconds") is not None:
                    found[f"{row['role']} {row['domain']}"] = row["cpu_seconds"]
        return found

    def manager_memory_bytes(self) -> list[int]:
        """Return the resident memory of every manager."""
        return [status["rss_bytes"] for status in self.statuses()]


def process_cpu_seconds(pid: int) -> float:
    """Return user and system time of a process.  Source: proc(5), /proc/pid/stat fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_bytes(pid: int) -> int:
    """Return the most memory that a process ever had resident.  Source: proc(5), `VmHWM` in /proc/pid/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def directory_mark(directory: Path) -> str:
    """Return eight digits that tell directories apart: two runs on one machine must not end each other's processes."""
    return f"{zlib.crc32(bytes(directory.resolve())):08x}"


@contextmanager
def null_cell(
    directory: Path, report: Callable[[str], None], f: int = 1, durability: str = "sync"
) -> Iterator[NullCell]:
    """Run a new cell in `directory`; end it and remove its state afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "cell.toml"
    text = TEMPLATE.format(mark=directory_mark(directory), f=f, durability=durability, python=sys.executable)
    for server in range(f + 1):
        text += f'\n[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
        text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
    for witness in range(f):
        text += f'\n[[witness]]\nid = {witness}\nprivate_address = "127.0.0.1:{free_port()}"\n'
    file.write_text(text)
    config = load(file)
    network = LoopbackNetwork()
    take_down(config, network, plan_down(config, purge=True), lambda _: None)
    try:
        bring_up(config, network, report)
        yield NullCell(config)
    finally:
        take_down(config, network, plan_down(config, purge=True), lambda _: None)
