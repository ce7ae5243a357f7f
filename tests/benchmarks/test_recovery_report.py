"""The report of `spare bench recovery`: bars, tables, pictures, cells."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.load_process import LoadResult
from benchmarks.recovery_bars import MIB, bars
from benchmarks.recovery_benchmark import summary_lines
from benchmarks.recovery_phases import PHASES
from benchmarks.recovery_plots import plot_report
from benchmarks.recovery_run import seldom
from benchmarks.recovery_session import series
from benchmarks.recovery_windows import Window

SECOND = 1_000_000
DOMAINS = ["s0.g1", "s0.g2", "s1.g1", "s1.g2"]


def recovery(number: int, began_s: int, **values: Any) -> dict[str, Any]:
    """Return the row of a recovery of 25 s."""
    row = {
        "number": number,
        "kind": "lightweight",
        "is_complete": True,
        "began_us": began_s * SECOND,
        "ended_us": (began_s + 25) * SECOND,
        "duration_s": 25.0,
        "phases_s": dict.fromkeys(PHASES, 5.0),
        "throughput_before_rps": 20.0,
        "throughput_rps": 19.0,
        "throughput_ratio": 0.95,
        "slowest_reply_ms": 900.0,
    }
    return row | values


def load_series(rows: list[dict[str, Any]], failed: int = 0) -> dict[str, Any]:
    """Return two minutes of twenty replies a second."""
    replies = [(n * SECOND // 20, 40.0 + n % 7) for n in range(2400)]
    result = LoadResult.of(replies, [(0, "timeout")] * failed)
    return series(result, Window(0, 120 * SECOND), rows)


def document(**half: Any) -> dict[str, Any]:
    """Return a report with everything in it."""
    rows = [recovery(1, 10), recovery(2, 70, throughput_ratio=0.9, slowest_reply_ms=1_500.0)]
    state = {
        "state_bytes": 256 * MIB,
        "duration_s": 500.0,
        "is_complete": True,
        "phases_s": dict.fromkeys(PHASES, 100.0),
        "manager_peak_bytes": {"manager 0": 200 * MIB, "manager 1": 180 * MIB},
    }
    return {
        "settings": {"session": {"recoveries": 2}},
        "load": {
            "saturation_rps": 40.0,
            "load_rps": 20.0,
            "served_at_start": DOMAINS,
            "half": {**load_series(rows), **half},
            "checkpoint": {"point": 9, "digests": {f"s{n % 2}.g{n}": "ab" for n in range(4)}},
            "left_of_them": [],
            "saturated": load_series([recovery(3, 20)]),
        },
        "large_state": state,
    }


def missed(report: dict[str, Any], driver: str = "libvirt") -> list[str]:
    """Return the names of the bars that are missed."""
    return [bar["name"] for bar in bars(report, driver) if not bar["is_met"]]


def test_a_good_run_meets_every_bar() -> None:
    assert missed(document()) == []
    assert len(bars(document(), "libvirt")) == 9


def test_the_worst_recovery_counts() -> None:
    half = document()["load"]["half"]
    assert (half["throughput_ratio"], half["slowest_reply_ms"]) == (0.9, 1_500.0)


@pytest.mark.parametrize(
    ("half", "bar"),
    [
        ({"failed_requests": 1}, "failed_requests"),
        ({"throughput_ratio": 0.849}, "throughput_ratio"),
        ({"slowest_reply_ms": 2_000.1}, "slowest_reply_ms"),
        ({"recoveries": [recovery(1, 10)]}, "complete_recoveries"),
        ({"recoveries": [recovery(1, 10), recovery(2, 70, is_complete=False)]}, "complete_recoveries"),
        ({"recoveries": [recovery(1, 10), recovery(2, 70, kind="resilient")]}, "complete_recoveries"),
    ],
)
def test_each_bar_of_the_load_is_missed_alone(half: dict[str, Any], bar: str) -> None:
    assert missed(document(**half)) == [bar]


@pytest.mark.parametrize(
    ("digests", "left", "bar"),
    [
        ({"s0.g4": "ab", "s0.g5": "ab", "s1.g4": "ab", "s1.g5": "cd"}, [], "states"),
        ({"s0.g4": "ab", "s1.g4": "ab"}, [], "states"),
        (dict.fromkeys(DOMAINS, "ab"), ["the disk of s0.g1"], "left_of_first_domains"),
    ],
)
def test_the_cell_at_the_end_has_bars_too(digests: dict[str, str], left: list[str], bar: str) -> None:
    """All domains gave one state, and those of the beginning are gone with their disks."""
    report = document()
    report["load"]["checkpoint"]["digests"] = digests
    report["load"]["left_of_them"] = left
    assert missed(report) == [bar]


@pytest.mark.parametrize(
    ("state", "bar"),
    [
        ({"is_complete": False}, "large_state_complete"),
        ({"duration_s": 600.1}, "large_state_s"),
        ({"manager_peak_bytes": {"manager 0": 10 * MIB, "manager 1": 251 * MIB}}, "manager_peak_mib"),
    ],
)
def test_a_large_state_has_bars_for_time_and_memory(state: dict[str, Any], bar: str) -> None:
    report = document()
    report["large_state"] |= state
    assert missed(report) == [bar]


def test_child_processes_have_no_bar_for_times_and_rates() -> None:
    slow = document(throughput_ratio=0.1, slowest_reply_ms=9_000.0)
    slow["large_state"]["duration_s"] = 900.0
    assert missed(slow, "subprocess") == []


def test_the_saturated_recovery_has_no_bar() -> None:
    report = document()
    report["load"]["saturated"] |= {"failed_requests": 5, "throughput_ratio": 0.1}
    assert missed(report) == []


def test_what_was_not_measured_has_no_bar() -> None:
    assert bars({"settings": {"session": {"recoveries": 2}}}, "libvirt") == []


def test_failed_requests_are_counted_and_told() -> None:
    found = load_series([], failed=30)
    assert (found["requests"], found["failed_requests"], len(found["failures"])) == (2430, 30, 20)


def test_the_summary_has_a_line_for_every_recovery_and_a_sentence_for_every_bar() -> None:
    report = document(slowest_reply_ms=2_500.0)
    text = "\n".join(summary_lines({**report, "bars": bars(report, "libvirt")}))
    for words in (
        "saturation 40.0/s, load 20.0/s",
        "half         20.0/s before,   19.0/s during (95%), slowest    900 ms; 25.0 s (boot 5.0,",
        "  saturated ",
        "MISSED: the slowest reply during a recovery took 2500 ms (bar: at most 2000 ms)",
        "reached: of 4 domains that served at the start, and of their disks, is left: nothing (bar: nothing)",
        "a state of 256 MiB: 500.0 s (boot 100.0,",
    ):
        assert words in text


def test_the_pictures_are_written_beside_the_report(tmp_path: Path) -> None:
    """All recoveries, the one with the slowest reply, and the one at saturation."""
    files = plot_report(document(), tmp_path)
    assert [file.name for file in files] == ["recoveries.png", "recovery.png", "saturated.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_a_report_without_load_has_no_picture(tmp_path: Path) -> None:
    assert plot_report({"large_state": document()["large_state"]}, tmp_path) == []


def test_progress_is_told_when_the_stage_changes() -> None:
    """Every part of a state would be a line otherwise."""
    told: list[str] = []
    tell = seldom(told.append)
    for line in ("booting: s0", "booting: s1", "filling: 1 of 9", "filling: 2 of 9", "switching: s0"):
        tell(line)
    assert told == ["booting: s0", "filling: 1 of 9", "switching: s0"]
