"""The audit logs of a living cell: whole and equal after everything that may happen to its servers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.operations.live_cell import LiveCell

pytestmark = pytest.mark.slow


def verified(cell: LiveCell) -> dict[str, Any]:
    """Return what `history --verify` says of logs that must be intact."""
    code, out, err = cell.spare("history", "--verify", "-o", "json")
    assert code == 0, f"{out}\n{err}"
    document: dict[str, Any] = json.loads(out)
    return document


def test_logs_stay_whole_and_agree_through_repair_crash_rejoining_and_restart(
    make_cell: Callable[..., LiveCell],
) -> None:
    """A learner reads the order of its former life again, a restarted server that of its own log."""
    cell = make_cell()
    cell.ok("cell", "up")
    cell.ok("retire", "s0.g2", "--yes")
    cell.put_and_get()
    cell.wait_whole()
    cell.kill("server 1")
    cell.wait("a server that left and joined", lambda: len(cell.events("membership_changed")) >= 4)
    cell.wait_whole()
    verified(cell)

    cell.ok("cell", "down")
    verified(cell)
    cell.spare("cell", "up")
    cell.wait_whole()
    document = verified(cell)
    assert all(log["records"] > 10 for log in document["logs"])
    shown = json.loads(cell.ok("history", "-o", "json"))
    assert len(shown["generations"]["1"]) >= 4
    changes = [(change["subject"], change["what"]) for change in shown["changes"]]
    for expected in (
        ("s0.g2", "retired"),
        ("cell", "server 1 left"),
        ("cell", "a server joined"),
        ("cell", "restarted"),
    ):
        assert expected in changes

    path = cell.paths.audit_log(0)
    path.write_bytes(path.read_bytes().replace(b"server 1 left", b"server 2 left"))
    code, out, _ = cell.spare("history", "--verify")
    assert code == 1
    assert "was changed" in out
    assert "CONTRADICTION" in out
