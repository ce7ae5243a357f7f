"""What `spare history` shows: every change once, generations as they came and went."""

from pathlib import Path

import pytest

from replica_manager.audit.changes import changes_of, generations_of
from tests.audit.logs import FILLED, LEFT, RETIRED, STARTING, ServerLog, cell_at


@pytest.fixture
def logs(tmp_path: Path) -> list[ServerLog]:
    """Logs of two servers."""
    return [ServerLog(tmp_path, server) for server in range(2)]


def shown(logs: list[ServerLog]) -> list[tuple[str, str, tuple[int, ...]]]:
    changes = changes_of({log.server: log.chain for log in logs})
    return [(change.subject, change.what, change.servers) for change in changes]


def test_a_change_is_shown_once_with_the_servers_that_have_it(logs: list[ServerLog]) -> None:
    """In the order in which the first of them recorded it."""
    logs[1].now_us += 10
    logs[0].run(RETIRED, STARTING)
    logs[1].run(RETIRED, LEFT)
    assert shown(logs) == [
        ("s0.g1", "retired", (0, 1)),
        ("s0.g3", "starting", (0,)),
        ("cell", "server 1 left", (1,)),
    ]


def test_the_same_change_in_two_lives_of_the_cell_is_two_changes(logs: list[ServerLog]) -> None:
    """After `--fresh` positions and domains have the same names again."""
    for log in logs:
        log.run(RETIRED)
        log.run(RETIRED, standing="returning")
        log.run(RETIRED)
    assert shown(logs) == [("s0.g1", "retired", (0, 1))] * 2


def test_what_a_log_tells_of_itself_is_shown_with_its_server(logs: list[ServerLog]) -> None:
    """Torn lines of two servers are two."""
    for log in logs:
        log.kill()
        with log.path.open("ab") as file:
            file.write(b"torn")
        log.run(standing="returning")
    assert shown(logs) == [("log", "line torn", (0,)), ("log", "line torn", (1,))]


def test_generations_follow_each_other_with_their_last_role(logs: list[ServerLog]) -> None:
    """Those of the start too, of which no change tells."""
    logs[0].run(RETIRED, STARTING, FILLED)
    found = generations_of({0: logs[0].chain})
    assert [(one.domain, one.role, one.reason) for one in found[0]] == [
        ("s0.g1", "retired", "convicted: differs"),
        ("s0.g2", "passive", "start of the cell"),
        ("s0.g3", "passive", "repaired"),
    ]
    assert found[0][2].first_us < found[0][2].since_us
    assert [one.domain for one in found[1]] == ["s1.g1", "s1.g2"]


def test_a_log_that_lags_does_not_take_a_domain_back(logs: list[ServerLog]) -> None:
    """The position decides, not who was read last."""
    logs[1].now_us += 1_000_000_000
    logs[0].run(RETIRED, STARTING, FILLED)
    logs[1].run(STARTING)
    found = generations_of({log.server: log.chain for log in logs})
    assert [one.role for one in found[0]] == ["retired", "passive", "passive"]


def test_generations_are_those_of_the_present_cell(logs: list[ServerLog]) -> None:
    """A snapshot brings what happened before a learner came."""
    logs[0].run(STARTING)
    cell = cell_at(100)
    list(cell.table.begin(["s0.g7"], "to be filled", 90))
    log = logs[0].start()
    log.skip_to(cell)
    log.close()
    assert [one.domain for one in generations_of({0: logs[0].chain})[0]] == ["s0.g1", "s0.g2", "s0.g7"]
