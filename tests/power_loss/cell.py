"""A cell whose power can be cut: each member has a disk of its own, which is shut down without a flush."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmarks.chaos.disk_faults import cut_off
from benchmarks.loopback_ports import free_port
from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.config_addresses import Address, parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down, take_down_whole
from replica_manager.control.cell_network import network_of
from replica_manager.control.checkpoint import Checkpoint, take_checkpoint
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError
from replica_manager.control.leftovers import find_machines, find_marked
from replica_manager.control.member_process import member_command, start_member
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.processes import ProcessIdentity, send, wait_until_ended
from replica_manager.control.state_disks import attach_state_disks, detach_state_disks, find_state_disks
from replica_manager.network import namespaces
from replica_manager.network.address_plan import namespace_name

Driver = Literal["subprocess", "libvirt"]
ResultT = TypeVar("ResultT")

BOOT_S = 600.0
"""Longest start of a cell: emulated machines boot for minutes on a busy machine."""
ASK_S = 30.0
POLL_S = 0.05
SPARE = (sys.executable, "-P", "-m", "replica_manager")
DISK_MIB = {"subprocess": 64, "libvirt": 512}

HEAD = """# Made by the power-loss test.
fault_injection = true
[cell]
name = "{name}"
network = "{network}"
state_dir = "state"
{runtime_dir}state_disk_mib = {disk_mib}
durability = "{durability}"
restart = "never"
[limits]
log_entries_max = {log_entries_max}
[updates]
refresh_updates_max = {refresh_updates_max}
[timeouts]
boot_ms = 600_000
"""
SUBPROCESS = """[service]
listen = "framed"
command = ["{python}", "-P", "-m", "exec_wrapper", "--link", "unix:{{channel}}", "exec_wrapper.examples.key_value",
    "--directory", "{{disk}}"]
[hypervisor]
driver = "subprocess"
isolation = "none"
"""
LIBVIRT = """[service]
listen = "framed"
image = "key-value"
[hypervisor]
image_dir = "{images}"
"""


def write_cell_file(
    file: Path, name: str, driver: Driver, durability: str, log_entries_max: int, images: Path, refresh_updates_max: int
) -> None:
    """Write the configuration of a cell with f = 1 and a witness."""
    is_local = driver == "subprocess"
    text = HEAD.format(
        name=name,
        network="loopback" if is_local else "namespaces",
        runtime_dir='runtime_dir = "run"\n' if is_local else "",
        disk_mib=DISK_MIB[driver],
        durability=durability,
        log_entries_max=log_entries_max,
        refresh_updates_max=refresh_updates_max,
    )
    text += SUBPROCESS.format(python=sys.executable) if is_local else LIBVIRT.format(images=images)
    if is_local:
        for server in range(2):
            text += f'[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
            text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
        text += f'[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'
    file.write_text(text)


class PowerCell:
    """One cell, known by its file."""

    def __init__(self, file: Path) -> None:
        """Look at the cell of `file`."""
        self.file = file
        self.config = load(file)
        self.paths = CellPaths.of(self.config)
        self._network = network_of(self.config)
        # Whose log is not synced is asked for after every cut.
        self._accepts = () if self.config.cell.durability == "sync" else ("--accept-loss",)

    @property
    def addresses(self) -> list[Address]:
        """Where clients connect."""
        return [parse_address(server.public_address) for server in self.config.server]

    def in_place(self, action: Callable[[], ResultT]) -> ResultT:
        """Run `action` where clients live."""
        if self.config.cell.network == "loopback":
            return action()
        return namespaces.call_in(namespace_name(self.config.cell.name, "clients"), action)

    # -- power ---------------------------------------------------------------------------------------------------

    def start_up(self, log: Path) -> "subprocess.Popen[bytes]":
        """Begin `spare cell up` beside this process; its outputs are added to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [*SPARE, "cell", "up", "-c", str(self.file), *self._accepts],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def cut_power(self, chance: random.Random) -> None:
        """Shut down every disk without a flush and kill every process; `chance` decides which comes first.

        In between nothing can be acknowledged: who cannot write says nothing any more.
        """
        disks = [partial(cut_off, disk) for disk in find_state_disks(self.paths)]
        # Managers before domains: nobody notices a power cut that a neighbour died of.
        managers = [record.identity for record in ProcessRecords(self.paths.processes).read() if record.is_alive]
        kills = [partial(send, victim, signal.SIGKILL) for victim in (*managers, *self._processes())]
        chance.shuffle(disks)
        for step in (*disks, *kills) if chance.random() < 0.5 else (*kills, *disks):
            step()
        while victims := self._processes():
            # Those that were started in the meantime.
            for victim in victims:
                send(victim, signal.SIGKILL)
            wait_until_ended(victims, patience_s=60.0)
        for directory in find_state_disks(self.paths):
            cut_off(directory)  # mounted in the meantime; twice does no harm
        detach_state_disks(self.paths, lambda _line: None)
        self._copy_disks()

    def _copy_disks(self) -> None:
        """Go on with copies of the disks.

        A mount namespace that somebody made meanwhile, for another cell perhaps, may still have the file systems that
        were shut down; mounted again from the same file they would be the same ones.
        """
        for image in self.paths.state_dir.glob("*.ext4"):
            copy = image.with_name(f"{image.name}.new")
            subprocess.run(["cp", "--preserve=mode", "--sparse=always", str(image), str(copy)], check=True)
            copy.replace(image)

    def write_back(self) -> None:
        """Have the kernel write what it holds, as it does by itself every few seconds."""
        for directory in find_state_disks(self.paths):
            subprocess.run(["sync", "-f", str(directory)], check=True)

    @property
    def disk_count(self) -> int:
        """How many members are on disks that can be cut off."""
        return len(find_state_disks(self.paths))

    def _processes(self) -> list[ProcessIdentity]:
        members = [record.identity for record in ProcessRecords(self.paths.processes).read() if record.is_alive]
        found = {one.pid: one for one in (*members, *find_machines(self.paths), *find_marked(self.paths))}
        return list(found.values())

    def start_members(self, members: Sequence[tuple[MemberKind, int]]) -> None:
        """Start some members alone, on their disks."""
        attach_state_disks(self.config, lambda _line: None)
        self._network.up(lambda _line: None)
        for directory in (self.paths.runtime_dir, *(self.paths.runtime(kind, member) for kind, member in members)):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for kind, member in members:
            start_member(
                self.paths, self._network, kind, member, (*member_command(kind, member, self.file), *self._accepts)
            )

    def kill_member(self, kind: MemberKind, member: int) -> None:
        """`kill -9` of one member's process."""
        records = ProcessRecords(self.paths.processes).read()
        victim = next(record.identity for record in records if (record.kind, record.member) == (kind, member))
        send(victim, signal.SIGKILL)
        wait_until_ended([victim], patience_s=60.0)

    def kill_domain(self, domain: str) -> None:
        """`kill -9` of what runs a domain."""
        word = f"{domain}.sock".encode()
        for process in self._processes():
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            is_domain = b"exec_wrapper" in arguments or b"qemu-system" in arguments
            if is_domain and (word in arguments or f"guest={domain}".encode() in arguments):
                send(process, signal.SIGKILL)

    def down(self, *, purge: bool = False) -> None:
        """End whatever runs, and unmount; with `purge` the state goes too.  Idempotent; for the main thread."""
        take_down_whole(self.config, self._network, lambda _line: None)
        if purge:
            take_down(self.config, self._network, plan_down(self.config, purge=True), lambda _line: None)

    # -- looking -------------------------------------------------------------------------------------------------

    def status(self, server: int) -> dict[str, Any]:
        """Return what a server says of itself; empty before it listens."""
        try:
            with ControlClient(self.paths.control_socket(server), ASK_S) as client:
                answer: dict[str, Any] = client.call("status")
                return answer
        except ControlError:
            return {}

    def states(self) -> list[str]:
        """Return the state of every server, `-` of one that does not answer."""
        return [str(self.status(server.id).get("state", "-")) for server in self.config.server]

    def wait_for_states(self, is_wanted: Callable[[list[str]], bool], limit_s: float) -> None:
        """Return when the servers' states are as wanted.

        Raises:
            TimeoutError: they are not in time.
        """
        deadline_s = time.monotonic() + limit_s
        while not is_wanted(states := self.states()):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"servers are {', '.join(states)} after {limit_s:g} s")
            time.sleep(POLL_S)

    def domains(self, role: str) -> list[str]:
        """Return the domains of a role, in the words of server 0."""
        return [str(row["domain"]) for row in self.status(0).get("domains", ()) if row["role"] == role]

    def checkpoint(self) -> Checkpoint:
        """Compare the states of all domains."""
        return take_checkpoint(self.config, BOOT_S)

    def last_event(self, kind: str) -> dict[str, Any]:
        """Return the newest event of a kind in the file of server 0; empty if there is none."""
        mark = f'"{kind}"'
        found: dict[str, Any] = {}
        for server in self.config.server:
            path = self.paths.event_file(server.id)
            if path.exists():
                lines = [json.loads(line) for line in path.read_text().splitlines() if mark in line]
                found = lines[-1] if lines and lines[-1].get("at_us", 0) >= found.get("at_us", 0) else found
        return found
