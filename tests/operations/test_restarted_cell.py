"""A cell that has served starts again: from its disks, with every acknowledged request, or it says why not."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from replica_manager.clean_stop import MARK
from tests.operations.live_cell import LiveCell, Writers

pytestmark = pytest.mark.slow


def write(cell: LiveCell, count: int) -> Writers:
    """Have `count` writes acknowledged."""
    writers = Writers(cell)

    async def scenario() -> None:
        writing = asyncio.create_task(writers.write())
        async with asyncio.timeout(120):
            while len(writers.acknowledged) < count:
                await asyncio.sleep(0.02)
        writers.stop()
        await writing

    asyncio.run(scenario())
    return writers


def test_a_cell_killed_as_a_whole_restarts_with_every_acknowledged_write(make_cell: Callable[..., LiveCell]) -> None:
    """`kill -9` of everything, then `cell up`; the last words on the way say what it waits for."""
    cell = make_cell(cell='restart = "never"')
    cell.ok("cell", "up")
    writers = write(cell, 60)
    cell.kill("server 0", "server 1", "witness 0")
    said = cell.ok("cell", "up")
    assert "restarting the cell from its disks" in said
    assert asyncio.run(writers.missing()) == []
    assert cell.put_and_get(b"after", b"42").endswith(b"42")
    changes = json.loads(cell.ok("history", "-o", "json"))["changes"]
    assert [change["what"] for change in changes if change["kind"] == "cell_restarted"] == ["restarted"]


@pytest.mark.parametrize("durability", ["async", "none"])
def test_after_a_clean_stop_a_log_that_is_not_synced_is_complete_too(
    make_cell: Callable[..., LiveCell], durability: str
) -> None:
    """The mark says so, and is gone while the cell runs."""
    cell = make_cell(cell=f'durability = "{durability}"')
    cell.ok("cell", "up")
    writers = write(cell, 30)
    cell.ok("cell", "down")
    marks = [cell.paths.state("server", server) / MARK for server in (0, 1)]
    assert all(mark.exists() for mark in marks)
    cell.ok("cell", "up")
    assert not any(mark.exists() for mark in marks)
    assert asyncio.run(writers.missing()) == []


def test_a_whole_cell_without_complete_logs_refuses_unless_the_loss_is_accepted(
    make_cell: Callable[..., LiveCell],
) -> None:
    """One sentence, and the way on; nothing is changed by the refusal."""
    cell = make_cell(cell='durability = "async"\nrestart = "never"')
    cell.ok("cell", "up")
    writers = write(cell, 30)
    cell.kill("server 0", "server 1", "witness 0")
    code, _, err = cell.spare("cell", "up")
    assert code == 1
    assert "the logs of server 0, server 1 may miss the last requests" in err
    assert "--accept-loss" in err
    cell.ok("cell", "up", "--accept-loss")
    assert asyncio.run(writers.missing()) == []  # the machine itself went on: nothing was lost in truth
    cell.ok("history", "--verify")


def test_one_server_whose_log_is_not_synced_comes_back_as_a_learner(make_cell: Callable[..., LiveCell]) -> None:
    """A peer serves: it takes part as somebody new, without any operator."""
    cell = make_cell(cell='durability = "async"')
    cell.ok("cell", "up")
    writers = write(cell, 30)
    cell.kill("server 1")
    cell.wait("the lost memory", lambda: bool(cell.events("memory_lost")))
    cell.wait_whole()
    assert asyncio.run(writers.missing()) == []


def test_without_witnesses_a_cell_restarts_only_with_all_servers_or_with_the_operators_word(
    make_cell: Callable[..., LiveCell],
) -> None:
    """S5: who starts is nobody.  `--without` names the server for which the operator vouches; it can join later."""
    cell = make_cell(witnesses=0)
    cell.ok("cell", "up")
    writers = write(cell, 30)
    cell.ok("cell", "down")
    cell.ok("cell", "up")
    assert asyncio.run(writers.missing()) == []
    cell.ok("cell", "down")
    code, _, err = cell.spare("cell", "up", "--without", "1", "--yes")
    assert code == 3, err
    assert asyncio.run(writers.missing()) == []
    left = [change for change in json.loads(cell.ok("history", "-o", "json"))["changes"] if "left" in change["what"]]
    assert [change["what"] for change in left] == ["server 1 left"]
    cell.ok("server", "join", "1")
    cell.wait_whole()
    assert asyncio.run(writers.missing()) == []


def test_a_server_that_waits_for_the_others_orders_no_checkpoint(make_cell: Callable[..., LiveCell]) -> None:
    """Nobody would take the order, and the operator would wait for ever."""
    cell = make_cell(cell='restart = "never"')
    cell.ok("cell", "up")
    cell.kill("server 0", "server 1")
    words = [sys.executable, "-P", "-m", "replica_manager", "server", "run", "--id", "0", "-c", str(cell.file)]
    with (cell.directory / "again.log").open("w") as output:
        again = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        cell.wait("a server that has come back", lambda: cell.ask(0).get("state") == "returning")
        code, _, err = cell.spare("checkpoint")
        assert (code, "this server is returning" in err) == (1, True), err
    finally:
        again.terminate()
        again.wait(60)
