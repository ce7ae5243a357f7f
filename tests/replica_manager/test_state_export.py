"""An export writes the whole agreed state, or nothing, whatever ends it."""

import asyncio
import os
import resource
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from exec_wrapper.wire import StatePart
from replica_manager.control.errors import RequestRefused
from replica_manager.core_output import CoreOutput
from replica_manager.manager_core import ManagerCore
from replica_manager.standing import Standing
from replica_manager.state_export import StateExport, StateSource
from replica_manager.state_files.state_disk import OpenStateFile
from replica_manager.state_files.state_file import StateHead
from tests.replica_manager.lockstep_cell import LockstepCell
from tests.scenarios.test_exports import ACTIVE_0, PASSIVE_1, Liar
from tests.scenarios.test_repairs import kill, stored
from tests.simulation.fake_domain import FakeDomain

SOURCE = StateSource("shop", 1000, lambda: "registers", lambda: 1_700_000_000_000_000)


class CellWithDisk(LockstepCell):
    """Server 0 exports to real files."""

    def __init__(self) -> None:
        self.export: StateExport | None = None
        self.recorded: list[tuple[str, dict[str, Any]]] = []
        super().__init__()

    def open(self) -> StateExport:
        """For a running event loop."""
        loop = asyncio.get_running_loop()
        self.export = StateExport(
            self.cores[0],
            SOURCE,
            lambda: cast(None, loop.call_soon(self.settle)),
            lambda kind, data: self.recorded.append((kind, data)),
            progress_s=0.0,
        )
        return self.export

    def _export(self, core: ManagerCore, output: CoreOutput) -> None:
        if self.export is not None and core is self.cores[0]:
            self.export.take(output.export)


@pytest.fixture
def cell() -> CellWithDisk:
    it = CellWithDisk()
    stored(cell=it)
    return it


def reports(export: StateExport, path: object, **more: object) -> AsyncGenerator[dict[str, Any]]:
    return cast(AsyncGenerator[dict[str, Any]], export.export({"path": str(path), **more}))


def run(cell: CellWithDisk, path: object, **more: object) -> list[dict[str, Any]]:
    """Export to the end."""

    async def scenario() -> list[dict[str, Any]]:
        return [report async for report in reports(cell.open(), path, **more)]

    return asyncio.run(scenario())


def refusal(cell: CellWithDisk, path: object, **more: object) -> RequestRefused:
    with pytest.raises(RequestRefused) as raised:
        run(cell, path, **more)
    assert not cell.cores[0].export.is_under_way
    return raised.value


def assert_file_of(domain: FakeDomain, path: Path) -> StateHead:
    """It has every part that the domain would give, and no other."""
    with OpenStateFile(path) as file:
        state = file.verify()
        parts = [state.part(index) for index in range(state.part_count)]
    assert parts == [part.data for part in domain._state(state.head.point)]
    return state.head


def test_the_file_holds_the_agreed_state_and_says_where_it_is_from(cell: CellWithDisk, tmp_path: Path) -> None:
    path = tmp_path / "f"
    *progress, last = run(cell, path)
    head = assert_file_of(cell.domains[ACTIVE_0], path)
    point = last["done"]["point"]
    last_us = cell.cores[1].cell.last_timestamp_us
    assert head == StateHead("shop", "registers", 1, 1000, point, 1_700_000_000_000_000, last_us)
    assert last_us > 0
    assert [report["parts"] for report in progress] == sorted(report["parts"] for report in progress)
    assert progress[-1]["parts"] >= 1
    assert {report["file"] for report in progress} == {str(path)}
    with OpenStateFile(path) as file:
        assert last["done"]["digest"] == file.verify().content_digest.hex()
    assert cell.recorded == [("state_exported", last["done"])]
    assert cell.cores[0].cell.open_point == 0
    assert cell.export is not None
    assert cell.export.report() is None


def test_a_state_that_was_given_again_is_written_from_the_start(cell: CellWithDisk, tmp_path: Path) -> None:
    """The first parts of the sleepers were agreed on, then one lied."""
    cell.domains[PASSIVE_1].__class__ = Liar
    run(cell, tmp_path / "f")
    assert len({data["point"] for data in cell.told("export_ordered")}) == 2
    assert_file_of(cell.domains[ACTIVE_0], tmp_path / "f")


def test_when_no_state_is_agreed_on_nothing_is_left_and_the_reason_is_told(cell: CellWithDisk, tmp_path: Path) -> None:
    for number, domain in enumerate(cell.domains.values()):
        domain.rows[b"a"] = b"%d" % number
    why = refusal(cell, tmp_path / "f")
    assert str(why) == "no state was exported: the states that were given differ, or are too few"
    assert os.listdir(tmp_path) == []
    assert [kind for kind, _ in cell.recorded] == ["export_failed"]


def test_a_caller_that_hangs_up_ends_the_export(cell: CellWithDisk, tmp_path: Path) -> None:
    """While nothing comes, and in the midst of it."""

    async def scenario() -> None:
        export = cell.open()
        cell.pause(PASSIVE_1)
        async with aclosing(reports(export, tmp_path / "f")) as waiting:
            first = asyncio.ensure_future(anext(waiting))
            await asyncio.sleep(0.05)
            assert cell.cores[0].cell.open_point > 0
            assert export.report() == {
                "file": str(tmp_path / "f"),
                "point": cell.cores[0].cell.open_point,
                "parts": 0,
                "parts_agreed": 0,
                "bytes": 0,
            }
            first.cancel()
            await asyncio.wait([first])
        cell.proceed(PASSIVE_1)
        assert_ended(export)
        async with aclosing(reports(export, tmp_path / "f")) as begun:
            await anext(begun)
        cell.settle()
        assert_ended(export)

    def assert_ended(export: StateExport) -> None:
        assert os.listdir(tmp_path) == []
        assert cell.cores[0].cell.open_point == 0
        assert export.report() is None

    asyncio.run(scenario())
    assert cell.recorded == 2 * [("export_failed", {"file": str(tmp_path / "f"), "reason": "it was given up"})]


def test_a_repair_that_comes_first_is_named(cell: CellWithDisk, tmp_path: Path) -> None:
    async def scenario() -> None:
        cell.pause(PASSIVE_1)
        waiting = asyncio.ensure_future(anext(reports(cell.open(), tmp_path / "f")))
        await asyncio.sleep(0.05)
        kill(cell, ACTIVE_0)
        for _ in range(20):
            cell.tick(50)
            await asyncio.sleep(0)
        with pytest.raises(RequestRefused, match=r"a checkpoint, repair or recovery at \d+ comes first"):
            await waiting

    asyncio.run(scenario())
    assert os.listdir(tmp_path) == []


def test_one_state_is_exported_at_a_time(cell: CellWithDisk, tmp_path: Path) -> None:
    async def scenario() -> None:
        export = cell.open()
        async with aclosing(reports(export, tmp_path / "f")) as first:
            await anext(first)
            with pytest.raises(RequestRefused, match=f"this server exports to {tmp_path / 'f'}"):
                await anext(reports(export, tmp_path / "g"))
            async for _ in first:
                pass

    asyncio.run(scenario())
    assert os.listdir(tmp_path) == ["f"]


def test_what_cannot_be_written_is_refused_before_anything_is_ordered(cell: CellWithDisk, tmp_path: Path) -> None:
    """A name that is taken, no directory, a path that depends on where the server stands."""
    (tmp_path / "f").write_text("precious")
    assert "exists" in str(refusal(cell, tmp_path / "f"))
    assert "No such file or directory" in str(refusal(cell, tmp_path / "no" / "f"))
    assert refusal(cell, "f").code == "bad_request"
    cell.cores[0].membership.standing = Standing.LEARNING
    assert refusal(cell, tmp_path / "g").code == "not_ready"
    assert cell.told("export_ordered") == []
    assert (tmp_path / "f").read_text() == "precious"


def test_a_file_is_replaced_if_that_is_wanted(cell: CellWithDisk, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    run(cell, tmp_path / "f", overwrite=True)
    assert_file_of(cell.domains[ACTIVE_0], tmp_path / "f")


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """Let the operating system refuse what is longer, as a full disk does."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_disk_that_takes_no_more_ends_the_export_and_nothing_is_left(cell: CellWithDisk, tmp_path: Path) -> None:
    with files_of_at_most(600):
        why = refusal(cell, tmp_path / "f")
    assert str(why) == f"no state was exported: {tmp_path / 'f'}: File too large"
    assert os.listdir(tmp_path) == []
    assert cell.cores[0].cell.open_point == 0


def test_the_event_loop_goes_on_while_a_part_is_written(cell: CellWithDisk, tmp_path: Path) -> None:
    """A disk may hang for seconds, in which peers would miss heartbeats."""
    go_on: list[Callable[[], None]] = []

    async def scenario() -> None:
        export = cell.open()
        done = asyncio.ensure_future(collect(export))
        while export._writer is None:
            await asyncio.sleep(0)
        loop, released = asyncio.get_running_loop(), asyncio.Event()
        write = export._writer.add

        def slow(data: bytes, *, is_last: bool) -> None:
            go_on.append(lambda: None)
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(10)
            write(data, is_last=is_last)

        export._writer.add = slow  # type: ignore[method-assign]
        while not go_on:
            await asyncio.sleep(0.001)
        released.set()
        await done

    async def collect(export: StateExport) -> None:
        async for _ in reports(export, tmp_path / "f"):
            pass

    asyncio.run(scenario())
    assert_file_of(cell.domains[ACTIVE_0], tmp_path / "f")


def test_parts_may_be_empty(tmp_path: Path) -> None:
    """A service without any state yet."""
    cell = CellWithDisk()
    run(cell, tmp_path / "f")
    with OpenStateFile(tmp_path / "f") as file:
        assert file.verify().part_count == 1
    assert next(cell.domains[ACTIVE_0]._state(1)) == StatePart(1, 0, True, b"")
