"""The keeper over fake members: who is started again, when, and who is not."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from replica_manager.control.keeper import DELAY_S_MAX, DELAY_S_MIN, STEADY_S, Keeper, RestartDelay
from replica_manager.control.member_process import start_member
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from tests.control.test_cell_processes import Cell


@pytest.fixture
def cell() -> Iterator[Cell]:
    """A cell of fake members; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        it = Cell(Path(directory))
        yield it
        it.down()


def test_the_delay_grows_with_every_early_end_and_begins_anew_after_a_long_life() -> None:
    """1 s to 30 s."""
    delay = RestartDelay()
    delay.on_started(0.0)
    delays = []
    for now_s in range(1, 9):
        delays.append(delay.on_ended(float(now_s)))
        delay.on_started(float(now_s))
    assert delays[:4] == [DELAY_S_MIN, 2 * DELAY_S_MIN, 4 * DELAY_S_MIN, 8 * DELAY_S_MIN]
    assert delays[-1] == DELAY_S_MAX
    assert delay.on_ended(8.0 + STEADY_S) == DELAY_S_MIN


class Kept:
    """A keeper at work over the members of a cell."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.keeper = Keeper(
            cell.config, cell.network, lambda kind, data: self.events.append((kind, data)), cell.command
        )

    def kinds(self) -> list[str]:
        """What has happened."""
        return [kind for kind, _ in self.events]

    def record(self, name: str) -> ProcessRecord:
        """The process of a member."""
        return next(record for record in ProcessRecords(self.cell.paths.processes).read() if record.name == name)

    async def rounds(self, count: int) -> None:
        """Wait until the keeper has looked `count` times more."""
        wanted = self.keeper.look_count + count
        await self.until(lambda: self.keeper.look_count >= wanted)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(60):
            while not is_so():
                await asyncio.sleep(0.02)


def keep(cell: Cell, scenario: Callable[[Kept], Awaitable[None]]) -> Kept:
    """Run a scenario beside a keeper."""
    cell.up()
    kept = Kept(cell)

    async def both() -> None:
        running = asyncio.create_task(kept.keeper.run())
        await kept.until(lambda: "keeper_started" in kept.kinds())
        await scenario(kept)
        kept.keeper.stop()
        await running

    asyncio.run(both())
    return kept


def test_a_killed_member_is_started_again_without_being_born(cell: Cell) -> None:
    """Server or witness; a server that is born twice would forget what it promised."""

    async def scenario(kept: Kept) -> None:
        for name in ("server 1", "witness 0"):
            old = kept.record(name)
            os.kill(old.identity.pid, signal.SIGKILL)
            await kept.until(lambda old=old, name=name: kept.record(name) != old)  # type: ignore[misc]
            assert kept.record(name).is_alive

    kept = keep(cell, scenario)
    assert kept.kinds() == ["keeper_started", *2 * ["member_ended", "member_started"], "keeper_stopping"]
    words = Path(f"/proc/{kept.record('server 1').identity.pid}/cmdline").read_text()
    assert "--born" not in words


def test_a_member_that_keeps_ending_is_reported_and_its_delay_grows(cell: Cell) -> None:
    """A person has to know after the third time."""

    async def scenario(kept: Kept) -> None:
        cell.behaviour["server", 0] = "fail"
        os.kill(kept.record("server 0").identity.pid, signal.SIGKILL)
        await kept.until(lambda: "member_keeps_ending" in kept.kinds())

    kept = keep(cell, scenario)
    delays = [data["restart_in_s"] for kind, data in kept.events if kind == "member_ended"]
    assert delays == [1.0, 2.0, 4.0]


def test_a_member_that_the_operator_holds_stays_away(cell: Cell) -> None:
    """`spare server leave`; until it is released and somebody starts it, from when on it is watched again."""
    records = ProcessRecords(cell.paths.processes)

    async def scenario(kept: Kept) -> None:
        records.hold("server", 1)
        os.kill(kept.record("server 1").identity.pid, signal.SIGKILL)
        await kept.until(lambda: "member_ended" in kept.kinds())
        assert "restart_in_s" not in kept.events[-1][1]
        await kept.rounds(2)
        assert not kept.record("server 1").is_alive
        records.release("server", 1)
        command = cell.command("server", 1, cell.config.path)
        started = start_member(cell.paths, cell.network, "server", 1, command)
        await kept.rounds(2)
        os.kill(started.identity.pid, signal.SIGKILL)
        await kept.until(lambda: "member_started" in kept.kinds())

    assert keep(cell, scenario).kinds().count("member_started") == 1


def test_a_keeper_that_stops_starts_nobody(cell: Cell) -> None:
    """`spare cell down` ends it first."""

    async def scenario(kept: Kept) -> None:
        os.kill(kept.record("server 0").identity.pid, signal.SIGKILL)
        await kept.until(lambda: "member_ended" in kept.kinds())

    kept = keep(cell, scenario)
    assert "member_started" not in kept.kinds()
    assert not kept.record("server 0").is_alive


def test_a_member_that_ended_before_the_keeper_came_is_started(cell: Cell) -> None:
    """The keeper itself may have been killed with it."""
    cell.up()
    cell.kill(cell.pids[1])
    kept = Kept(cell)

    async def scenario() -> None:
        running = asyncio.create_task(kept.keeper.run())
        await kept.until(lambda: "member_started" in kept.kinds())
        kept.keeper.stop()
        await running

    asyncio.run(scenario())
    assert kept.record("server 1").is_alive
