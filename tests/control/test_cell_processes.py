"""`spare cell up` and `down` over real processes: started, watched, ended, and cleaned up after any death."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.control.cell_down import discard, plan_down, plan_fresh, take_down
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cell_restart_plan import Restart
from replica_manager.control.cell_up import bring_up, is_running, stored_config
from replica_manager.control.cell_view import look
from replica_manager.control.errors import ControlTimeout, ProcessError
from replica_manager.control.leftovers import (
    SERVED_MARK,
    STATE_MARK,
    find_machines,
    find_marked,
    find_mounts,
    has_leftovers,
)
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.processes import identify, is_alive

FILE = """\
[cell]
name = "proc"
network = "loopback"
state_dir = "state"
runtime_dir = "run"
restart = "never"
[service]
command = ["true", "{channel}"]
[hypervisor]
driver = "subprocess"
isolation = "none"
"""
FAKE_MEMBER = Path(__file__).parent / "fake_member.py"


class Cell:
    """A cell whose members are fakes with a behaviour each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = self.load(FILE)
        self.paths = CellPaths.of(self.config)
        self.behaviour: dict[tuple[MemberKind, int], str] = {}
        self.lines: list[str] = []
        self.network = LoopbackNetwork()

    def load(self, text: str) -> Config:
        """Write and load a configuration."""
        file = self.directory / "spare.toml"
        file.write_text(text)
        return load(file)

    def command(self, kind: MemberKind, member: int, _config_file: Path) -> Sequence[str]:
        """Return the command of a fake member."""
        behaviour = self.behaviour.get((kind, member), "serve" if kind == "server" else "quiet")
        socket_path = self.paths.runtime(kind, member) / "control.sock"
        return [sys.executable, "-P", str(FAKE_MEMBER), behaviour, str(socket_path)]

    def up(self) -> None:
        """Start the cell."""
        bring_up(self.config, self.network, self.lines.append, self.command)

    def down(self, *, purge: bool = False) -> None:
        """Stop the cell."""
        take_down(self.config, self.network, plan_down(self.config, purge=purge), self.lines.append)

    def kill(self, pid: int) -> None:
        """Kill a member as `kill -9` does, and wait until it is dead."""
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    @property
    def pids(self) -> list[int]:
        """The members' processes as recorded."""
        return [record.identity.pid for record in ProcessRecords(self.paths.processes).read()]


@pytest.fixture
def cell() -> Iterator[Cell]:
    """A cell in a short directory of its own; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        it = Cell(Path(directory))
        yield it
        it.down()


def test_up_returns_when_every_server_serves_and_down_leaves_nothing(cell: Cell) -> None:
    """Processes are detached; runtime files go, state stays."""
    cell.behaviour["server", 1] = "slow"
    cell.up()
    assert is_running(cell.config)
    assert [line for line in cell.lines if "server 1: " in line][1:] == ["server 1: starting", "server 1: serving"]
    assert all(os.getsid(pid) == pid for pid in cell.pids)
    assert cell.paths.runtime("server", 0).stat().st_mode & 0o777 == 0o700
    assert "behaving: serve" in cell.paths.log("server", 0).read_text()
    assert stored_config(cell.paths.runtime_dir) == cell.config
    pids = cell.pids
    cell.down()
    assert not any(identify(pid) for pid in pids)
    assert not cell.paths.runtime_dir.exists()
    assert cell.paths.keys.is_dir()
    assert not is_running(cell.config)
    cell.down()


def test_keys_are_issued_to_every_member(cell: Cell) -> None:
    """Private, below the state directory."""
    cell.up()
    names = sorted(path.name for path in cell.paths.keys.iterdir())
    assert [
        f"{name}.{kind}" for name in ("authority", "server-0", "server-1", "witness-0") for kind in ("crt", "key")
    ] == names
    assert all(path.stat().st_mode & 0o077 == 0 for path in cell.paths.keys.glob("*.key"))


def test_a_member_that_fails_ends_the_start_and_shows_its_log(cell: Cell) -> None:
    """The rest is ended, nothing of it runs on."""
    cell.behaviour["server", 1] = "fail"
    with pytest.raises(ProcessError, match="server 1 ended with exit code 7") as raised:
        cell.up()
    assert "the disk is on fire" in raised.value.hint
    assert not cell.paths.runtime_dir.exists()
    assert find_marked(cell.paths) == []


def test_a_start_that_was_given_up_leaves_nothing_that_the_next_one_stumbles_over(cell: Cell) -> None:
    """No client was told anything of it; and the next start is the cell's birth again."""
    cell.behaviour["server", 1] = "fail"
    with pytest.raises(ProcessError):
        cell.up()
    half = cell.paths.state("server", 0) / "agreement.db"
    half.parent.mkdir()
    half.touch()
    cell.behaviour.clear()
    cell.up()
    assert not half.exists()
    assert all("--born" in Path(f"/proc/{pid}/cmdline").read_text() for pid in cell.pids)
    cell.down()
    cell.up()
    assert not any("--born" in Path(f"/proc/{pid}/cmdline").read_text() for pid in cell.pids)


def test_a_state_directory_with_other_files_is_refused(cell: Cell) -> None:
    """`--purge` and `--fresh` delete in it later."""
    cell.paths.keys.mkdir(parents=True)
    cell.up()
    cell.down(purge=True)
    (cell.paths.state_dir / "s0").mkdir(parents=True)
    with pytest.raises(ProcessError, match="has files that no cell made: s0"):
        cell.up()
    assert (cell.paths.state_dir / "s0").exists()


def test_only_the_log_of_this_start_is_shown(cell: Cell) -> None:
    """Yesterday's error is not today's."""
    log = cell.paths.log("server", 1)
    log.parent.mkdir(parents=True)
    log.write_text("yesterday's error\n")
    cell.behaviour["server", 1] = "fail"
    with pytest.raises(ProcessError) as raised:
        cell.up()
    assert "yesterday" not in raised.value.hint


def test_state_of_an_earlier_run_survives_a_failed_start(cell: Cell) -> None:
    """Only what this start made is discarded."""
    cell.up()
    cell.down()
    kept = cell.paths.state("server", 0) / "agreement.db"
    kept.parent.mkdir()
    kept.touch()
    cell.behaviour["server", 1] = "fail"
    with pytest.raises(ProcessError):
        cell.up()
    assert kept.exists()
    assert plan_fresh(cell.config) == [kept.parent, cell.paths.state_dir / SERVED_MARK]
    discard(plan_fresh(cell.config))
    assert not kept.exists()


def test_a_server_that_does_not_come_to_serve_is_a_timeout(cell: Cell) -> None:
    """The limit is the configured time to boot and a margin."""
    cell.behaviour["server", 0] = "quiet"
    timeouts = msgspec.structs.replace(cell.config.timeouts, boot_ms=1)
    cell.config = msgspec.structs.replace(cell.config, timeouts=timeouts)
    with pytest.raises(ControlTimeout, match=r"server 0 does not serve after 0.501 s: starting"):
        bring_up(cell.config, cell.network, cell.lines.append, cell.command, margin_s=0.5)
    assert not cell.paths.runtime_dir.exists()


def impatient(cell: Cell) -> str:
    """Start the cell with half a second's patience; return how it is then."""
    timeouts = msgspec.structs.replace(cell.config.timeouts, boot_ms=1)
    cell.config = msgspec.structs.replace(cell.config, timeouts=timeouts)
    return bring_up(cell.config, cell.network, cell.lines.append, cell.command, margin_s=3.0)


@pytest.mark.parametrize(
    ("state", "shown", "hint"),
    [
        ("returning", "returning; waits for server 1", "--without N"),
        ("restarting", "restarting", "console"),
        ("learning", "learning", "--accept-loss"),
    ],
)
def test_a_restart_that_does_not_end_says_what_it_waits_for(cell: Cell, state: str, shown: str, hint: str) -> None:
    """And how to go on; what was started is ended, the state stays."""
    cell.behaviour["server", 0] = cell.behaviour["server", 1] = f"={state}"
    with pytest.raises(ControlTimeout, match=f"server 0 does not serve after 3.001 s: {shown}") as raised:
        impatient(cell)
    assert hint in raised.value.hint
    assert f"server 0: {shown}" in cell.lines


@pytest.mark.parametrize("state", ["degraded", "learning"])
def test_a_cell_whose_redundancy_takes_longer_than_its_service_is_not_ended_again(cell: Cell, state: str) -> None:
    """It answers; the repair goes on."""
    cell.behaviour["server", 1] = f"={state}"
    assert impatient(cell) == "degraded"
    assert is_running(cell.config)


def test_time_is_not_up_while_an_imported_state_goes_in(cell: Cell) -> None:
    """It has no largest size; a second of it takes longer than half a second's patience."""
    cell.behaviour["server", 0] = "importing"
    timeouts = msgspec.structs.replace(cell.config.timeouts, boot_ms=1)
    cell.config = msgspec.structs.replace(cell.config, timeouts=timeouts)
    assert bring_up(cell.config, cell.network, cell.lines.append, cell.command, margin_s=2.0) == "serving"
    assert "server 0: starting; s0.g1 takes the imported state in, 50 %" in cell.lines


def test_a_new_cell_does_not_start_without_a_server(cell: Cell) -> None:
    """There is nothing yet that the others could go on with."""
    with pytest.raises(ProcessError, match="a new cell starts with all its servers"):
        bring_up(cell.config, cell.network, cell.lines.append, cell.command, restart=Restart(without=(1,)))
    assert not cell.paths.runtime_dir.exists()


def test_a_restart_without_a_server_starts_the_others_with_the_operators_word(cell: Cell) -> None:
    """They are told for whom the operator vouches."""
    cell.up()
    cell.down()
    bring_up(cell.config, cell.network, cell.lines.append, cell.command, restart=Restart((1,), accepts_loss=True))
    words = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in cell.pids]
    assert [b"--without" in line for line in words] == [True, False]
    assert all(b"--accept-loss" in line for line in words)


def test_a_server_that_left_is_not_missed(cell: Cell) -> None:
    """The operator wished it."""
    cell.up()
    ProcessRecords(cell.paths.processes).hold("server", 1)
    cell.kill(cell.pids[1])
    assert is_running(cell.config)


def test_ctrl_c_during_the_start_ends_what_was_started(cell: Cell) -> None:
    """The interrupt comes between two progress lines, as from a terminal."""

    def report(line: str) -> None:
        if "server 1: starting" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up(cell.config, cell.network, report, cell.command)
    assert not cell.paths.runtime_dir.exists()
    assert find_marked(cell.paths) == []


def test_down_after_kill_9_of_everything(cell: Cell) -> None:
    """Children of killed members are found by the cell's mark."""
    cell.behaviour["server", 0] = "child"
    cell.up()
    marked = {identity.pid for identity in find_marked(cell.paths)}
    children = marked - set(cell.pids)
    assert len(children) == 1
    for pid in cell.pids:
        cell.kill(pid)
    cell.down()
    assert not any(identify(pid) for pid in marked)
    assert not cell.paths.runtime_dir.exists()


def test_up_after_kill_9_cleans_up_by_itself(cell: Cell) -> None:
    """An operator's first reflex works."""
    cell.up()
    old = cell.pids
    for pid in old:
        cell.kill(pid)
    assert has_leftovers(cell.paths, cell.network)
    cell.up()
    assert is_running(cell.config)
    assert not set(old) & set(cell.pids)


def test_a_cell_that_runs_in_part_is_for_the_operator_to_decide(cell: Cell) -> None:
    """Neither silently started twice nor said to run."""
    cell.up()
    cell.kill(cell.pids[1])
    with pytest.raises(ProcessError, match="runs without server 1") as raised:
        is_running(cell.config)
    assert "spare cell down" in raised.value.hint


def test_a_witness_that_ended_degrades_the_cell(cell: Cell) -> None:
    """Nobody misses it until a server is silent; the operator shall know before."""
    cell.up()
    assert (look(cell.config).state, look(cell.config).witnesses) == ("serving", {0: "running"})
    cell.kill(cell.pids[2])
    assert (look(cell.config).state, look(cell.config).witnesses) == ("degraded", {0: "ended"})


def test_a_stubborn_member_is_killed_after_patience(cell: Cell) -> None:
    """And that is said."""
    cell.behaviour["server", 0] = "stubborn"
    cell.up()
    take_down(cell.config, cell.network, plan_down(cell.config, purge=False), cell.lines.append, patience_s=0.5)
    assert "did not end in 0.5 s and was killed" in cell.lines[-1]
    assert not cell.paths.runtime_dir.exists()


def test_machines_are_found_by_their_arguments_and_by_their_pid_files(cell: Cell) -> None:
    """A process that is no machine is never taken for one, even if a stale file names it."""
    root = cell.paths.hypervisor_root(0)
    (root / "run/qemu").mkdir(parents=True)
    program = cell.directory / "qemu-system-x86_64"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    by_file = subprocess.Popen([program, "1000"])
    channel = str(root / "lib/qemu/monitor.sock")
    by_argument = subprocess.Popen([program, "-c", "import signal; signal.pause()", channel], executable=sys.executable)
    stranger = subprocess.Popen(["sleep", "1000"])
    (root / "run/qemu/s0.g1.pid").write_text(str(by_file.pid))
    (root / "run/qemu/s0.g9.pid").write_text(str(stranger.pid))
    try:
        deadline_s = time.monotonic() + 30
        for process in (by_file, by_argument, stranger):
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes():  # a program that just began has no arguments
                assert time.monotonic() < deadline_s
        assert {identity.pid for identity in find_machines(cell.paths)} == {by_file.pid, by_argument.pid}
        cell.down()
        assert (by_file.wait(), by_argument.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert stranger.poll() is None
    finally:
        for process in (by_file, by_argument, stranger):
            process.kill()
            process.wait()


def test_mounts_below_the_runtime_directory_are_found_innermost_first() -> None:
    """`/proc` has mounts on every Linux; a directory's own mount is not below it."""
    mounts = find_mounts(Path("/"))
    assert Path("/proc") in mounts
    assert Path("/") not in mounts
    assert list(mounts) == sorted(mounts, reverse=True)


def test_purge_deletes_only_what_a_cell_made(cell: Cell) -> None:
    """A directory without the cell's mark may be anybody's."""
    cell.up()
    cell.down(purge=True)
    assert not cell.paths.state_dir.exists()
    cell.paths.state_dir.mkdir()
    (cell.paths.state_dir / "thesis.tex").touch()
    with pytest.raises(ProcessError, match="was not made by a cell"):
        plan_down(cell.config, purge=True)
    assert (cell.paths.state_dir / "thesis.tex").exists()


def test_purge_and_fresh_reach_disks_outside_of_the_state_directory(cell: Cell) -> None:
    """Only files with names of this server's domains."""
    storage = ['storage = ["a", "b"]', 'storage = ["c", "d"]']
    cell.config = cell.load(FILE + "".join(f"[[server]]\nid = {i}\n{line}\n" for i, line in enumerate(storage)))
    for name in ("a/s0.g1.qcow2", "a/other.txt", "a/s1.g1.qcow2", "d/s1.g22/data"):
        (cell.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (cell.directory / name).touch()
    assert plan_fresh(cell.config) == []
    cell.paths.state_dir.mkdir()
    (cell.paths.state_dir / STATE_MARK).touch()
    assert plan_fresh(cell.config) == [cell.directory / "a/s0.g1.qcow2", cell.directory / "d/s1.g22"]


def test_a_published_port_is_open_before_the_member_and_in_its_hands(cell: Cell) -> None:
    """The listening socket of this machine is inherited into the member's namespace."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cell.config = cell.load(FILE + f'[[server]]\nid = 0\npublish = "127.0.0.1:{port}"\n[[server]]\nid = 1\n')
    cell.up()
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        pass
    record = next(record for record in ProcessRecords(cell.paths.processes).read() if record.name == "server 0")
    assert b"SPARE_PUBLISH_FD=3" in Path(f"/proc/{record.identity.pid}/environ").read_bytes()
    cell.down()
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert not is_alive(record.identity)


def test_a_taken_port_is_said_with_its_address(cell: Cell) -> None:
    """Before anything serves half."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        cell.config = cell.load(FILE + f'[[server]]\nid = 0\npublish = "{address}"\n[[server]]\nid = 1\n')
        with pytest.raises(ProcessError, match=f"publish = {address} cannot be opened"):
            cell.up()
