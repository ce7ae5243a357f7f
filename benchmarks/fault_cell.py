"""A cell to be measured, and hurt; of child processes or of machines.  Its key-value service may misbehave on order."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmarks.fault_service import SERVICES
from benchmarks.loopback_ports import free_port
from benchmarks.null_cell import NullCell, directory_mark
from images.fault_orders import treacherous_command
from replica_manager.config import Config
from replica_manager.config_addresses import Address, parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down, take_down_whole
from replica_manager.control.cell_network import network_of
from replica_manager.control.cell_up import bring_up
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError
from replica_manager.control.leftovers import find_machines
from replica_manager.control.member_process import member_command, start_member
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.processes import ProcessIdentity, identify, send
from replica_manager.network import namespaces
from replica_manager.network.address_plan import namespace_name

KEY_VALUE = ("exec_wrapper", "--link", "unix:{channel}", "exec_wrapper.examples.key_value")
POLL_S = 0.05
PATIENCE_S = 300.0
"""For a cell to be whole again: emulated machines boot slowly."""
EVENTS_AT_ONCE = 1000
STALL_MAX_MS = 30_000
"""The configuration's default."""
Driver = Literal["subprocess", "libvirt"]
Report = Callable[[str], None]
ResultT = TypeVar("ResultT")

_HEAD = """# Made by a benchmark; after a crash of it, `spare cell down -c` this file removes everything.
fault_injection = {fault_injection}
[cell]
name = "{name}"
state_dir = "cell"
network = "{network}"
passive_mode = "{passive_mode}"
[updates]
refresh_updates_max = {refresh_updates_max}
[timeouts]
boot_ms = 600_000
stall_start_ms = {stall_start_ms}
stall_max_ms = {stall_max_ms}
[service]
listen = "framed"
"""


class NotInTime(Exception):
    """Raised when the cell does not get into the state that a measurement begins with: the measurement is void."""


@dataclass(frozen=True)
class CellPlan:
    """Which cell."""

    directory: Path
    images: Path
    driver: Driver
    refresh_updates_max: int = 100
    """`U_max`."""
    passive_mode: Literal["suspended", "running"] = "suspended"
    stall_start_ms: int = 250
    """How much longer than another one a domain may take before it is suspected, at least."""
    name: str = "faults"
    """What the cell's name begins with."""
    image: str = SERVICES["key-value"].image
    """What machines boot."""
    settings: str = ""
    """More lines of `[service]`, for machines."""
    command: tuple[str, ...] = (*treacherous_command(*KEY_VALUE),)
    """What child processes are."""

    @property
    def is_treacherous(self) -> bool:
        """Whether its domains misbehave on order."""
        return any(self.image == service.image for service in SERVICES.values())


class FaultCell(NullCell):
    """A running cell, and what may be done to it."""

    # -- where -------------------------------------------------------------------------------------------------

    @property
    def client_addresses(self) -> list[Address]:
        """Where clients connect, per server."""
        return [parse_address(address) for address in self.addresses]

    @property
    def clients_namespace(self) -> str:
        """The network namespace of the clients; empty: they are where this process is."""
        has_one = self.config.cell.network == "namespaces"
        return namespace_name(self.config.cell.name, "clients") if has_one else ""

    def among_clients(self, action: Callable[[], ResultT]) -> ResultT:
        """Run `action` on the clients' network; what it starts runs there too."""
        return namespaces.call_in(self.clients_namespace, action) if self.clients_namespace else action()

    # -- looking -----------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return every domain in the words of its own server."""
        return {row["domain"]: row for s in self.statuses() for row in s["domains"] if row["server"] == s["server"]}

    def domain(self, server: int, role: str) -> str:
        """Return the domain of a server in a role; there is one in a cell that is whole."""
        return next(name for name, row in self.rows().items() if (row["server"], row["role"]) == (server, role))

    def is_whole(self) -> bool:
        """Whether every server serves, with one active and one passive domain."""
        try:
            statuses = self.statuses()
        except ControlError:
            return False
        roles = sorted((row["server"], row["role"]) for s in statuses for row in s["domains"] if _is_own(row, s))
        expected = sorted((server.id, role) for server in self.config.server for role in ("active", "passive"))
        return all(s["state"] == "serving" for s in statuses) and roles == expected

    def wait_until_whole(self) -> float:
        """Wait for full redundancy; return the seconds that it took.

        Raises:
            NotInTime: it does not come.
        """
        return wait_until(self.is_whole, "the cell has its full redundancy")

    def newest_events(self) -> dict[int, int]:
        """Return the id of the newest event of every server."""
        newest = {}
        for server in self.config.server:
            events = self._events(server.id, since_id=-1, limit=1)
            newest[server.id] = events[-1]["id"] if events else 0
        return newest

    def events_since(self, newest: Mapping[int, int], kinds: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return what has happened since `newest_events`, oldest first; servers that do not answer are left out.

        Args:
            newest: what `newest_events` returned.
            kinds: only these, or all; of each server the first thousand.
        """
        found: list[dict[str, Any]] = []
        for server, since_id in newest.items():
            try:
                found += self._events(server, since_id=since_id, limit=EVENTS_AT_ONCE, kinds=kinds)
            except ControlError:
                continue
        return sorted(found, key=lambda event: (event["at_us"], event["server"], event["id"]))

    def _events(self, server: int, **query: Any) -> list[dict[str, Any]]:
        with ControlClient(self._paths.control_socket(server), 30.0) as client:
            answer: list[dict[str, Any]] = client.call("events", **query)
            return answer

    # -- violence ----------------------------------------------------------------------------------------------

    def domain_process(self, domain: str) -> ProcessIdentity:
        """Return the process that is the domain: its machine, or its wrapper."""
        if self.config.hypervisor.driver == "subprocess":
            found = [identify(self.domain_pid(domain))]
        else:
            found = [one for one in find_machines(self._paths) if _is_machine_of(one.pid, domain)]
        if not found or found[0] is None:
            raise LookupError(f"no process of {domain}")
        return found[0]

    def server_processes(self, server: int) -> list[ProcessIdentity]:
        """Return a server's manager, first, and its domains."""
        own = [row["domain"] for row in self.status(server)["domains"] if row["server"] == server]
        return [self.manager_process(server), *(self.domain_process(domain) for domain in own)]

    def manager_process(self, server: int) -> ProcessIdentity:
        """Return the process of a server's manager."""
        records = ProcessRecords(self._paths.processes).read()
        return next(r.identity for r in records if r.kind == "server" and r.member == server)

    def restart_server(self, server: int) -> None:
        """Start the process of a server that was killed; it comes back as somebody new and repairs itself."""
        command = member_command("server", server, self.config.path)
        start_member(self._paths, network_of(self.config), "server", server, command)


def kill(identities: Sequence[ProcessIdentity]) -> None:
    """`kill -9`, as a power cut would."""
    for identity in identities:
        send(identity, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
    """Wait for `condition`; return the seconds that it took.

    Raises:
        NotInTime: it does not come true.
    """
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > patience_s:
            raise NotInTime(f"not within {patience_s:.0f} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - began_s


def _is_own(row: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    return bool(row["server"] == status["server"] and row["role"] not in ("retired", "left"))


def _is_machine_of(pid: int, domain: str) -> bool:
    """Whether the machine's name ends with the domain's.  Source: qemu(1), `-name guest=…`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    name = words[words.index(b"-name") + 1] if b"-name" in words else b""
    return name.split(b",")[0].endswith((f"={domain}".encode(), f"-{domain}".encode()))


# -- making one ------------------------------------------------------------------------------------------------


@contextmanager
def fault_cell(plan: CellPlan, report: Report) -> Iterator[FaultCell]:
    """Run a new cell; end it and remove its state afterwards.

    Raises:
        ControlError, ImageError, NetworkError: the cell cannot be started.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    file = plan.directory / "cell.toml"
    file.write_text(cell_text(plan))
    with running_cell(load(file), report) as cell:
        yield cell


@contextmanager
def running_cell(config: Config, report: Report) -> Iterator[FaultCell]:
    """Run the cell of a configuration anew; end it and remove its state afterwards.

    Raises:
        ControlError, ImageError, NetworkError: the cell cannot be started.
    """
    network = network_of(config)
    take_down(config, network, plan_down(config, purge=True), lambda _: None)
    try:
        bring_up(config, network, report)
        yield FaultCell(config)
    finally:
        take_down_whole(config, network, lambda _: None, purge=True)


def cell_text(plan: CellPlan) -> str:
    """Return the configuration file of the cell."""
    is_small = plan.driver == "subprocess"
    text = _HEAD.format(
        fault_injection=str(plan.is_treacherous).lower(),
        name=f"{plan.name}-{directory_mark(plan.directory)}",
        network="loopback" if is_small else "namespaces",
        passive_mode=plan.passive_mode,
        refresh_updates_max=plan.refresh_updates_max,
        stall_start_ms=plan.stall_start_ms,
        stall_max_ms=max(STALL_MAX_MS, plan.stall_start_ms),
    )
    return text + (_processes(plan) if is_small else _machines(plan))


def _processes(plan: CellPlan) -> str:
    text = f'command = {json.dumps(list(plan.command))}\n[hypervisor]\ndriver = "subprocess"\nisolation = "none"\n'
    for server in range(2):
        text += f'[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
        text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
    return text + f'[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'


def _machines(plan: CellPlan) -> str:
    text = f'image = "{plan.image}"\n{plan.settings}[hypervisor]\nimage_dir = "{plan.images}"\n'
    return text + "[[server]]\nid = 0\n[[server]]\nid = 1\n"
