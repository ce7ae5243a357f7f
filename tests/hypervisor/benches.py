"""Every implementation of `Hypervisor` on a bench where a test can define domains, kill them and look at them."""

import asyncio
import atexit
import functools
import heapq
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from replica_manager.hypervisor.domain_process import find_process
from replica_manager.hypervisor.domain_xml import DomainType
from replica_manager.hypervisor.hypervisor import DomainEvent, DomainObservation, DomainSpec, DomainState, Hypervisor
from replica_manager.hypervisor.libvirt_hypervisor import LibvirtHypervisor
from replica_manager.hypervisor.libvirt_session import LibvirtOptions
from replica_manager.hypervisor.subprocess_driver import SubprocessHypervisor
from replica_manager.identifiers import DomainId
from tests.hypervisor.private_libvirtd import private_libvirtd
from tests.hypervisor.tiny_guest import guest_spec, kernel
from tests.simulation.fake_hypervisor import FakeHypervisor

WAIT_TIMEOUT_S = 60.0
"""A busy machine may need long for what takes milliseconds on an idle one."""

CHILD = Path(__file__).with_name("listening_child.py")

NAME_PREFIX = f"bench{os.getpid()}-"
"""A test that kills a process must not find somebody else's."""


@dataclass
class Bench:
    """One implementation, opened, and what a test needs around it."""

    hypervisor: Hypervisor
    open_another: Callable[[], Hypervisor]
    """Another connection to the same hypervisor, as a manager's next process would make it."""
    spec: Callable[[int], DomainSpec]
    """The specification of a generation."""
    kill: Callable[[DomainSpec], None]
    """Kill -9 of the domain's process."""
    has_disk: Callable[[DomainSpec], bool] = lambda spec: spec.disk_path.exists()
    let_time_pass: Callable[[], None] = lambda: None
    """Moves a virtual clock."""
    events: list[DomainEvent] = field(default_factory=list)

    async def running(self, generation: int) -> DomainSpec:
        """Define and start a domain."""
        spec = self.spec(generation)
        await self.hypervisor.define(spec)
        await self.hypervisor.start(spec.domain_id)
        return spec

    async def observed(self, domain_id: DomainId) -> DomainObservation:
        """Look at one domain."""
        return (await self.hypervisor.observe())[domain_id]

    async def state(self, domain_id: DomainId) -> DomainState:
        """Look at one domain's state."""
        return (await self.observed(domain_id)).state

    async def cpu_moves(self, domain_id: DomainId) -> None:
        """Wait until the domain has used CPU time beyond what it has used now."""
        before = (await self.observed(domain_id)).cpu_seconds

        async def has_moved() -> bool:
            return (await self.observed(domain_id)).cpu_seconds > before

        await self.until(has_moved, f"the CPU time of {domain_id} moves")

    async def reported(self, *wanted: DomainState) -> None:
        """Wait until exactly these states were reported, in this order."""

        async def is_there() -> bool:
            return len(self.events) >= len(wanted)

        await self.until(is_there, f"{len(wanted)} events are reported")
        assert [event.state for event in self.events] == list(wanted)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until `condition` holds, looking again and again."""
        deadline_s = time.monotonic() + WAIT_TIMEOUT_S
        while not await condition():
            assert time.monotonic() < deadline_s, f"waited {WAIT_TIMEOUT_S} s until {what}; events: {self.events}"
            self.let_time_pass()
            await asyncio.sleep(0.01)


Implementation = Callable[[], AbstractAsyncContextManager[Bench]]


class JumpingClock:
    """Virtual time that jumps to the next timer whenever the event loop has nothing else to do."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now_s = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Run `callback` at its virtual time, soon in real time."""
        heapq.heappush(self._timers, (self.now_s + delay_s, next(self._count), callback))
        asyncio.get_running_loop().call_soon(self._run_next)

    def advance(self) -> None:
        """Let 50 ms pass."""
        self.now_s += 0.05

    def _run_next(self) -> None:
        due_s, _, callback = heapq.heappop(self._timers)
        self.now_s = max(self.now_s, due_s)
        callback()


@asynccontextmanager
async def fake() -> AsyncIterator[Bench]:
    """The simulator's hypervisor."""
    clock = JumpingClock()
    hypervisor = FakeHypervisor(lambda: clock.now_s, clock.call_later)

    def another() -> FakeHypervisor:
        opened = FakeHypervisor(lambda: clock.now_s, clock.call_later)
        opened.simulated = hypervisor.simulated
        return opened

    def spec(generation: int) -> DomainSpec:
        name, directory = DomainId(f"s0.g{generation}"), Path("/nowhere")
        return DomainSpec(name, "image", directory / f"{name}.sock", directory / name, directory / f"{name}.log")

    bench = Bench(
        hypervisor,
        another,
        spec,
        kill=lambda spec: hypervisor.simulated.vanish(spec.domain_id),
        has_disk=lambda spec: spec.disk_path in hypervisor.simulated.disks,
        let_time_pass=clock.advance,
    )
    await hypervisor.open(bench.events.append)
    yield bench


@asynccontextmanager
async def subprocesses() -> AsyncIterator[Bench]:
    """Domains as child processes."""
    with tempfile.TemporaryDirectory(prefix="spare-hv-") as name:
        directory = Path(name)

        def spec(generation: int) -> DomainSpec:
            return child_spec(directory, generation)

        def another() -> Hypervisor:
            return SubprocessHypervisor(isolation="none")

        bench = Bench(another(), another, spec, kill=lambda spec: kill_process_with(str(spec.channel_path)))
        async with _opened(bench):
            yield bench


def child_spec(directory: Path, generation: int) -> DomainSpec:
    """Return a domain whose process listens on its channel and works a little."""
    name = DomainId(f"s0.g{generation}")
    return DomainSpec(
        domain_id=name,
        image="image",
        channel_path=directory / f"{name}.sock",
        disk_path=directory / "storage" / name,
        console_path=directory / f"{name}.log",
        command=(sys.executable, "-S", "-E", str(CHILD), "{channel}"),
    )


@asynccontextmanager
async def libvirt_test_driver() -> AsyncIterator[Bench]:
    """libvirt's own test driver: states and events without processes."""
    options = LibvirtOptions(uri="test:///default", name_prefix=NAME_PREFIX)
    # It boots nothing, so any file is kernel enough.
    async with _machines(options, _test_type, lambda: CHILD) as bench:
        yield bench


@asynccontextmanager
async def embedded_qemu() -> AsyncIterator[Bench]:
    """QEMU by libvirt's embedded driver."""
    async with _machines(embedded_options(), translated) as bench:
        yield bench


@asynccontextmanager
async def libvirtd_qemu() -> AsyncIterator[Bench]:
    """QEMU by a libvirtd of our own, over its socket."""
    async with _machines(LibvirtOptions(uri=_libvirtd_uri(), name_prefix=NAME_PREFIX), translated) as bench:
        yield bench


@functools.cache
def embedded_options() -> LibvirtOptions:
    """Return the one embedded driver that this process can have."""
    directory = _process_directory()
    return LibvirtOptions(
        embedded_root=directory / "e", capabilities_cache=directory / "capabilities", name_prefix=NAME_PREFIX
    )


@asynccontextmanager
async def _machines(
    options: LibvirtOptions,
    choose_type: Callable[[Path], Awaitable[DomainType]],
    boot_kernel: Callable[[], Path] = kernel,
) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="spare-hv-") as name:
        directory = Path(name)

        def another() -> Hypervisor:
            return LibvirtHypervisor(options, choose_type)

        def kill(spec: DomainSpec) -> None:
            kill_process_with(f"guest={NAME_PREFIX}{spec.domain_id},debug-threads=on")

        bench = Bench(another(), another, lambda generation: guest_spec(directory, generation, boot_kernel()), kill)
        async with _opened(bench):
            yield bench


@asynccontextmanager
async def _opened(bench: Bench) -> AsyncIterator[None]:
    """Open the bench's hypervisor; at the end destroy whatever is left there."""
    await bench.hypervisor.open(bench.events.append)
    try:
        yield
    finally:
        for domain_id in await bench.hypervisor.observe():
            await bench.hypervisor.destroy(domain_id)
        await bench.hypervisor.close()


def kill_process_with(argument: str) -> None:
    """Kill -9 of the process that was started with this argument."""
    pid = find_process(argument)
    assert pid is not None, f"no process was started with {argument}"
    os.kill(pid, signal.SIGKILL)


@functools.cache
def _libvirtd_uri() -> str:
    """Start the one libvirtd of this test process; it ends with the tests."""
    directory = _process_directory() / "d"
    directory.mkdir()
    running = ExitStack()
    uri = running.enter_context(private_libvirtd(directory))
    atexit.register(running.close)
    return uri


@functools.cache
def _process_directory() -> Path:
    # Short: libvirt binds sockets below it.
    directory = Path(tempfile.mkdtemp(prefix="spare-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


async def _test_type(_kernel: Path) -> DomainType:
    return "test"


async def translated(_kernel: Path) -> DomainType:
    """Choose QEMU's own translation, which runs everywhere."""
    return "qemu"
