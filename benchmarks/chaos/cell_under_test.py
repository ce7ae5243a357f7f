"""The cell of a run: its file, its start, its end as in a power cut, and what it says of itself."""

import json
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.chaos.fault_kinds import KINDS, Means
from benchmarks.chaos.schedule import Schedule, Target
from images.fault_orders import treacherous_command
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down
from replica_manager.control.cell_network import network_of
from replica_manager.control.cell_up import bring_up
from replica_manager.control.cell_view import CellView, look
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlTimeout
from replica_manager.control.keeper_process import end_keeper
from replica_manager.control.leftovers import find_machines, find_marked
from replica_manager.control.member_process import member_command, start_member
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.control.processes import ProcessIdentity, identify, send, wait_until_ended
from replica_manager.network import local_cell, namespaces
from replica_manager.network.address_plan import namespace_name

Report = Callable[[str], None]

DATA_SET_START_US = 1_700_000_000_000_000
"""When the image's data set begins: auctions end one to seven days later."""
KEY_VALUE = (
    "exec_wrapper",
    "--link",
    "unix:{channel}",
    "exec_wrapper.examples.key_value",
    "--directory",
    "{disk}/data",
)
TREACHEROUS = {"rubis": "rubis-mariadb+treacherous", "key-value": "key-value+treacherous"}
ROUNDING = "rubis-mariadb+rounded-bids"
ASK_TIMEOUT_S = 60.0
END_PATIENCE_S = 60.0
REPLACE_S = 600.0
CONFIG = """# Made by `spare chaos`; `spare cell down -c` this file removes everything after a crash of the command.
fault_injection = true

[cell]
name = "{name}"
f = {f}
state_dir = "cell"
state_disk_mib = {state_disk_mib}

[hypervisor]
driver = "{driver}"
{hypervisor}

[service]
{service}

[updates]
refresh_updates_max = {refresh_updates_max}

[timeouts]
boot_ms = 600_000
stall_start_ms = {stall_start_ms}
crash_ms = {crash_ms}
state_ms = {state_ms}
"""


def config_text(schedule: Schedule, images: Path) -> str:
    """Return the cell's file.  Pure."""
    cell = schedule.cell
    is_subprocess = cell.driver == "subprocess"
    command = json.dumps(list(treacherous_command(*KEY_VALUE)))
    service = f"command = {command}" if is_subprocess else f'image = "{TREACHEROUS[cell.service]}"'
    service += '\nlisten = "framed"' if cell.service == "key-value" else ""
    if cell.service == "rubis":
        service += f'\nlisten = "http"\nclock_start_us = {DATA_SET_START_US}'
    text = CONFIG.format(
        name=schedule.name,
        f=cell.f,
        state_disk_mib=cell.state_disk_mib,
        driver=cell.driver,
        hypervisor='isolation = "none"' if is_subprocess else f'image_dir = "{images}"',
        service=service,
        refresh_updates_max=cell.refresh_updates_max,
        stall_start_ms=cell.stall_start_ms,
        crash_ms=cell.crash_ms,
        state_ms=cell.state_ms,
    )
    rounding = rounding_servers(schedule)
    for server in range(cell.f + 1):
        text += f"\n[[server]]\nid = {server}\n" + (f'image = "{ROUNDING}"\n' if server in rounding else "")
    return text


def rounding_servers(schedule: Schedule) -> list[int]:
    """Return the servers that boot with a database that rounds.  Pure."""
    return [int(fault.target[1:]) for fault in schedule.faults if KINDS[fault.kind].means is Means.IMAGE]


class CellUnderTest:
    """One cell."""

    def __init__(self, schedule: Schedule, directory: Path, images: Path) -> None:
        """Write its file below `directory`."""
        self.schedule = schedule
        file = directory / "cell.toml"
        file.write_text(config_text(schedule, images))
        self.config: Config = load(file)
        self.paths = CellPaths.of(self.config)
        self.network = network_of(self.config)
        self._process_records = ProcessRecords(self.paths.processes)
        self._known: dict[int, ProcessIdentity] = {}
        """The process of each server, when it was looked at last."""
        self._seen_dead: set[int] = set()
        self.clients_namespace = namespace_name(self.config.cell.name, "clients")

    @property
    def servers(self) -> Sequence[int]:
        """The numbers of the servers."""
        return [server.id for server in self.config.server]

    # -- life --------------------------------------------------------------------------------------------------

    def up(self, report: Report) -> None:
        """Start it anew.

        Raises:
            ControlError, ImageError, NetworkError: it cannot be started; nothing is left behind.
        """
        self.down(report)
        bring_up(self.config, self.network, report)

    def keep_one_rounding(self, report: Report) -> None:
        """Replace the sleeper of each server that booted with databases that round; what boots from now on is sound.

        Two bad domains on one server are two faults.

        Raises:
            ControlTimeout: the sleeper is not replaced in time.
            ControlError: the server refuses.
        """
        for server in rounding_servers(self.schedule):
            sleeper = self.resolve(f"s{server}.passive", self.look()).domain
            report(f"replacing {sleeper}, so that one database rounds and not two")
            self.inject(server, action="boot-image", image=self.config.service.image)
            self.inject(server, action="stop-domain", domain=sleeper, how="destroy")
            if not wait_for(partial(self._is_replaced, sleeper), REPLACE_S):
                raise ControlTimeout(f"{sleeper} is not replaced after {REPLACE_S:g} s")

    def _is_replaced(self, domain: str) -> bool:
        view = self.look()
        roles = {row["domain"]: row["role"] for row in view.domains()}
        return view.state == "serving" and roles.get(domain) in (None, "retired")

    def down(self, report: Report) -> None:
        """End it and remove what it made, its state too; idempotent."""
        for server in self.servers:
            self.let_go(server)
        take_down(self.config, self.network, plan_down(self.config, purge=True), report)

    def power_off(self) -> None:
        """End every process at once, as a power cut does; disks stay as they are."""
        end_keeper(self.paths, lambda _: None)
        victims = [record.identity for record in self._records()]
        victims += [*find_machines(self.paths), *find_marked(self.paths)]
        _kill(victims)

    # -- looking -----------------------------------------------------------------------------------------------

    def look(self) -> CellView:
        """Return what all servers say of themselves."""
        return look(self.config)

    def resolve(self, target: str, view: CellView) -> Target:
        """Return whom `target` means now.

        Raises:
            LookupError: nobody, for example because no server leads.
        """
        name, _, role = target.partition(".")
        leader = next((number for number, answer in view.answers.items() if answer.get("is_leader")), None)
        if name in ("leader", "follower"):
            if leader is None:
                raise LookupError("no server leads")
            others = [number for number in self.servers if number != leader]
            return Target(leader if name == "leader" else others[0])
        server = int(name[1:])
        if not role:
            return Target(server)
        rows = [row for row in view.domains() if row["server"] == server and row["role"] == role]
        if not rows:
            raise LookupError(f"server {server} has no {role} domain")
        return Target(server, str(rows[0]["domain"]))

    # -- violence ----------------------------------------------------------------------------------------------

    def inject(self, server: int, **command: object) -> None:
        """Have a server do something to itself.

        Raises:
            ControlError: it refuses or does not answer.
        """
        with ControlClient(self.paths.control_socket(server), ASK_TIMEOUT_S) as client:
            client.call("inject", **command)

    def manager(self, server: int) -> ProcessRecord:
        """Return the process of a server's replica manager."""
        return next(one for one in self._records() if one.kind == "server" and one.member == server)

    def hold(self, server: int) -> None:
        """Let a server stay away once its process has ended, until `ensure_running`: the keeper leaves it alone."""
        self._process_records.hold("server", server)

    def kill_manager(self, server: int) -> None:
        """End the replica manager alone; its virtual machines go on running."""
        self.hold(server)
        _kill([self.manager(server).identity])

    def crash_server(self, server: int) -> None:
        """End everything that runs on a server."""
        self.hold(server)
        inside = local_cell.processes(self.config.cell.name)[namespace_name(self.config.cell.name, f"s{server}")]
        _kill([identity for pid in inside if (identity := identify(pid)) is not None])

    def ensure_running(self, server: int) -> None:
        """Start the server's process if it has ended, and leave it to the keeper again."""
        if not self.manager(server).is_alive:
            command = member_command("server", server, self.config.path)
            start_member(self.paths, self.network, "server", server, command)
        self._process_records.release("server", server)
        self._known[server] = self.manager(server).identity

    def has_ended_by_itself(self, server: int) -> bool:
        """Tell, once, whether the server's process has ended though nobody ended it; the keeper starts it again."""
        record, known = self.manager(server), self._known.get(server)
        self._known[server] = record.identity
        if known is None or self._process_records.is_held("server", server):
            return False
        if not record.is_alive and server not in self._seen_dead:
            self._seen_dead.add(server)
            return True
        has_changed = record.identity != known
        was_told = has_changed and server in self._seen_dead
        if has_changed:
            self._seen_dead.discard(server)
        return has_changed and not was_told

    def freeze(self, server: int) -> None:
        """Stop the replica manager without ending it."""
        send(self.manager(server).identity, signal.SIGSTOP)

    def let_go(self, server: int) -> None:
        """Let a replica manager that was frozen go on."""
        for record in self._records():
            if record.kind == "server" and record.member == server:
                send(record.identity, signal.SIGCONT)

    def in_server(self, server: int, action: Callable[[], None]) -> None:
        """Run `action` in the network of a server."""
        namespaces.call_in(namespace_name(self.config.cell.name, f"s{server}"), action)

    def in_clients(self, action: Callable[[], bool]) -> bool:
        """Run `action` where the clients are."""
        return namespaces.call_in(self.clients_namespace, action)

    def _records(self) -> Sequence[ProcessRecord]:
        return self._process_records.read()


def _kill(victims: Sequence[ProcessIdentity]) -> None:
    for victim in victims:
        send(victim, signal.SIGKILL)
    wait_until_ended(victims, END_PATIENCE_S)


def wait_for(condition: Callable[[], bool], limit_s: float, poll_s: float = 0.2) -> bool:
    """Wait until `condition` holds, at most `limit_s`; tell whether it does."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(poll_s)
    return True
