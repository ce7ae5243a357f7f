"""A cell that heals itself: a manager is killed under load, and nobody has to do anything."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from replica_manager.control.keeper_process import find_keeper
from replica_manager.control.leftovers import find_marked
from replica_manager.control.processes import is_alive
from tests.operations.live_cell import LiveCell, Writers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("victim", [0, 1])
def test_a_manager_killed_under_load_rejoins_and_no_acknowledged_write_is_lost(
    make_cell: Callable[..., LiveCell], victim: int
) -> None:
    """`kill -9`; the keeper starts it again, it rejoins with two fresh domains; full redundancy, no operator."""
    cell = make_cell()
    cell.ok("cell", "up")
    writers = Writers(cell)

    async def scenario() -> None:
        writing = asyncio.create_task(writers.write())
        await until(lambda: len(writers.acknowledged) > 50)
        before = cell.record(f"server {victim}").identity
        cell.kill(f"server {victim}")
        await asyncio.to_thread(
            cell.wait, "a new process", lambda: cell.record(f"server {victim}").identity not in (before, None)
        )
        await asyncio.to_thread(cell.wait_whole)
        there = len(writers.acknowledged)
        await until(lambda: len(writers.acknowledged) > there + 20)
        writers.stop()
        await writing
        assert await writers.missing() == []

    asyncio.run(scenario())
    status = cell.status()
    assert status["state"] == "serving"
    assert sum(row["role"] == "active" for row in status["domains"]) == 2
    assert sum(row["role"] == "passive" for row in status["domains"]) == 2
    starts = cell.events("member_started")
    assert [event["data"]["member"] for event in starts] == [f"server {victim}"], cell.events()[-400:]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition in the running loop."""
    async with asyncio.timeout(180):
        while not is_so():
            await asyncio.sleep(0.05)


def test_down_ends_the_keeper_first_and_nobody_comes_back(make_cell: Callable[..., LiveCell]) -> None:
    """Also after `kill -9` of the keeper; `cell up` over a cell that runs starts a new one."""
    cell = make_cell()
    cell.ok("cell", "up")
    first = find_keeper(cell.paths)
    assert first is not None
    cell.ok("cell", "up")
    assert find_keeper(cell.paths) == first
    os.kill(first.pid, signal.SIGKILL)
    cell.wait("the keeper's end", lambda: not is_alive(first))
    cell.ok("cell", "up")
    second = find_keeper(cell.paths)
    assert second is not None
    assert second != first
    assert f"end the keeper (process {second.pid})" in cell.ok("cell", "down", "--dry-run")
    cell.kill("server 0")
    cell.ok("cell", "down")
    assert not is_alive(second)
    assert list(find_marked(cell.paths)) == []
    assert not cell.paths.runtime_dir.exists()


def test_up_over_a_part_of_a_cell_has_a_new_keeper_start_the_rest(make_cell: Callable[..., LiveCell]) -> None:
    """The machine killed a server and the keeper: one command, and nothing that serves is ended."""
    cell = make_cell()
    cell.ok("cell", "up")
    keeper = find_keeper(cell.paths)
    assert keeper is not None
    os.kill(keeper.pid, signal.SIGKILL)
    cell.kill("server 0", "witness 0")
    cell.wait("their end", lambda: not any(cell.record(name).is_alive for name in ("server 0", "witness 0")))
    serving = cell.record("server 1")
    code, _, err = cell.spare("cell", "up")
    assert (code, "runs without server 0, witness 0" in err) == (3, True)
    cell.wait_whole()
    assert cell.record("server 1") == serving
    assert cell.put_and_get().endswith(b"1")
