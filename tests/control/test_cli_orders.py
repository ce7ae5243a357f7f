"""What an operator orders: the plan first, the right server, what it says and with which exit code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from replica_manager.control.errors import RequestRefused
from tests.control.conftest import LoopThread
from tests.control.fake_cell import FakeCell

ORDERS = [
    (("resolve", "41", "--skip"), ("resolve", {"sequence": 41, "action": "skip"})),
    (("resolve", "41", "--retry"), ("resolve", {"sequence": 41, "action": "retry"})),
    (("activate", "s1.g2"), ("activate", {"domain": "s1.g2"})),
    (("retire", "s1.g2", "--reason", "old"), ("retire", {"domain": "s1.g2", "reason": "old"})),
]


@pytest.fixture
def cell(tmp_path: Path, loop_thread: LoopThread) -> Iterator[FakeCell]:
    """A cell of two fake servers that serve."""
    it = FakeCell(tmp_path, loop_thread)
    yield it
    it.close()


@pytest.mark.parametrize(("words", "ordered"), ORDERS)
def test_an_order_goes_to_one_server_that_serves(
    cell: FakeCell, words: tuple[str, ...], ordered: tuple[str, dict[str, object]]
) -> None:
    """One that starts refuses, and the next is asked."""
    cell.servers[0].refusal = RequestRefused("not_ready", "this server is learning")
    result = cell.run(*words, "--yes")
    assert result.exit_code == 0, result.output
    assert cell.servers[1].orders == [ordered]
    document = json.loads(cell.run(*words, "--yes", "-o", "json").stdout)
    assert document == {"schema": 1, **ordered[1]}


@pytest.mark.parametrize(("words", "_ordered"), [*ORDERS, (("server", "leave", "1"), None)])
def test_a_dry_run_shows_the_plan_and_orders_nothing(cell: FakeCell, words: tuple[str, ...], _ordered: object) -> None:
    """Line by line, with `would`."""
    result = cell.run(*words, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith("would ")
    assert all(server.orders == [] for server in cell.servers)


@pytest.mark.parametrize("words", [("resolve", "41", "--skip"), ("retire", "s1.g2"), ("server", "leave", "1")])
def test_what_destroys_needs_an_answer(cell: FakeCell, words: tuple[str, ...]) -> None:
    """Nobody is at the terminal: exit code 2, nothing happens."""
    result = cell.run(*words)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert all(server.orders == [] for server in cell.servers)


def test_an_order_without_effect_says_why(cell: FakeCell) -> None:
    """The cell decides, not the server that was asked."""
    for server in cell.servers:
        server.refusal = RequestRefused("no_effect", "sequence 41 stays as it is: it is stable", "see spare explain")
    result = cell.run("resolve", "41", "--skip", "--yes")
    assert result.exit_code == 1
    assert result.stderr == "error: sequence 41 stays as it is: it is stable\nhint: see spare explain\n"


def test_an_order_to_a_cell_that_does_not_run(cell: FakeCell) -> None:
    """Exit code 4."""
    cell.close()
    assert cell.run("activate", "s1.g2").exit_code == 4
    assert cell.run("server", "join", "1").exit_code == 4


def test_resolve_needs_a_decision(cell: FakeCell) -> None:
    """Skip and retry are opposites: neither is a default."""
    result = cell.run("resolve", "41")
    assert result.exit_code == 2
    assert "--skip or --retry" in result.stderr


@pytest.mark.parametrize("verb", ["leave", "join"])
def test_an_unknown_server_is_named_with_those_there_are(cell: FakeCell, verb: str) -> None:
    """Before anything is asked."""
    result = cell.run("server", verb, "7")
    assert result.exit_code == 2
    assert "no server 7; it has 0, 1" in result.stderr


def test_status_says_what_is_wrong_and_how_far_the_repair_is(cell: FakeCell) -> None:
    """Suspicions, convictions, silence, repair, the stuck request and who disagrees."""
    cell.servers[0].more_status = {
        "suspected": [{"domain": "s0.g1", "reason": "no vote on 7 in time"}],
        "convicted": [{"domain": "s1.g4", "reason": "convicted: differs"}],
        "repair": {"domain": "s0.g3", "step": "takes its state", "parts": 3, "parts_total": 17},
        "silent_servers": [{"server": 1, "fenced": False, "failures": 2, "last_failure": "no power"}],
        "stuck_request": {
            "sequence": 42,
            "held": False,
            "votes": {"ab" * 32: ["s0.g1"], "cd" * 32: ["s1.g1"]},
            "silent": ["s1.g2"],
        },
    }
    cell.servers[1].more_status = {"waits_for": [0]}
    shown = cell.run("status").output
    for line in (
        "s0.g1 is suspected: no vote on 7 in time",
        "s1.g4 was convicted: differs",
        "server 0 repairs: s0.g3 takes its state, 3 of 17 parts",
        "server 0 says that server 1 cannot be fenced (2 attempts): no power",
        "server 1 has started again and waits for server 0",
        "request 42 is not stable; s0.g1: abababababab; s1.g1: cdcdcdcdcdcd; s1.g2: no vote (spare explain 42)",
    ):
        assert line in shown
    assert len(json.loads(cell.run("status", "-o", "json").stdout)["trouble"]) == 6
