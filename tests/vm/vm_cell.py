"""A one-machine cell of real virtual machines, driven by the commands that an operator types."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from images.overlay import PROJECT_ROOT
from replica_manager.cell_paths import CellPaths
from replica_manager.config_check import load
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError
from replica_manager.control.leftovers import find_machines, find_marked
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.processes import ProcessIdentity, send, wait_until_ended
from replica_manager.network.address_plan import namespace_name
from tests.vm.waiting import BOOT_PATIENCE_S

ASK_TIMEOUT_S = 60.0

CELL = """[cell]
name = "{name}"
f = 1
state_dir = "cell"
restart = "never"

[hypervisor]
image_dir = "{images}"

[timeouts]
boot_ms = 600_000
stall_start_ms = {stall_start_ms}
"""
STALL_START_MS = 15_000
"""An emulated machine that was just woken takes seconds to its first vote on busy processors.  Who is suspected
earlier is replaced, and the machine that boots for it slows all others further."""


def spare_command(*words: str) -> list[str]:
    """Return the command line of `spare` with these words."""
    return [sys.executable, "-P", "-m", "replica_manager", *words]


class OperatedCell:
    """One cell, known by its file."""

    def __init__(self, file: Path) -> None:
        """Look at the cell of `file`, whoever wrote it."""
        self.file = file
        self.config = load(file)
        self.paths = CellPaths.of(self.config)
        self.clients_place = namespace_name(self.config.cell.name, "clients")

    @property
    def servers(self) -> list[int]:
        """The numbers of the servers."""
        return [server.id for server in self.config.server]

    # -- the operator's commands ---------------------------------------------------------------------------------

    def spare(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """Run a command of `spare` on this cell; return its standard output."""
        command = spare_command(*words, "-c", str(self.file))
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_PATIENCE_S, check=False
        )
        assert done.returncode in codes, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask_spare(self, *words: str) -> Any:
        """Run a command and return its JSON."""
        return json.loads(self.spare(*words, "-o", "json"))

    def up(self) -> None:
        """Start the cell."""
        self.spare("cell", "up")

    def down(self) -> None:
        """Stop it and remove what it made, its state too."""
        self.spare("cell", "down", "--purge", "--yes")

    # -- looking -------------------------------------------------------------------------------------------------

    def status(self, server: int) -> dict[str, Any]:
        """Return what a server says of itself."""
        with ControlClient(self.paths.control_socket(server), ASK_TIMEOUT_S) as client:
            answer: dict[str, Any] = client.call("status")
            return answer

    def domains(self, role: str) -> dict[str, dict[str, Any]]:
        """Return the domains of a role, each in the words of its own server."""
        rows = [row for server in self.servers for row in self.status(server)["domains"] if row["server"] == server]
        return {row["domain"]: row for row in rows if row["role"] == role}

    def explain(self, server: int, sequence: int) -> dict[str, Any]:
        """Return what one server knows of a sequence number."""
        with ControlClient(self.paths.control_socket(server), ASK_TIMEOUT_S) as client:
            answer: dict[str, Any] = client.call("explain", sequence=sequence)
            return answer

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind of all servers, oldest first."""
        found: list[dict[str, Any]] = self.ask_spare("events", "-k", kind, "-n", "1000")["events"]
        return found

    def serves(self) -> bool:
        """Whether every server says that it serves."""
        try:
            return all(self.status(server)["state"] == "serving" for server in self.servers)
        except ControlError:
            return False

    def is_whole(self) -> bool:
        """Whether every server serves, with an active and a passive domain of its own."""
        try:
            rows = {server: self.status(server) for server in self.servers}
        except ControlError:
            return False
        roles = {
            server: sorted(row["role"] for row in status["domains"] if row["server"] == server and _is_in_use(row))
            for server, status in rows.items()
        }
        is_serving = all(status["state"] == "serving" for status in rows.values())
        return is_serving and all(own == ["active", "passive"] for own in roles.values())

    # -- violence ------------------------------------------------------------------------------------------------

    def members(self) -> dict[str, ProcessIdentity]:
        """Return the process of every member by its name, `server 0`."""
        return {record.name: record.identity for record in ProcessRecords(self.paths.processes).read()}

    def machines(self) -> list[ProcessIdentity]:
        """Return the processes of the virtual machines."""
        return list(find_machines(self.paths))

    def machine_of(self, domain: str) -> ProcessIdentity:
        """Return the process of a domain's virtual machine."""
        (found,) = (machine for machine in self.machines() if _guest_of(machine) == domain)
        return found

    def kill_everything(self) -> list[ProcessIdentity]:
        """`kill -9` of every process of the cell, as a power cut would; return them."""
        victims = [*self.members().values(), *self.machines(), *find_marked(self.paths)]
        kill(victims)
        return victims

    def kill_server(self, server: int) -> None:
        """`kill -9` of a server's manager and of its machines, as if its host lost power."""
        machines = [machine for machine in self.machines() if _guest_of(machine).startswith(f"s{server}.")]
        assert machines
        kill([self.members()[f"server {server}"], *machines])


class VmCell(OperatedCell):
    """A cell of a test; its file is in a directory of its own."""

    def __init__(self, directory: Path, name: str, images: Path, sections: str, head: str = "") -> None:
        """Write the cell's file.

        Args:
            directory: of the file and of the cell's state.
            name: of the cell; at most 24 characters.
            images: directory of the catalog.
            sections: TOML behind the common sections; `head`: before them.
        """
        file = directory / "cell.toml"
        file.write_text(head + CELL.format(name=name, images=images, stall_start_ms=STALL_START_MS) + sections)
        super().__init__(file)


@contextmanager
def start_spare(log: Path, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """Run `spare` beside the test, in a process group of its own as a terminal does; outputs go to `log`."""
    with log.open("w") as output:
        process = subprocess.Popen(
            # The jobs of a script's shell ignore Ctrl-C, and so would everything that the tests start.
            ["env", "--default-signal=INT", *spare_command(*words)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            cwd=PROJECT_ROOT,
            process_group=0,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            press_ctrl_c(process)
            process.wait(BOOT_PATIENCE_S)


def press_ctrl_c(process: "subprocess.Popen[str]") -> None:
    """Interrupt the foreground process group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


@contextmanager
def running(cell: VmCell) -> Iterator[VmCell]:
    """Run `cell`; nothing of it is left afterwards."""
    cell.down()
    try:
        cell.up()
        yield cell
    finally:
        cell.down()


def kill(victims: Sequence[ProcessIdentity]) -> None:
    """`kill -9`; return when they have ended."""
    for victim in victims:
        send(victim, signal.SIGKILL)
    wait_until_ended(victims, patience_s=60.0)


def _is_in_use(row: dict[str, Any]) -> bool:
    return row["role"] != "retired"


def _guest_of(machine: ProcessIdentity) -> str:
    """Return the name of a machine's guest; empty if it has ended.  Source: qemu(1), `-name guest=…`."""
    try:
        words = Path(f"/proc/{machine.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    name = words[words.index(b"-name") + 1].decode() if b"-name" in words else ""
    return name.partition(",")[0].removeprefix("guest=")
