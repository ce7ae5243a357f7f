"""An operator's orders to a cell that runs."""

import json
import threading
from collections.abc import Callable

import pytest

from replica_manager.intake.port import Outcome
from tests.operations.live_cell import LiveCell
from tests.operations.poisonous_service import POISON

pytestmark = pytest.mark.slow


def roles(cell: LiveCell) -> dict[str, str]:
    """Return the role of every domain, as server 0 sees it."""
    return {row["domain"]: row["role"] for row in cell.ask(0).get("domains", ())}


def test_domains_are_activated_and_retired_by_order(make_cell: Callable[..., LiveCell]) -> None:
    """What the cell does afterwards is its own: the planner demotes, repair replaces; the history says why."""
    cell = make_cell()
    cell.ok("cell", "up")
    assert "s1.g2 is active" in cell.ok("activate", "s1.g2")
    cell.wait("the planner's demotion", lambda: sorted(roles(cell).values()).count("active") == 2)
    assert "is retired" in cell.ok("retire", "s0.g1", "--reason", "its disk is old", "--yes")
    cell.wait_whole()
    assert roles(cell)["s0.g1"] == "retired"
    assert cell.put_and_get().endswith(b"1")
    changes = json.loads(cell.ok("history", "-o", "json"))["changes"]
    assert [c["evidence"] for c in changes if (c["subject"], c["what"]) == ("s0.g1", "retired")] == ["its disk is old"]
    code, _, err = cell.spare("activate", "s0.g1")
    assert (code, "is retired, not passive" in err) == (1, True)
    code, _, err = cell.spare("retire", "s9.g9", "--yes")
    assert (code, "no domain s9.g9" in err) == (1, True)


def test_a_server_leaves_for_maintenance_and_joins_again(make_cell: Callable[..., LiveCell]) -> None:
    """The keeper lets it be in between; the cell answers all the time; the last one may not leave."""
    cell = make_cell()
    cell.ok("cell", "up")
    assert "server 1 has left" in cell.ok("server", "leave", "1", "--yes")
    assert not cell.record("server 1").is_alive
    assert cell.put_and_get().endswith(b"1")
    code, _, err = cell.spare("server", "leave", "0", "--yes")
    assert (code, "the last server cannot leave" in err) == (1, True)
    assert cell.spare("status")[0] == 3
    assert "server 1 serves" in cell.ok("server", "join", "1")
    cell.wait_whole()
    assert cell.events("member_started") == []
    assert "server 1 serves" in cell.ok("server", "join", "1")


def test_a_request_that_is_stable_cannot_be_resolved(make_cell: Callable[..., LiveCell]) -> None:
    """Its client was told."""
    cell = make_cell()
    cell.ok("cell", "up")
    cell.put_and_get()
    code, _, err = cell.spare("resolve", "2", "--skip", "--yes")
    assert code == 1
    assert "sequence 2 stays as it is" in err


def test_a_poisonous_request_is_held_and_skipped_by_order(make_cell: Callable[..., LiveCell]) -> None:
    """It ends every replica that executes it: an alarm, a sentence in the status, one command, and all is well."""
    cell = make_cell(service="tests.operations.poisonous_service")
    cell.ok("cell", "up")
    cell.put_and_get()
    poisoned = threading.Thread(target=cell.ask_for, args=(POISON, Outcome.SKIPPED))
    poisoned.start()
    cell.wait("a held request", lambda: bool(cell.events("request_held")))
    sequence = cell.events("request_held")[0]["data"]["sequence"]
    cell.wait(
        "a sentence in the status",
        lambda: f"request {sequence} stopped too many domains and is held" in cell.spare("status")[1],
    )
    code, _, err = cell.spare("resolve", str(sequence), "--skip")
    assert (code, "--yes" in err) == (2, True)
    assert cell.ok("resolve", str(sequence), "--skip", "--yes") == f"request {sequence}: skip\n"
    poisoned.join(60)
    assert not poisoned.is_alive()
    assert cell.put_and_get(b"after", b"7").endswith(b"7")
    cell.wait_whole()
