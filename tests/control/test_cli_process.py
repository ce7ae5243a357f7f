"""The command line as processes: signals, pipes, and a real cell from start to end."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.loopback_ports import free_port
from replica_manager.cell_paths import CellPaths
from replica_manager.config_check import load
from replica_manager.control.leftovers import find_marked
from replica_manager.control.process_records import ProcessRecords
from tests.control.conftest import LoopThread
from tests.control.fake_cell import FakeCell

SPARE = [sys.executable, "-m", "replica_manager"]
TIMEOUT_S = 120.0
CELL = """\
[cell]
name = "{name}"
network = "{network}"
state_dir = "state"
runtime_dir = "run"
restart = "{restart}"
[service]
command = ["{python}", "-m", "exec_wrapper", "--link", "unix:{{channel}}", "exec_wrapper.examples.key_value"]
[hypervisor]
driver = "subprocess"
isolation = "none"
"""


def start(*words: str, **environment: str) -> "subprocess.Popen[str]":
    """Start `spare` with `words`, its outputs in pipes, as leader of a process group as a shell does."""
    return subprocess.Popen(
        [*SPARE, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        process_group=0,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the end; return exit code and outputs."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def run(*words: str) -> tuple[int, str, str]:
    """Run `spare` with `words`."""
    return finish(start(*words))


@pytest.fixture
def fake_cell(tmp_path: Path, loop_thread: LoopThread) -> Iterator[FakeCell]:
    """A cell of two fake servers."""
    it = FakeCell(tmp_path, loop_thread)
    yield it
    it.close()


def cell_file(directory: Path, network: str, name: str, restart: str = "always") -> Path:
    """Write the configuration of a key-value cell; on loopback with ports of its own."""
    text = CELL.format(name=name, network=network, python=sys.executable, restart=restart)
    if network == "loopback":
        for number in (0, 1):
            text += f"[[server]]\nid = {number}\n"
            for key in ("public_address", "private_address", "admin_address"):
                text += f'{key} = "127.0.0.1:{free_port()}"\n'
        text += f'[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'
    file = directory / "spare.toml"
    file.write_text(text)
    return file


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory whose sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        yield Path(directory)


def test_help_costs_little() -> None:
    """At most 150 ms of CPU in the best of five; the clock on the wall depends on everybody else."""
    costs_s = []
    for _ in range(5):
        before = os.times()
        assert run("--help")[0] == 0
        after = os.times()
        costs_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(costs_s) < 0.15


@pytest.mark.parametrize("words", [("events", "-f"), ("status", "-w", "0.1", "-o", "json")])
def test_ctrl_c_ends_watching_without_a_word(fake_cell: FakeCell, words: tuple[str, ...]) -> None:
    """That is how it ends; exit code 0, no traceback."""
    fake_cell.servers[0].log.record("tick")
    process = start("-c", str(fake_cell.file), *words)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert (code, err) == (0, "")


def test_followed_events_come_as_they_happen(fake_cell: FakeCell) -> None:
    """From every server, and the stream ends when all servers have."""
    process = start("-c", str(fake_cell.file), "events", "-f", "-o", "json")
    fake_cell.servers[0].log.record("first")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["kind"] == "first"
    second = fake_cell.servers[1]
    fake_cell.loop.loop.call_soon_threadsafe(lambda: second.log.record("second", text="two"))
    assert json.loads(process.stdout.readline())["text"] == "two"
    fake_cell.close()
    assert finish(process)[0] == 0


def test_a_reader_that_has_seen_enough_is_no_error(fake_cell: FakeCell) -> None:
    """`spare status -w -o json | head -1`."""
    process = start("-c", str(fake_cell.file), "status", "-w", "0.1", "-o", "json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["schema"] == 1
    process.stdout.close()
    assert process.wait(timeout=TIMEOUT_S) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.slow
def test_a_cell_lives_from_check_to_purge(short_directory: Path) -> None:
    """Real servers, a real witness, key-value domains as child processes; no privileges needed."""
    file = str(cell_file(short_directory, "loopback", "life"))
    assert run("cell", "check", "-c", file)[0] == 0
    code, _, err = run("cell", "up", "-c", file)
    assert code == 0, err
    try:
        status = json.loads(run("status", "-c", file, "-o", "json")[1])
        assert status["state"] == "serving"
        assert [row["role"] for row in status["domains"]] == ["active", "passive", "active", "passive"]
        code, out, err = run("checkpoint", "-c", file, "-o", "json")
        assert code == 0, err
        assert len(json.loads(out)["digests"]) == 4
        assert run("explain", "1", "-c", file)[0] == 0
        assert "manager_started" in run("events", "-c", file)[1]
        assert "already runs" in run("cell", "up", "-c", file)[2]
    finally:
        code, _, err = run("cell", "down", "-c", file)
    assert code == 0, err
    assert run("status", "-c", file)[0] == 4
    paths = CellPaths.of(load(Path(file)))
    assert list(find_marked(paths)) == []
    assert run("cell", "down", "-c", file, "--purge", "--yes")[0] == 0
    assert sorted(path.name for path in short_directory.iterdir()) == ["spare.toml"]


@pytest.mark.slow
def test_ctrl_c_while_a_cell_starts_leaves_nothing(short_directory: Path) -> None:
    """The first progress line of a member is the moment."""
    file = cell_file(short_directory, "loopback", "stop")
    process = start("cell", "up", "-c", str(file))
    assert process.stderr is not None
    while "server 1: process" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "Traceback" not in err
    paths = CellPaths.of(load(file))
    assert list(find_marked(paths)) == []
    assert not paths.runtime_dir.exists()


@pytest.mark.netns
@pytest.mark.slow
def test_a_cell_of_namespaces_is_gone_after_kill_9_and_down(short_directory: Path) -> None:
    """Processes, namespaces and runtime files are the same before and after."""
    name = f"k{os.getpid()}"
    file = cell_file(short_directory, "namespaces", name, "never")
    before = sorted(path.name for path in Path("/run/netns").glob("*"))
    code, _, err = run("cell", "up", "-c", str(file))
    paths = CellPaths.of(load(file))
    try:
        assert code == 0, err
        assert any(name in path.name for path in Path("/run/netns").glob("*"))
        for record in ProcessRecords(paths.processes).read():
            os.kill(record.identity.pid, signal.SIGKILL)
    finally:
        code, _, err = run("cell", "down", "-c", str(file))
    assert code == 0, err
    assert sorted(path.name for path in Path("/run/netns").glob("*")) == before
    assert list(find_marked(paths)) == []
    assert not paths.runtime_dir.exists()


def test_a_terminal_is_asked_before_data_is_deleted(fake_cell: FakeCell) -> None:
    """The plan first; anything but yes does nothing."""
    fake_cell.close()
    fake_cell.paths.state_dir.mkdir(exist_ok=True)
    (fake_cell.paths.state_dir / ".spare-cell").touch()
    for answer, code, is_kept in ((b"n\n", 2, True), (b"y\n", 0, False)):
        leader, follower = os.openpty()
        process = subprocess.Popen(
            [*SPARE, "cell", "down", "--purge", "-c", str(fake_cell.file)], stdin=follower, stderr=subprocess.PIPE
        )
        os.close(follower)
        os.write(leader, answer)
        _, err = process.communicate(timeout=TIMEOUT_S)
        os.close(leader)
        assert process.returncode == code
        assert f"delete {fake_cell.paths.state_dir}" in err.decode()
        assert fake_cell.paths.state_dir.exists() is is_kept


def rest_of(leader: int) -> bytes:
    """Read a terminal until its last user has ended, which is an error of its own there."""
    seen = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(leader, 65536):
            seen += chunk
    return seen


def test_watching_on_a_terminal_redraws_in_place(fake_cell: FakeCell) -> None:
    """With the alternate screen, which is left again at Ctrl-C."""
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [*SPARE, "status", "-w", "0.2", "-c", str(fake_cell.file)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"},
    )
    os.close(follower)
    seen = b""
    deadline_s = time.monotonic() + TIMEOUT_S
    while seen.count(b"cell shop") < 2 and time.monotonic() < deadline_s:
        if select.select([leader], [], [], 1.0)[0]:
            seen += os.read(leader, 65536)
    process.send_signal(signal.SIGINT)
    seen += rest_of(leader)
    assert process.wait(timeout=TIMEOUT_S) == 0
    os.close(leader)
    assert seen.count(b"cell shop") >= 2
    assert b"\x1b[?1049h" in seen
    assert b"\x1b[?1049l" in seen
