"""What ends a whole server ends it in good order: its domains, its event file, its exit code."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.loopback_ports import free_port
from replica_manager import event_loop
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.control.cell_up import issue_keys
from replica_manager.wiring import run_server

pytestmark = pytest.mark.slow
PATIENCE_S = 60.0

TEMPLATE = """[cell]
name = "failing"
f = 1
network = "loopback"
state_dir = "cell"
runtime_dir = "{directory}/run"

[hypervisor]
driver = "subprocess"
isolation = "none"

[service]
command = ["{python}", "-P", "-m", "exec_wrapper", "--link", "unix:{{channel}}", "{adapter}"]
"""


def make_config(directory: Path, adapter: str) -> Config:
    file = directory / "cell.toml"
    text = TEMPLATE.format(directory=directory, python=sys.executable, adapter=adapter)
    for server in range(2):
        text += f'\n[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
        text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
    file.write_text(f'{text}\n[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n')
    config = load(file)
    issue_keys(config, CellPaths.of(config).keys)
    return config


def events_of(config: Config) -> list[tuple[str, dict[str, object]]]:
    file = CellPaths.of(config).event_file(0)
    if not file.exists():
        return []
    events = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    return [(event["kind"], event["data"]) for event in events]


def break_an_invariant() -> None:
    raise AssertionError("planted by the test")


def send_sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


async def run_until(config: Config, awaited: str, act: Callable[[], None]) -> int:
    """Run server 0; let `act` happen in its loop once it has recorded `awaited`; return its exit code."""

    async def watch() -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while awaited not in [kind for kind, _ in events_of(config)]:
            assert time.monotonic() < deadline_s, events_of(config)
            await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_soon(act)

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(PATIENCE_S):
        exit_code = await run_server(config, 0, is_born=True)
    await watching
    return exit_code


@pytest.mark.parametrize("awaited", ["manager_started", "intake_open"])
def test_a_broken_invariant_ends_the_server_also_while_it_boots(
    tmp_path: Path, awaited: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """By name, with exit code 1 and a traceback in the log; its domains end with it."""
    config = make_config(tmp_path, "exec_wrapper.examples.key_value")
    assert event_loop.run(run_until(config, awaited, break_an_invariant)) == 1
    kinds = [kind for kind, _ in events_of(config)]
    assert kinds[-2:] == ["internal_error", "manager_stopping"]
    assert "planted by the test" in str(events_of(config)[-1])
    assert "break_an_invariant" in capfd.readouterr().err
    assert domain_processes(tmp_path) == []


@pytest.fixture
def interrupting_sigterm() -> Iterator[None]:
    """SIGTERM as commands of `spare` have it until a server takes it over."""

    def interrupt(_number: int, _frame: object) -> None:
        raise InterruptedError("a signal interrupted whatever ran")

    former = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, former)


@pytest.mark.usefixtures("interrupting_sigterm")
@pytest.mark.parametrize("awaited", ["manager_started", "intake_open"])
def test_a_signal_ends_the_server_also_while_it_boots(tmp_path: Path, awaited: str) -> None:
    """By name, with exit code 0, and at once: it interrupts no callback, which would look like a failure of it."""
    config = make_config(tmp_path, "exec_wrapper.examples.key_value")
    assert event_loop.run(run_until(config, awaited, send_sigterm)) == 0
    assert events_of(config)[-1] == ("manager_stopping", {"reason": "signal SIGTERM"})
    assert "internal_error" not in [kind for kind, _ in events_of(config)]
    assert domain_processes(tmp_path) == []


def domain_processes(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            found += [command] if str(directory) in command else []
    return found
