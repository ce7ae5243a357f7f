"""Histories in files: what is written is read again, whatever interrupted the writer."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.linearizability.operation import Operation
from benchmarks.linearizability.recorded import HistoryError, HistoryWriter, read_history
from exec_wrapper.examples.key_value_commands import OK, encode_field, encode_get, encode_set
from tests.linearizability.histories import overlapping_history

HEADER = '{"format":"spare-history","version":1,"service":"key-value","clock":"monotonic","unit":"ns"}\n'
SENT = '{"event":"sent","id":1,"at":5,"client":"c","payload":"x"}\n'


def write(path: Path, operations: list[Operation]) -> None:
    with HistoryWriter(path) as history:
        for one in operations:
            number = history.sent(one.client, one.payload, one.invoked_ns)
            if one.replied_ns is not None and one.reply is not None:
                history.replied(number, one.reply, one.replied_ns)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every byte of payloads and replies, pending requests included."""
    operations = overlapping_history(random.Random(3), 50, 3, 3, pending_share=0.1)
    operations.append(Operation("all", bytes(range(256)), 1, 2, bytes(range(256))))
    write(tmp_path / "deeper" / "history.jsonl", operations)
    assert read_history(tmp_path / "deeper" / "history.jsonl") == operations


def test_a_request_that_was_surely_not_executed_is_not_in_the_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path) as history:
        history.refused(history.sent("c", b"x", 5), 6)
        history.sent("c", b"y", 7)
    assert read_history(path) == [Operation("c", b"y", 7)]


@given(st.data())
def test_a_writer_that_dies_anywhere_leaves_a_history(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut at any byte, the file is the history of what was sent before, some replies perhaps missing."""
    path = tmp_path_factory.mktemp("cut") / "history.jsonl"
    operations = overlapping_history(random.Random(4), 6, 2, 2)
    write(path, operations)
    whole = path.read_bytes()
    begin = len(HEADER)
    path.write_bytes(whole[: data.draw(st.integers(begin, len(whole)))])
    found = read_history(path)
    for one, original in zip(found, operations, strict=False):
        assert one in (original, Operation(original.client, original.payload, original.invoked_ns))
    assert all(not one.is_pending for one in found[:-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin like a history"),
        ('{"format":"other","version":1}\n', "does not begin like a history"),
        (HEADER.replace('"version":1', '"version":2'), "does not begin like a history"),
        (HEADER + "garbage\n", "line 2.*damaged"),
        (HEADER + SENT.replace('"at":5,', ""), "line 2"),
        (HEADER + SENT + SENT, "line 3: request 1 is sent twice"),
        (HEADER + '{"event":"refused","id":1,"at":5}\n', "line 2: request 1 is not under way"),
        (HEADER + SENT + '{"event":"replied","id":1,"at":4,"reply":""}\n', "answered before it is sent"),
        (HEADER + SENT + 2 * '{"event":"replied","id":1,"at":6,"reply":""}\n', "line 4: request 1 is not under way"),
        (HEADER + SENT.replace('"x"', '"\\u20ac"'), "line 2"),
    ],
)
def test_a_file_that_is_no_history_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(HistoryError, match=message):
        read_history(path)


def judge(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.linearizability", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_says_by_its_exit_code_what_it_found(tmp_path: Path) -> None:
    """0 linearizable, 1 not, 2 no history."""
    good, bad, missing = tmp_path / "good", tmp_path / "bad", tmp_path / "missing"
    write_and_read = [Operation("a", encode_set(b"k", b"v"), 1, 2, OK)]
    write(good, [*write_and_read, Operation("b", encode_get(b"k"), 3, 4, OK + encode_field(b"v"))])
    write(bad, [*write_and_read, Operation("b", encode_get(b"k"), 3, 4, OK + encode_field(b"w"))])
    assert (judge(good).returncode, judge(bad).returncode, judge(missing).returncode) == (0, 1, 2)
    assert "b 3-4 ns: get 'k' → ok 'w'" in judge(bad).stdout
    assert "missing" in judge(missing).stderr
    assert "Traceback" not in judge(missing).stderr
