"""What the operating system says of a process, and the end of processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replica_manager.hypervisor.domain_process import (
    NICE_MAX,
    find_process,
    niceness_of,
    process_usage,
    set_niceness,
)
from replica_manager.hypervisor.process_watch import ProcessEnd, ProcessWatch

WAIT_TIMEOUT_S = 60.0

SPINNING = """
import threading
def spin():
    while True:
        sum(range(10000))
threading.Thread(target=spin).start()
spin()
"""

MARK = f"spare-test-{os.getpid()}"


@pytest.fixture
def spinning() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of two busy threads in a session of its own, findable by an argument."""
    with subprocess.Popen([sys.executable, "-S", "-c", SPINNING, MARK], start_new_session=True) as process:
        yield process
        process.kill()


def test_the_use_of_a_process_counts_all_its_threads(spinning: "subprocess.Popen[bytes]") -> None:
    """CPU seconds only grow, and memory is resident memory."""
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while (usage := process_usage(spinning.pid)) is None or usage.cpu_seconds < 0.1:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert usage.memory_bytes > 1024 * 1024
    assert usage.state in "RS"


def test_a_process_that_is_not_there_has_no_use() -> None:
    """The highest process id of Linux is 2²²."""
    assert process_usage(2**22 + 1) is None


def test_a_process_is_found_by_one_of_its_arguments(spinning: "subprocess.Popen[bytes]") -> None:
    """The whole argument has to be the same, not a part of it."""
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while find_process(MARK) != spinning.pid:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert find_process(MARK[:-1]) is None


@pytest.mark.parametrize(("weight", "nice"), [(1.0, 0), (0.8, 1), (0.5, 3), (0.25, 6), (0.1, 10), (0.001, NICE_MAX)])
def test_a_weight_becomes_a_nice_level_with_a_bound(weight: float, nice: int) -> None:
    """A factor of 1.25 for each level; never so nice that a domain starves at its boot."""
    assert niceness_of(weight) == nice


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.01])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    """More than a normal share is not for sale."""
    with pytest.raises(ValueError, match="weight"):
        niceness_of(weight)


def test_a_nice_level_reaches_every_thread_and_the_session(spinning: "subprocess.Popen[bytes]") -> None:
    """Also where the kernel shares the CPU between sessions first; back to normal works too."""
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while len(os.listdir(f"/proc/{spinning.pid}/task")) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    for nice in (6, 0):
        set_niceness(spinning.pid, nice)
        threads = os.listdir(f"/proc/{spinning.pid}/task")
        assert [os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in threads] == [nice] * len(threads)
        group = Path(f"/proc/{spinning.pid}/autogroup")
        assert not group.exists() or group.read_text().split()[-1] == str(nice)
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0


def test_the_end_of_a_process_is_noticed_with_its_reason_and_last_use() -> None:
    """Exit status and signal are told apart; the process is reaped, so that nobody waits for it in vain."""

    async def ends() -> list[ProcessEnd]:
        watch, seen = ProcessWatch(), asyncio.Queue[ProcessEnd]()
        exiting = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {})
        sleeping = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
        assert watch.watch(exiting, seen.put_nowait)
        first = await asyncio.wait_for(seen.get(), WAIT_TIMEOUT_S)
        assert watch.watch(sleeping, seen.put_nowait)
        os.kill(sleeping, signal.SIGKILL)
        second = await asyncio.wait_for(seen.get(), WAIT_TIMEOUT_S)
        assert process_usage(exiting) is None
        assert not watch.watch(exiting, seen.put_nowait)
        return [first, second]

    exited, killed = asyncio.run(ends())
    assert (exited.reason, killed.reason) == ("exit status 3", "killed by SIGKILL")
    assert exited.usage is not None
    assert exited.usage.state == "Z"


def test_a_group_ends_with_its_leader() -> None:
    """A service's own processes do not outlive the wrapper that started them."""
    mark = f"{600 + os.getpid() / 1e7:.7f}"

    async def leader_ends() -> None:
        watch, seen = ProcessWatch(), asyncio.Queue[ProcessEnd]()
        leader = os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep {mark} & wait"], os.environ, setsid=True)
        watch.watch(leader, seen.put_nowait, leads_group=True)
        await _until(lambda: find_process(mark) is not None)
        os.kill(leader, signal.SIGKILL)
        await asyncio.wait_for(seen.get(), WAIT_TIMEOUT_S)
        await _until(lambda: find_process(mark) is None)

    asyncio.run(leader_ends())


def test_nothing_is_reported_after_close() -> None:
    """The watched process goes on, and its end is nobody's business."""

    async def closed_early() -> None:
        watch, seen = ProcessWatch(), list[ProcessEnd]()
        sleeping = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
        watch.watch(sleeping, seen.append)
        watch.close()
        os.kill(sleeping, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, sleeping, 0)
        assert seen == []

    asyncio.run(closed_early())


async def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
