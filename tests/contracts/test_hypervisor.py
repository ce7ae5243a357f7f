"""The contract of `Hypervisor`, run against every implementation and the simulator's fake."""

import asyncio
import dataclasses
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from replica_manager.hypervisor.hypervisor import (
    DomainNotRunning,
    DomainRefused,
    DomainState,
    UnknownDomain,
)
from replica_manager.identifiers import DomainId
from tests.hypervisor.benches import (
    Bench,
    Implementation,
    embedded_qemu,
    fake,
    libvirt_test_driver,
    libvirtd_qemu,
    subprocesses,
)

DEFINED, RUNNING, SUSPENDED, STOPPED = (
    DomainState.DEFINED,
    DomainState.RUNNING,
    DomainState.SUSPENDED,
    DomainState.STOPPED,
)

FAKE = pytest.param(fake, id="fake")
SUBPROCESS = pytest.param(subprocesses, id="subprocess")
TEST_DRIVER = pytest.param(libvirt_test_driver, id="test-driver")
EMBEDDED = pytest.param(embedded_qemu, id="embedded-qemu", marks=pytest.mark.vm)
LIBVIRTD = pytest.param(libvirtd_qemu, id="libvirtd-qemu", marks=pytest.mark.vm)

every = pytest.mark.parametrize("implementation", [FAKE, SUBPROCESS, TEST_DRIVER, EMBEDDED, LIBVIRTD])
every_with_processes = pytest.mark.parametrize("implementation", [FAKE, SUBPROCESS, EMBEDDED, LIBVIRTD])
"""The test driver has no processes: nothing to kill, and its CPU time is the wall clock."""
every_with_channels = pytest.mark.parametrize("implementation", [SUBPROCESS, EMBEDDED, LIBVIRTD])
every_that_outlives_us = pytest.mark.parametrize("implementation", [FAKE, EMBEDDED, LIBVIRTD])
"""Child processes end with their manager, domains of the test driver with their connection."""

KILL_NOTICED_S = 2.0

Scenario = Callable[[Bench], Awaitable[None]]


def run(implementation: Implementation, scenario: Scenario) -> None:
    """Run a scenario on a fresh bench."""

    async def on_bench() -> None:
        async with implementation() as bench:
            await scenario(bench)

    asyncio.run(on_bench())


@every
def test_a_defined_domain_has_a_disk_and_does_not_run(implementation: Implementation) -> None:
    """`define` creates the disk; defining the same again changes nothing."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        await bench.hypervisor.define(spec)
        assert bench.has_disk(spec)
        assert await bench.state(spec.domain_id) is DEFINED
        assert bench.events == []

    run(implementation, scenario)


@every
def test_another_specification_under_a_known_id_is_refused(implementation: Implementation) -> None:
    """Domain ids are never reused; the first specification stays."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        with pytest.raises(DomainRefused, match=spec.domain_id):
            await bench.hypervisor.define(dataclasses.replace(spec, image="another"))
        await bench.hypervisor.define(spec)

    run(implementation, scenario)


@every
def test_a_channel_path_of_more_than_107_bytes_is_refused(implementation: Implementation) -> None:
    """No socket can be bound to it; the sentence names the limit, and nothing is left of the attempt."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        too_long = spec.channel_path.with_name("x" * (108 - len(bytes(spec.channel_path.parent)) - 1))
        assert len(bytes(too_long)) == 108
        with pytest.raises(DomainRefused, match="107"):
            await bench.hypervisor.define(dataclasses.replace(spec, channel_path=too_long))
        assert spec.domain_id not in await bench.hypervisor.observe()
        longest = spec.channel_path.with_name(too_long.name[:-1])
        await bench.hypervisor.define(dataclasses.replace(spec, channel_path=longest))

    run(implementation, scenario)


@every
def test_an_unknown_domain_is_the_callers_mistake(implementation: Implementation) -> None:
    """Except for `destroy`: that it is not there is what was asked for."""

    async def scenario(bench: Bench) -> None:
        nobody = DomainId("s0.g77")
        hypervisor = bench.hypervisor
        for operation in (hypervisor.start, hypervisor.suspend, hypervisor.resume):
            with pytest.raises(UnknownDomain, match=nobody):
                await operation(nobody)
        with pytest.raises(UnknownDomain, match=nobody):
            await hypervisor.set_cpu_weight(nobody, 0.5)
        await hypervisor.destroy(nobody)
        assert nobody not in await hypervisor.observe()

    run(implementation, scenario)


@every
def test_asking_again_for_the_state_that_is_there_does_nothing(implementation: Implementation) -> None:
    """`start`, `suspend` and `resume` are idempotent, and each change is reported once."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        await bench.hypervisor.start(spec.domain_id)
        await bench.hypervisor.resume(spec.domain_id)
        assert await bench.state(spec.domain_id) is RUNNING
        for _ in range(2):
            await bench.hypervisor.suspend(spec.domain_id)
            assert await bench.state(spec.domain_id) is SUSPENDED
        for _ in range(2):
            await bench.hypervisor.resume(spec.domain_id)
            assert await bench.state(spec.domain_id) is RUNNING
        await bench.reported(RUNNING, SUSPENDED, RUNNING)

    run(implementation, scenario)


@every
def test_a_domain_that_does_not_run_cannot_be_suspended_or_resumed(implementation: Implementation) -> None:
    """Neither before its start nor after its end is there anything to suspend."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        for operation in (bench.hypervisor.suspend, bench.hypervisor.resume):
            with pytest.raises(DomainNotRunning, match=spec.domain_id):
                await operation(spec.domain_id)

    run(implementation, scenario)


@every_with_channels
def test_the_channel_can_be_connected_as_soon_as_start_returns(implementation: Implementation) -> None:
    """A connection is accepted at once, long before the guest has booted."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(spec.channel_path))

    run(implementation, scenario)


@every_with_processes
def test_a_suspended_domain_uses_no_cpu_time(implementation: Implementation) -> None:
    """SPARE §4.3.2: a passive domain in resource-saving mode costs no CPU; resumed, it goes on where it was."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        other = await bench.running(2)
        await bench.cpu_moves(spec.domain_id)
        await bench.hypervisor.suspend(spec.domain_id)
        before = await bench.observed(spec.domain_id)
        for _ in range(5):
            await bench.cpu_moves(other.domain_id)
        after = await bench.observed(spec.domain_id)
        assert (before.state, after.state) == (SUSPENDED, SUSPENDED)
        # One tick of the clock, 10 ms, may have been counted late.
        assert after.cpu_seconds - before.cpu_seconds <= 0.011
        await bench.hypervisor.resume(spec.domain_id)
        await bench.cpu_moves(spec.domain_id)

    run(implementation, scenario)


@every
def test_a_destroyed_domain_is_gone_with_its_disk(implementation: Implementation) -> None:
    """`destroy` ends it at once, whatever it does; again it does nothing."""

    async def scenario(bench: Bench) -> None:
        running, suspended, defined = await bench.running(1), await bench.running(2), bench.spec(3)
        await bench.hypervisor.suspend(suspended.domain_id)
        await bench.hypervisor.define(defined)
        for spec in (running, suspended, defined):
            await bench.hypervisor.destroy(spec.domain_id)
            await bench.hypervisor.destroy(spec.domain_id)
            assert not bench.has_disk(spec)
            assert not spec.channel_path.exists()
        assert await bench.hypervisor.observe() == {}
        with pytest.raises(UnknownDomain):
            await bench.hypervisor.start(running.domain_id)

    run(implementation, scenario)


@every
def test_a_kept_disk_outlives_its_domain(implementation: Implementation) -> None:
    """For forensics: `keep_disk` keeps what a convicted domain has written."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        await bench.hypervisor.destroy(spec.domain_id, keep_disk=True)
        assert bench.has_disk(spec)
        assert await bench.hypervisor.observe() == {}

    run(implementation, scenario)


@every_with_processes
def test_a_killed_domain_is_reported_within_two_seconds(implementation: Implementation) -> None:
    """The hosting server knows of the end of a domain without waiting for a missing vote."""

    async def scenario(bench: Bench) -> None:
        running, suspended = await bench.running(1), await bench.running(2)
        await bench.hypervisor.suspend(suspended.domain_id)
        await bench.reported(RUNNING, RUNNING, SUSPENDED)
        for spec in (running, suspended):
            bench.events.clear()
            killed_s = time.monotonic()
            bench.kill(spec)
            await bench.reported(STOPPED)
            assert time.monotonic() - killed_s < KILL_NOTICED_S
            assert bench.events[0].domain_id == spec.domain_id
            assert bench.events[0].reason != "destroyed"
            assert await bench.state(spec.domain_id) is STOPPED
            with pytest.raises(DomainNotRunning):
                await bench.hypervisor.suspend(spec.domain_id)

    run(implementation, scenario)


@every_with_processes
def test_a_killed_domain_starts_again_from_its_own_disk(implementation: Implementation) -> None:
    """A cell restart boots every domain from its own disk (design 5.1)."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        bench.kill(spec)
        await bench.reported(RUNNING, STOPPED)
        assert bench.has_disk(spec)
        await bench.hypervisor.start(spec.domain_id)
        assert await bench.state(spec.domain_id) is RUNNING
        await bench.cpu_moves(spec.domain_id)

    run(implementation, scenario)


@every
def test_events_come_in_order_and_once(implementation: Implementation) -> None:
    """Whoever adds up suspended seconds from events gets the truth; only an asked-for end is called `destroyed`."""

    async def scenario(bench: Bench) -> None:
        spec = await bench.running(1)
        for _ in range(3):
            await bench.hypervisor.suspend(spec.domain_id)
            await bench.hypervisor.resume(spec.domain_id)
        await bench.hypervisor.suspend(spec.domain_id)
        await bench.hypervisor.destroy(spec.domain_id)
        await bench.reported(RUNNING, *[SUSPENDED, RUNNING] * 3, SUSPENDED, STOPPED)
        assert bench.events[-1].reason == "destroyed"
        times = [event.monotonic_s for event in bench.events]
        assert times == sorted(times)
        assert {event.domain_id for event in bench.events} == {spec.domain_id}

    run(implementation, scenario)


@every
def test_observe_shows_every_domain_with_its_use(implementation: Implementation) -> None:
    """One look shows all of them, each in its own state."""

    async def scenario(bench: Bench) -> None:
        running, suspended, defined = await bench.running(1), await bench.running(2), bench.spec(3)
        await bench.hypervisor.define(defined)
        await bench.hypervisor.suspend(suspended.domain_id)
        observed = await bench.hypervisor.observe()
        assert {domain_id: look.state for domain_id, look in observed.items()} == {
            running.domain_id: RUNNING,
            suspended.domain_id: SUSPENDED,
            defined.domain_id: DEFINED,
        }
        assert all(domain_id == look.domain_id for domain_id, look in observed.items())
        assert observed[running.domain_id].memory_bytes > 1024 * 1024
        assert observed[defined.domain_id].memory_bytes == 0

    run(implementation, scenario)


@every_with_processes
def test_a_background_weight_lasts_over_a_start(implementation: Implementation) -> None:
    """A domain that boots in the background is weighted before it starts; a weight out of range is refused."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        await bench.hypervisor.set_cpu_weight(spec.domain_id, 0.25)
        await bench.hypervisor.start(spec.domain_id)
        await bench.hypervisor.set_cpu_weight(spec.domain_id, 1.0)
        for weight in (0.0, -1.0, 1.5):
            with pytest.raises(ValueError, match="weight"):
                await bench.hypervisor.set_cpu_weight(spec.domain_id, weight)
        await bench.cpu_moves(spec.domain_id)

    run(implementation, scenario)


@every_that_outlives_us
def test_domains_of_a_former_process_are_seen_and_can_be_destroyed(implementation: Implementation) -> None:
    """A restarted manager destroys the domains that it finds (design 9.4)."""

    async def scenario(bench: Bench) -> None:
        running, suspended = await bench.running(1), await bench.running(2)
        await bench.hypervisor.suspend(suspended.domain_id)
        await bench.hypervisor.close()
        bench.events.clear()
        bench.hypervisor = bench.open_another()
        await bench.hypervisor.open(bench.events.append)
        assert await bench.state(running.domain_id) is RUNNING
        assert await bench.state(suspended.domain_id) is SUSPENDED
        await bench.hypervisor.resume(suspended.domain_id)
        assert await bench.state(suspended.domain_id) is RUNNING
        for spec in (running, suspended):
            await bench.hypervisor.destroy(spec.domain_id)
            assert not bench.has_disk(spec)
        assert await bench.hypervisor.observe() == {}
        await bench.reported(RUNNING, STOPPED, STOPPED)

    run(implementation, scenario)


@every
def test_an_operation_goes_on_when_its_caller_gives_up(implementation: Implementation) -> None:
    """A caller's time limit leaves no domain in between: what was begun is finished, and the next waits for it."""

    async def scenario(bench: Bench) -> None:
        spec = bench.spec(1)
        await bench.hypervisor.define(spec)
        starting = asyncio.ensure_future(bench.hypervisor.start(spec.domain_id))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        async def is_running() -> bool:
            return await bench.state(spec.domain_id) is RUNNING

        await bench.until(is_running, "the abandoned start is done")
        await bench.hypervisor.suspend(spec.domain_id)
        assert await bench.state(spec.domain_id) is SUSPENDED

    run(implementation, scenario)
