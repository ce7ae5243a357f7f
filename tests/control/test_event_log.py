"""Events are numbered, bounded, kept over restarts, and never lost silently."""

import json
import os
import time
from pathlib import Path

import pytest

from replica_manager.control.event_file import EventFile
from replica_manager.control.event_log import FILE_FAILED, SUPPRESSED, EventLog
from replica_manager.control.event_rate import KINDS_MAX, EventRate


class HandClock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


def lines_of(path: Path) -> list[dict[str, object]]:
    """Decode an event file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_have_ascending_ids_a_sentence_and_plain_data() -> None:
    """Bytes are hexadecimal, so that a digest can be compared by eye; long values are cut."""
    log = EventLog(1, HandClock())
    log.record("server_left", server=0, fenced=False)
    log.record("vote_differs", digest=b"\x01\xff", names=["a", b"\x02"], long="x" * 99_999, text="s0.g1 differs")
    first, second = log.since(0, 10)
    assert (first.id, first.server, first.text) == (1, 1, "server left: server 0, fenced False")
    assert (second.id, second.text) == (2, "s0.g1 differs")
    assert second.data["digest"] == "01ff"
    assert second.data["names"] == ["a", "02"]
    assert len(second.data["long"]) == 2000
    assert log.newest_id == 2


def test_reader_gets_what_it_has_not_seen_filtered_and_limited() -> None:
    """`since` pages forward; a negative id means the newest."""
    log = EventLog(0, HandClock())
    for number in range(10):
        log.record("even" if number % 2 == 0 else "odd", number=number)
    assert [event.id for event in log.since(3, 2)] == [4, 5]
    assert [event.id for event in log.since(0, 99, ["odd"])] == [2, 4, 6, 8, 10]
    assert [event.id for event in log.since(-1, 3)] == [8, 9, 10]


def test_memory_is_bounded() -> None:
    """The ring forgets the oldest; the ids go on."""
    log = EventLog(0, HandClock(), rate=EventRate(burst=1000), ring_events_max=5)
    for _ in range(20):
        log.record("tick")
    assert [event.id for event in log.since(0, 100)] == [16, 17, 18, 19, 20]


def test_a_flood_of_one_kind_is_counted_and_leaves_room_for_others() -> None:
    """A domain that misbehaves a million times costs one bucket, and its number is told."""
    clock = HandClock()
    log = EventLog(0, clock, rate=EventRate(burst=3, per_second=1))
    for _ in range(1000):
        log.record("garbage")
    log.record("server_left")
    assert [event.kind for event in log.since(0, 100)] == ["garbage"] * 3 + ["server_left"]
    clock.now_us += 11_000_000
    log.record("garbage")
    newest = log.since(4, 100)
    assert [(event.kind, event.data) for event in newest] == [
        ("garbage", {}),
        (SUPPRESSED, {"of_kind": "garbage", "count": 997}),
    ]


def test_suppressed_events_are_told_at_the_end_and_to_a_reader() -> None:
    """Nothing is lost silently, even if the kind never comes back."""
    clock = HandClock()
    log = EventLog(0, clock, rate=EventRate(burst=1, per_second=1))
    for _ in range(5):
        log.record("garbage")
    clock.now_us += 10_000_000
    assert [event.kind for event in log.since(0, 9)] == ["garbage", SUPPRESSED]
    log.record("garbage")
    log.record("garbage")
    log.close()
    assert log.since(3, 9)[-1].data == {"of_kind": "garbage", "count": 1}


def test_a_clock_that_steps_back_admits_nothing_more_and_breaks_nothing() -> None:
    """The wall clock is the operator's; the bucket only ever counts time that passed."""
    rate = EventRate(burst=1, per_second=1)
    assert rate.admits("x", 5_000_000)
    assert not rate.admits("x", 1_000_000)
    assert rate.admits("x", 2_000_001)


def test_kinds_beyond_the_bound_share_one_bucket() -> None:
    """Memory stays bounded whatever names come."""
    rate = EventRate(burst=1)
    assert all(rate.admits(f"kind {number}", 0) for number in range(KINDS_MAX))
    assert rate.admits("one more", 0)
    assert not rate.admits("and one more", 0)


def test_file_has_every_event_and_ids_go_on_after_a_restart(tmp_path: Path) -> None:
    """The file is private: events may name clients."""
    path = tmp_path / "log" / "events.jsonl"
    log = EventLog(0, HandClock(), EventFile(path))
    log.record("started")
    log.record("stopped")
    log.close()
    again = EventLog(0, HandClock(), EventFile(path))
    again.record("started")
    again.close()
    assert [line["id"] for line in lines_of(path)] == [1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_half_written_last_line_does_not_swallow_the_next_event(tmp_path: Path) -> None:
    """A process killed in the middle of a write leaves a line without an end."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"id":7,"at_us":1,"server":0,"kind":"a","text":"a","data":{}}\n{"id":8,"at')
    log = EventLog(0, HandClock(), EventFile(path))
    log.record("b")
    log.close()
    assert json.loads(path.read_text().splitlines()[-1])["id"] == 8


def test_files_are_rotated_and_bounded(tmp_path: Path) -> None:
    """The newest events are always on disk; the oldest file goes."""
    path = tmp_path / "events.jsonl"
    log = EventLog(0, HandClock(), EventFile(path, bytes_max=1000, files_kept=2), rate=EventRate(burst=10_000))
    for number in range(200):
        log.record("tick", number=number)
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    ids = [line["id"] for file in reversed(files) for line in lines_of(file)]
    assert ids == list(range(ids[0], 201))
    again = EventFile(path)
    assert again.next_id == 201
    again.close()


def test_a_full_disk_is_an_event_and_not_an_end() -> None:
    """/dev/full refuses every write like a full disk; recording goes on in memory and is told once."""
    log = EventLog(0, HandClock(), EventFile(Path("/dev/full")), rate=EventRate(burst=1000))
    for _ in range(150):
        log.record("tick")
    kinds = [event.kind for event in log.since(0, 1000)]
    assert kinds.count("tick") == 150
    assert kinds.count(FILE_FAILED) == 1
    assert log.file_errors == 151
    log.close()


def test_watchers_hear_of_every_event_until_they_leave() -> None:
    """`spare events -f` waits without polling."""
    log = EventLog(0, HandClock())
    heard: list[int] = []
    leave = log.watch(lambda: heard.append(log.newest_id))
    log.record("a")
    log.record("b")
    leave()
    log.record("c")
    assert heard == [1, 2]


@pytest.mark.parametrize("is_flood", [False, True])
def test_recording_is_cheap(tmp_path: Path, is_flood: bool) -> None:
    """Less than 100 µs of CPU for an event with its line in the file, far less for one that is refused."""
    rate = EventRate(burst=1 if is_flood else 100_000)
    log = EventLog(0, lambda: 0, EventFile(tmp_path / "events.jsonl"), rate)
    started = time.process_time()
    for number in range(5000):
        log.record("refresh", domain="s0.g2", updates=number, duration_ms=1.5)
    spent_us = (time.process_time() - started) * 1e6 / 5000
    log.close()
    assert spent_us < (10 if is_flood else 100)
    assert os.path.getsize(tmp_path / "events.jsonl") > 0
