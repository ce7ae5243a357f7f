"""Domains as child processes: what is special about them beside the contract."""

import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from replica_manager.hypervisor.console import CONSOLE_BYTES_MAX
from replica_manager.hypervisor.domain_process import find_process
from replica_manager.hypervisor.hypervisor import DomainEvent, DomainRefused, DomainState, HypervisorError
from replica_manager.hypervisor.subprocess_driver import SubprocessHypervisor, is_listening
from tests.hypervisor.benches import Bench, child_spec, subprocesses

WAIT_TIMEOUT_S = 60.0

MANAGER = """
import asyncio, sys, time
from pathlib import Path
from replica_manager.hypervisor.subprocess_driver import SubprocessHypervisor
from tests.hypervisor.benches import child_spec

async def main():
    hypervisor = SubprocessHypervisor(isolation="none")
    await hypervisor.open(lambda event: None)
    for generation in (1, 2):
        spec = child_spec(Path(sys.argv[1]), generation)
        await hypervisor.define(spec)
        await hypervisor.start(spec.domain_id)
    await hypervisor.suspend(spec.domain_id)
    print("started", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def on_bench(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scenario with child processes."""

    async def run() -> None:
        async with subprocesses() as bench:
            await scenario(bench)

    asyncio.run(run())


def test_no_isolation_must_be_said() -> None:
    """Whoever runs domains as child processes has to know what they give up."""
    with pytest.raises(DomainRefused, match=r'isolation = "none"'):
        SubprocessHypervisor(isolation="vm")


def test_no_domain_outlives_a_killed_manager(tmp_path: Path) -> None:
    """After `kill -9` of the manager its children are gone, suspended ones too."""
    with subprocess.Popen([sys.executable, "-c", MANAGER, str(tmp_path)], stdout=subprocess.PIPE) as manager:
        assert manager.stdout is not None
        assert manager.stdout.readline() == b"started\n"
        channels = [str(child_spec(tmp_path, generation).channel_path) for generation in (1, 2)]
        assert all(find_process(channel) for channel in channels)
        manager.kill()
        manager.wait()
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while any(find_process(channel) for channel in channels):
        assert time.monotonic() < deadline_s, "a domain outlived its manager"
        time.sleep(0.01)


def test_a_command_that_fails_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """The operator reads what the wrapper said, not that a socket is missing."""

    async def scenario(bench: Bench) -> None:
        failing = ("sh", "-c", "echo first; echo the database is not there. >&2; exit 4", "sh", "{channel}")
        spec = dataclasses.replace(bench.spec(1), command=failing)
        await bench.hypervisor.define(spec)
        with pytest.raises(HypervisorError, match=r"exit status 4\): the database is not there\.$"):
            await bench.hypervisor.start(spec.domain_id)
        assert await bench.state(spec.domain_id) is DomainState.STOPPED
        await bench.reported(DomainState.RUNNING, DomainState.STOPPED)
        assert bench.events[-1].reason == "exit status 4"

    on_bench(scenario)


def test_a_program_that_is_not_there_is_named() -> None:
    """The same for a mistake in the configuration."""

    async def scenario(bench: Bench) -> None:
        spec = dataclasses.replace(bench.spec(1), command=("no-such-program", "{channel}"))
        await bench.hypervisor.define(spec)
        with pytest.raises(HypervisorError, match="no-such-program"):
            await bench.hypervisor.start(spec.domain_id)

    on_bench(scenario)


def test_a_domain_without_a_command_is_refused() -> None:
    """A specification of a virtual machine is no child process."""

    async def scenario(bench: Bench) -> None:
        with pytest.raises(DomainRefused, match="command"):
            await bench.hypervisor.define(dataclasses.replace(bench.spec(1), command=()))

    on_bench(scenario)


def test_a_command_hears_where_and_who_it_is() -> None:
    """Placeholders are filled in; the working directory is the domain's own; the environment is extended."""

    async def scenario(bench: Bench) -> None:
        saying = (
            "sh",
            "-c",
            'echo "$1|$2|$3|$4|$PWD|$WORD"; sleep 600',
            "sh",
            "{channel}",
            "{disk}",
            "{image}",
            "{domain}",
        )
        spec = dataclasses.replace(bench.spec(1), command=saying, environment={"WORD": "said"})
        await bench.hypervisor.define(spec)
        starting = asyncio.ensure_future(bench.hypervisor.start(spec.domain_id))

        async def has_spoken() -> bool:
            return spec.console_path.exists() and spec.console_path.read_text().endswith("\n")

        await bench.until(has_spoken, "the domain says who it is")
        assert spec.console_path.read_text().strip().split("|") == [
            str(spec.channel_path),
            str(spec.disk_path),
            "image",
            "s0.g1",
            str(spec.disk_path),
            "said",
        ]
        starting.cancel()

    on_bench(scenario)


def test_a_fresh_domain_does_not_inherit_an_old_directory() -> None:
    """Only a restart says that what is there is still wanted."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        for reuse_disk in (True, False):
            spec.disk_path.mkdir(parents=True, exist_ok=True)
            (spec.disk_path / "state").write_text("old")
            await bench.hypervisor.define(dataclasses.replace(spec, reuse_disk=reuse_disk))
            assert (spec.disk_path / "state").exists() is reuse_disk
            await bench.hypervisor.destroy(spec.domain_id)

    on_bench(scenario)


def test_suspending_stops_a_service_with_its_wrapper() -> None:
    """The whole process group sleeps, and ends with its leader."""
    mark = f"{700 + os.getpid() / 1e7:.7f}"

    async def scenario(bench: Bench) -> None:
        spec = dataclasses.replace(bench.spec(1), command=("sh", "-c", f"sleep {mark} & wait"))
        await bench.hypervisor.define(spec)
        await bench.hypervisor.start(spec.domain_id)

        async def service_runs() -> bool:
            return find_process(mark) is not None

        await bench.until(service_runs, "the service has started")
        service = find_process(mark)
        await bench.hypervisor.suspend(spec.domain_id)

        async def service_sleeps() -> bool:
            return Path(f"/proc/{service}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        await bench.until(service_sleeps, "the service is stopped too")
        await bench.hypervisor.destroy(spec.domain_id)

        async def service_is_gone() -> bool:
            return find_process(mark) is None

        await bench.until(service_is_gone, "the service has ended too")

    on_bench(scenario)


def test_a_flooded_console_is_cut() -> None:
    """A domain that prints for ever does not fill the disk."""

    async def scenario(bench: Bench) -> None:
        spec = dataclasses.replace(bench.spec(1), command=("yes", "spare" * 1000))
        await bench.hypervisor.define(spec)
        await bench.hypervisor.start(spec.domain_id)
        sizes = [0]

        async def was_cut() -> bool:
            await bench.hypervisor.observe()
            sizes.append(spec.console_path.stat().st_size)
            return sizes[-1] < sizes[-2] and max(sizes) > CONSOLE_BYTES_MAX / 2

        await bench.until(was_cut, "the console was cut")

    on_bench(scenario)


def test_only_a_listening_socket_counts(tmp_path: Path) -> None:
    """A socket that is bound but does not listen refuses connections."""

    path = tmp_path / "a socket with blanks"
    assert not is_listening(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert not is_listening(path)
        bound.listen()
        assert is_listening(path)
    assert not is_listening(path)


def test_events_are_not_lost_when_a_domain_ends_by_itself() -> None:
    """The end of a wrapper is reported with its exit status, without anybody asking."""

    async def scenario(bench: Bench) -> None:
        spec = dataclasses.replace(bench.spec(1), command=("sh", "-c", "exit 9"))
        await bench.hypervisor.define(spec)
        await bench.hypervisor.start(spec.domain_id)
        await bench.reported(DomainState.RUNNING, DomainState.STOPPED)
        event: DomainEvent = bench.events[-1]
        assert (event.domain_id, event.reason) == (spec.domain_id, "exit status 9")

    on_bench(scenario)


def test_a_killed_domain_says_which_signal_it_was() -> None:
    """Whoever looks for the reason at night reads the signal's name."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        pid = find_process(str(spec.channel_path))
        assert pid is not None
        os.kill(pid, signal.SIGSEGV)
        await bench.reported(DomainState.RUNNING, DomainState.STOPPED)
        assert bench.events[-1].reason == "killed by SIGSEGV"

    on_bench(scenario)
