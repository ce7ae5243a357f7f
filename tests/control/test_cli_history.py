"""`spare history`: changes, generations, and whether the audit logs are what the servers wrote."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.logs import FILLED, LEFT, RETIRED, STARTING, ServerLog
from tests.control.conftest import LoopThread
from tests.control.fake_cell import FakeCell


@pytest.fixture
def cell(tmp_path: Path, loop_thread: LoopThread) -> Iterator[FakeCell]:
    """A cell of two fake servers."""
    it = FakeCell(tmp_path, loop_thread)
    yield it
    it.close()


@pytest.fixture
def logs(cell: FakeCell) -> list[ServerLog]:
    """Their audit logs: one agreed history."""
    directory = cell.paths.audit_log(0).parent
    directory.mkdir(parents=True)
    logs = [ServerLog(directory, server) for server in (0, 1)]
    for log in logs:
        log.run(RETIRED, STARTING, FILLED)
    return logs


@pytest.mark.usefixtures("logs")
def test_history_shows_changes_with_evidence_and_the_generations(cell: FakeCell) -> None:
    """For people and for programs."""
    document = json.loads(cell.run("history", "-o", "json").stdout)
    keys = ("position", "subject", "what", "servers")
    assert [[change[key] for key in keys] for change in document["changes"]] == [
        [9, "s0.g1", "retired", [0, 1]],
        [12, "s0.g3", "starting", [0, 1]],
        [15, "s0.g3", "passive", [0, 1]],
    ]
    assert [one["domain"] for one in document["generations"]["0"]] == ["s0.g1", "s0.g2", "s0.g3"]
    shown = cell.run("history").output
    for words in ("convicted: differs", "s0 s1", "g1 → g2 → g3", "s0.g2 passive, s0.g3 passive"):
        assert words in shown


@pytest.mark.usefixtures("logs")
def test_intact_logs_verify(cell: FakeCell) -> None:
    """With each head, so that it can be noted elsewhere."""
    result = cell.run("history", "--verify")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(": intact: 6 records in ") == 2
    document = json.loads(cell.run("history", "--verify", "-o", "json").stdout)
    assert document["ok"] is True
    assert [log["head"].partition(" ")[0] for log in document["logs"]] == ["6", "6"]
    assert document["contradictions"] == []


def test_a_changed_record_is_named_with_its_file_and_what_the_other_server_says(
    cell: FakeCell, logs: list[ServerLog]
) -> None:
    """Exit code 1; without `--verify` the history is shown, and a word of warning."""
    logs[1].edit(lambda lines: [line.replace(b"convicted: differs", b"demoted") for line in lines])
    result = cell.run("history", "--verify")
    assert result.exit_code == 1
    assert f"server 1: BROKEN: 6 records in {logs[1].path}" in result.stdout
    assert "record 3 was changed" in result.stdout
    assert "CONTRADICTION: position 9: server 0 says" in result.stdout
    history = cell.run("history")
    assert history.exit_code == 0
    assert "the audit log of server 1 is broken: spare history --verify" in history.stderr


def test_a_cut_end_is_found_by_the_head(cell: FakeCell, logs: list[ServerLog]) -> None:
    """What is left verifies by itself."""
    logs[0].edit(lambda lines: lines[:3])
    document = json.loads(cell.run("history", "--verify", "-o", "json").stdout)
    assert document["ok"] is False
    assert document["logs"][0]["problems"] == ["records 4 to 6 are missing at its end: it was cut"]


def test_a_cut_end_is_found_by_another_server_if_the_head_was_cut_too(cell: FakeCell, logs: list[ServerLog]) -> None:
    """Whoever changes both files of a server would have to change those of all servers."""
    logs[0].edit(lambda lines: lines[:3])
    number, stated = logs[0].chain.end.number, logs[0].chain.end.stated
    logs[0].head_path.write_text(f"{number:020d} {stated.hex()}\n")
    result = cell.run("history", "--verify")
    assert result.exit_code == 1
    assert "server 0 has nothing behind position 9, server 1 goes on to 15" in result.stdout


@pytest.mark.parametrize("keeps_head", [True, False])
def test_a_log_that_is_not_there_is_told(cell: FakeCell, logs: list[ServerLog], keeps_head: bool) -> None:
    """All servers of a one-machine cell write one."""
    logs[1].path.unlink()
    if not keeps_head:
        logs[1].head_path.unlink()
    document = json.loads(cell.run("history", "--verify", "-o", "json").stdout)
    assert [log["problems"] for log in document["logs"]] == [[], ["it is not there"]]


def test_a_torn_line_is_a_note_before_and_after_the_next_start(cell: FakeCell, logs: list[ServerLog]) -> None:
    """A power cut is no manipulation."""
    for log in logs:
        log.kill(LEFT, standing="returning")
    with logs[0].path.open("ab") as file:
        file.write(b"0123")
    before = cell.run("history", "--verify")
    assert "note: its last line is torn" in before.stdout
    logs[0].run(standing="returning")
    after = cell.run("history", "--verify")
    assert "is a torn line of 5 bytes, as it says itself" in after.stdout
    assert (before.exit_code, after.exit_code) == (0, 0)


def test_a_cell_that_never_ran_has_no_logs(cell: FakeCell) -> None:
    """Nothing to verify is nothing wrong."""
    result = cell.run("history", "--verify")
    assert result.exit_code == 0
    assert "no audit logs on this machine" in result.stderr
    assert json.loads(cell.run("history", "-o", "json").stdout) == {"schema": 1, "changes": [], "generations": {}}
