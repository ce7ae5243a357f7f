"""Real machines through libvirt: what is special about them beside the contract."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from replica_manager.hypervisor.console import CONSOLE_BYTES_MAX
from replica_manager.hypervisor.domain_process import find_process
from replica_manager.hypervisor.embedded_root import reap_probes
from replica_manager.hypervisor.hypervisor import DomainEvent, DomainState, HypervisorError, HypervisorUnavailable
from replica_manager.hypervisor.libvirt_hypervisor import LibvirtHypervisor
from replica_manager.hypervisor.libvirt_session import LibvirtOptions
from replica_manager.hypervisor.probe_guest import PROBE_MARK, stopping_guest
from tests.hypervisor.benches import NAME_PREFIX, Bench, embedded_qemu, translated
from tests.hypervisor.private_libvirtd import private_libvirtd
from tests.hypervisor.tiny_guest import guest_spec, kernel

pytestmark = pytest.mark.vm

WAIT_TIMEOUT_S = 120.0

MANAGER = Path(__file__).with_name("embedding_process.py")


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory below which sockets can be bound."""
    with tempfile.TemporaryDirectory(prefix="spare-") as name:
        yield Path(name)
        while (pid := _machine_below(Path(name))) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def reaped_orphans() -> Iterator[None]:
    """Reap the machines of killed managers: this process may be the one that inherits them."""
    is_over = threading.Event()

    def reap() -> None:
        while not is_over.wait(0.02):
            reap_probes()

    reaper = threading.Thread(target=reap)
    reaper.start()
    yield
    is_over.set()
    reaper.join()


def on_bench(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scenario with embedded QEMU."""

    async def run() -> None:
        async with embedded_qemu() as bench:
            await scenario(bench)

    asyncio.run(run())


def test_a_suspended_machine_uses_no_cpu_time_and_its_guest_stands_still() -> None:
    """SPARE §4.3.2: while it is suspended libvirt reports it so, and neither processor nor guest moves."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)

        async def guest_works() -> bool:
            return spec.console_path.exists() and PROBE_MARK in spec.console_path.read_bytes()

        await bench.until(guest_works, "the guest's program runs")
        await bench.cpu_moves(spec.domain_id)
        await bench.hypervisor.suspend(spec.domain_id)
        pid = find_process(f"guest={NAME_PREFIX}{spec.domain_id},debug-threads=on")
        assert pid is not None
        before_s, began_s = (await bench.observed(spec.domain_id)).cpu_seconds, time.monotonic()

        async def a_second_passed() -> bool:
            assert await bench.state(spec.domain_id) is DomainState.SUSPENDED
            return time.monotonic() - began_s > 1.0

        await bench.until(a_second_passed, "a second passes")
        used_s = (await bench.observed(spec.domain_id)).cpu_seconds - before_s
        assert used_s <= 0.011, f"a suspended machine used {used_s} s of CPU in a second"
        await bench.hypervisor.resume(spec.domain_id)
        await bench.cpu_moves(spec.domain_id)

    on_bench(scenario)


def test_a_guest_that_ends_by_itself_is_reported_stopped() -> None:
    """A guest that restarts is not booted again behind the manager's back."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        assert spec.initrd is not None
        initrd = spec.initrd.with_name("stopping.cpio")
        initrd.write_bytes(stopping_guest())
        spec = dataclasses.replace(spec, initrd=initrd)
        await bench.hypervisor.define(spec)
        await bench.hypervisor.start(spec.domain_id)
        await bench.reported(DomainState.RUNNING, DomainState.STOPPED)
        assert PROBE_MARK in spec.console_path.read_bytes()
        assert bench.events[-1].reason != "destroyed"
        assert await bench.state(spec.domain_id) is DomainState.STOPPED
        assert (await bench.observed(spec.domain_id)).cpu_seconds > 0

    on_bench(scenario)


def test_a_background_machine_has_a_lower_priority_in_every_thread() -> None:
    """Without control groups the weight becomes a nice level: a quarter is six levels."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        await bench.hypervisor.set_cpu_weight(spec.domain_id, 0.25)
        await bench.hypervisor.start(spec.domain_id)
        pid = find_process(f"guest={NAME_PREFIX}{spec.domain_id},debug-threads=on")
        assert pid is not None
        for weight, nice in ((0.25, 6), (1.0, 0)):
            await bench.hypervisor.set_cpu_weight(spec.domain_id, weight)
            threads = os.listdir(f"/proc/{pid}/task")
            assert {os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in threads} == {nice}

    on_bench(scenario)


def test_a_flooded_console_is_cut_and_written_on() -> None:
    """The guest is not disturbed by it."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        spec.console_path.parent.mkdir(parents=True)
        spec.console_path.write_bytes(bytes(CONSOLE_BYTES_MAX + 1))
        await bench.hypervisor.define(spec)
        await bench.hypervisor.start(spec.domain_id)
        await bench.hypervisor.observe()

        async def writes_on() -> bool:
            return PROBE_MARK in spec.console_path.read_bytes()

        await bench.until(writes_on, "the guest prints its mark")
        assert spec.console_path.stat().st_size < CONSOLE_BYTES_MAX

    on_bench(scenario)


def test_a_machine_that_cannot_start_is_an_error_in_one_sentence() -> None:
    """libvirt's words are in it, the domain stays defined, and a second attempt is possible."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        spec.channel_path.mkdir()
        with pytest.raises(HypervisorError, match=spec.domain_id):
            await bench.hypervisor.start(spec.domain_id)
        assert await bench.state(spec.domain_id) is DomainState.DEFINED
        spec.channel_path.rmdir()
        await bench.hypervisor.start(spec.domain_id)
        assert await bench.state(spec.domain_id) is DomainState.RUNNING

    on_bench(scenario)


@pytest.mark.usefixtures("reaped_orphans")
def test_machines_outlive_a_killed_manager_and_are_taken_over(short_directory: Path) -> None:
    """`kill -9` of a manager leaves its machines running; the next process of the same root finds and ends them."""
    kernel()
    with _manager(short_directory, "start") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        first.kill()
    assert _machine_below(short_directory) is not None, "the machine ended with its manager"
    with _manager(short_directory, "destroy") as second:
        assert second.stdout is not None
        lines = second.stdout.read().splitlines()
        assert second.wait() == 0
    assert lines == ["s0.g1 running", "destroyed"]
    assert _machine_below(short_directory) is None
    assert not (short_directory / "storage/g1.qcow2").exists()


@pytest.mark.usefixtures("reaped_orphans")
def test_one_directory_serves_one_process(short_directory: Path) -> None:
    """A second manager of the same server is refused, in words that say what is wrong."""
    kernel()
    with _manager(short_directory, "start") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        with _manager(short_directory, "destroy") as second:
            assert second.stdout is not None
            assert "another process uses this hypervisor directory" in second.stdout.read()
        first.kill()
    with _manager(short_directory, "destroy") as third:
        assert third.wait() == 0


def test_a_lost_libvirtd_is_an_operating_error_and_comes_back(short_directory: Path) -> None:
    """While it is away every call says so; when it is back the lives that ended meanwhile are reported."""
    options = LibvirtOptions(uri=f"qemu+unix:///system?socket={short_directory}/d/sock/libvirt-sock")

    async def scenario() -> None:
        hypervisor, events = LibvirtHypervisor(options, translated), list[DomainEvent]()
        with pytest.raises(HypervisorUnavailable, match="is libvirtd running"):
            await hypervisor.open(events.append)
        with private_libvirtd(short_directory / "d"):
            await hypervisor.open(events.append)
            spec = guest_spec(short_directory, 1, kernel())
            await hypervisor.define(spec)
            await hypervisor.start(spec.domain_id)
        await _until(lambda: [event.state for event in events][-1:] == [DomainState.STOPPED])
        with pytest.raises(HypervisorUnavailable):
            await hypervisor.start(spec.domain_id)
        (short_directory / "d").rename(short_directory / "old")
        with private_libvirtd(short_directory / "d", short_directory / "old/cache/qemu/capabilities"):
            await hypervisor.start(spec.domain_id)
            assert (await hypervisor.observe())[spec.domain_id].state is DomainState.RUNNING
            await hypervisor.destroy(spec.domain_id)
        await hypervisor.close()

    asyncio.run(scenario())


def test_a_driver_that_is_not_there_is_named() -> None:
    """An impossible URI is an operating error, not a traceback."""

    async def scenario() -> None:
        with pytest.raises(HypervisorUnavailable, match="nonsense:///x"):
            await LibvirtHypervisor(LibvirtOptions(uri="nonsense:///x"), translated).open(lambda _: None)

    asyncio.run(scenario())


def _manager(directory: Path, action: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(MANAGER), str(directory), action]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _machine_below(directory: Path) -> int | None:
    """Return a QEMU with files below `directory`."""
    mark = f"{directory}/".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"qemu-system-x86_64") and any(mark in word for word in arguments):
            return int(path.parent.name)
    return None


async def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
