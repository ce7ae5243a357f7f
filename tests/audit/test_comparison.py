"""Logs of several servers are compared position by position, as far as each claims to know."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replica_manager.audit.chain import read_chain
from replica_manager.audit.changes import changes_of, generations_of
from replica_manager.audit.comparison import compare
from replica_manager.audit.record import (
    CHANGES_DROPPED,
    GENESIS,
    LINE_TORN,
    LOG_OPENED,
    NOTED_KINDS,
    ROLES_READ,
    AuditRecord,
    encode,
)
from tests.audit.logs import FILLED, RETIRED, STARTING, Change, ServerLog, cell_at

SECOND_US = 1_000_000
LATER_US = 1_700_000_000_000_000 + 3600 * SECOND_US
DEMOTED: Change = ("role_changed", {"domain": "s0.g1", "role": "passive", "reason": "demoted", "sequence": 9})


@pytest.fixture
def logs(tmp_path: Path) -> list[ServerLog]:
    """Logs of three servers."""
    return [ServerLog(tmp_path, server) for server in range(3)]


def differences(logs: Sequence[ServerLog], now_us: int = LATER_US) -> Sequence[str]:
    """Compare the logs that there are."""
    return compare({log.server: log.chain for log in logs if log.path.exists()}, now_us)


def joined(sequence: int, *live: int) -> Change:
    data = {"live_servers": live, "f_prime": 1, "threshold": 2, "left_server": None, "sequence": sequence}
    return ("membership_changed", data)


def left(sequence: int, server: int, *live: int) -> Change:
    data = {"live_servers": live, "f_prime": 0, "threshold": 2, "left_server": server, "sequence": sequence}
    return ("membership_changed", data)


def suspected(sequence: int) -> Change:
    return ("domain_suspected", {"domain": "s1.g1", "reason": "late", "sequence": sequence})


def test_equal_logs_agree_at_whatever_times_they_were_written(logs: list[ServerLog]) -> None:
    """Clocks, restarts and what a server says for itself are not compared."""
    logs[1].now_us += 5000
    logs[0].run(RETIRED, STARTING, ("vote_contradicts", {"domain": "s0.g1", "sequence": 4}))
    logs[0].run(FILLED, standing="returning")
    for log in logs[1:]:
        log.run(RETIRED, STARTING, FILLED)
    assert differences(logs) == []


def test_two_servers_that_contradict_each_other_are_named_with_what_they_say(logs: list[ServerLog]) -> None:
    """Each log is whole by itself: only one of them can be right."""
    logs[0].run(RETIRED, FILLED)
    logs[1].run(DEMOTED, FILLED)
    logs[2].run(RETIRED, FILLED)
    (words,) = differences(logs)
    assert words == (
        "position 9: server 0, server 2 say (role changed: domain s0.g1, reason convicted: differs, role retired);"
        " server 1 says (role changed: domain s0.g1, reason demoted, role passive)"
    )


def test_a_change_that_one_log_lacks_between_others_is_missing(logs: list[ServerLog]) -> None:
    """A forged chain without it is whole by itself."""
    logs[0].run(RETIRED, STARTING, FILLED)
    logs[1].run(RETIRED, FILLED)
    assert len(differences(logs)) == 1
    assert "server 1 says nothing" in differences(logs)[0]
    assert differences(logs)[0].startswith("position 12: server 0 says")


def test_several_changes_at_one_position_are_compared_as_a_whole(logs: list[ServerLog]) -> None:
    """A server that leaves takes its domains with it."""
    more: Change = ("role_changed", {"domain": "s1.g1", "role": "retired", "reason": "server 1 left", "sequence": 20})
    logs[0].run(more, left(20, 1, 0))
    logs[1].run(left(20, 1, 0))
    assert len(differences(logs)) == 1


def test_what_a_snapshot_covered_is_not_expected(logs: list[ServerLog]) -> None:
    """A learner's log names what it was not told; behind it everything is compared again."""
    logs[0].run(RETIRED, STARTING, FILLED, suspected(30), suspected(40))
    learner = logs[1].start("learning")
    learner.skip_to(cell_at(25))
    learner.note(*suspected(40))
    learner.close()
    assert [words.partition(":")[0] for words in differences(logs)] == ["position 30"]


def test_after_a_loss_that_the_operator_accepted_positions_may_have_other_contents(logs: list[ServerLog]) -> None:
    """`cell up --accept-loss`: the order goes on from where a log ended."""
    logs[0].run(RETIRED, suspected(10))
    logs[1].run(RETIRED)
    for log in logs[:2]:
        it = log.start("returning", is_loss=True)
        it.note("domain_suspected", {"domain": "s0.g2", "reason": "late", "sequence": 10})
        it.note(*suspected(11 + log.server))
        it.note(*FILLED)
        it.close()
    assert [words.partition(":")[0] for words in differences(logs)] == ["position 11", "position 12"]


def test_a_log_that_ends_early_is_told_if_its_server_lives(logs: list[ServerLog]) -> None:
    """Cut at its end, or killed and not back: the sentence says both."""
    logs[0].run(RETIRED, STARTING, FILLED)
    logs[1].kill(RETIRED)
    (words,) = differences(logs)
    assert words == (
        "server 1 has nothing behind position 9, server 0 goes on to 15: its log was cut, or its process was killed"
        " and has not started again"
    )


def close_in_order(log: ServerLog) -> None:
    log.run(RETIRED)


def be_gone(log: ServerLog) -> None:
    log.kill(RETIRED)


@pytest.mark.parametrize(
    ("end", "others"),
    [
        (close_in_order, [RETIRED, STARTING]),
        (be_gone, [RETIRED, STARTING, left(20, 1, 0, 2)]),
        (be_gone, [RETIRED]),
    ],
    ids=["it ended in good order", "it left later", "nothing came behind"],
)
def test_nothing_is_expected_of_a_server_that_is_known_to_be_away(
    logs: list[ServerLog], end: Callable[[ServerLog], None], others: list[Change]
) -> None:
    """A log ends where its server ended."""
    logs[0].run(*others)
    end(logs[1])
    assert differences(logs) == []


def test_a_server_that_left_and_joined_is_expected_again(logs: list[ServerLog]) -> None:
    """From where it joined on."""
    logs[0].run(RETIRED, left(20, 1, 0, 2), joined(30, 0, 1, 2), suspected(40))
    logs[1].kill(RETIRED)
    assert len(differences(logs)) == 1


def test_a_few_seconds_are_no_contradiction(logs: list[ServerLog]) -> None:
    """A cell that runs: one server is ahead, another one is in the middle of a position."""
    logs[0].run(RETIRED, STARTING, ("domain_suspected", {"domain": "s1.g1", "reason": "late", "sequence": 12}))
    logs[1].kill(RETIRED, STARTING)
    assert differences(logs, logs[1].now_us + SECOND_US // 2) == []
    assert len(differences(logs)) == 1


def test_lives_of_a_cell_are_compared_apart(logs: list[ServerLog]) -> None:
    """After `--fresh` positions begin anew; a start that came to nothing is no life."""
    logs[0].run(RETIRED, FILLED)
    logs[0].run()
    logs[0].run(DEMOTED, FILLED)
    logs[1].run(RETIRED, FILLED)
    logs[1].run(DEMOTED, FILLED)
    assert differences(logs) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ("since", "through", "live_servers", "roles", "standing", "is_loss_accepted", "offset", "bytes", "domain", "role")
)
RECORDS = st.tuples(
    st.sampled_from(sorted(NOTED_KINDS | {ROLES_READ, LOG_OPENED, LINE_TORN, CHANGES_DROPPED, "of a later version"})),
    st.integers(-1, 20),
    st.dictionaries(KEYS, JSON, max_size=6),
)


@given(st.lists(RECORDS, max_size=6), st.lists(RECORDS, max_size=6))
@example([("membership_changed", 0, {"since": None, "through": None, "live_servers": True})], [])
@settings(max_examples=100, deadline=None)
def test_records_of_any_content_are_read(
    first: list[tuple[str, int, dict[str, Any]]], second: list[tuple[str, int, dict[str, Any]]]
) -> None:
    """Whoever may write a file may compute its hashes: nothing in it ends what reads it."""
    chains = {}
    for server, rows in enumerate((first, second)):
        content, previous = b"", GENESIS
        for number, (kind, position, data) in enumerate(rows, 1):
            line, previous = encode(AuditRecord(number, 1, server, kind, position, data), previous)
            content += line
        chains[server] = read_chain(content, server)
        assert len(chains[server].records) == len(rows)
    compare(chains, LATER_US)
    changes_of(chains)
    generations_of(chains)
