"""Which events call the operator, how often, and that a bad command hurts nobody."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replica_manager import event_loop
from replica_manager.config import AlarmSection
from replica_manager.control.alarm_hook import AlarmHook
from replica_manager.control.alarms import AlarmRate, alarm_of
from replica_manager.control.command_run import run_command
from replica_manager.control.event_log import EventLog
from replica_manager.control.processes import identify

Runner = Callable[[Any], Any]
RUNNERS: list[Runner] = [asyncio.run, event_loop.run]
"""asyncio's own loop, and the one that managers run in."""


@pytest.mark.parametrize(
    ("event", "data", "alarm"),
    [
        ("membership_changed", {"left_server": 1}, "server_left"),
        ("membership_changed", {"left_server": None}, None),
        ("role_changed", {"reason": "convicted: differs"}, "domain_convicted"),
        ("role_changed", {"reason": "demoted"}, None),
        ("repair_retried", {"attempt": 1}, None),
        ("repair_retried", {"attempt": 2}, "repair_failing"),
        ("domain_gone", {"reason": "it could not be booted: no space"}, "repair_failing"),
        ("domain_gone", {"reason": "killed by SIGKILL"}, None),
        ("member_ended", {"restart_in_s": 1.0}, "member_ended"),
        ("member_ended", {}, None),
        ("refreshed", {}, None),
    ],
)
def test_an_event_raises_an_alarm_only_if_a_person_has_to_know(
    event: str, data: dict[str, Any], alarm: str | None
) -> None:
    """The one list."""
    assert alarm_of(event, data) == alarm


def test_the_same_alarm_is_told_again_only_after_its_interval() -> None:
    """And how many were left out is told with it; other kinds do not wait."""
    rate = AlarmRate(1000)
    assert rate.admit("a", 0) == 0
    assert rate.admit("a", 10) is None
    assert rate.admit("b", 10) == 0
    assert rate.admit("a", 999) is None
    assert rate.admit("a", 1000) == 2
    assert rate.admit("a", 2000) == 0


def script(directory: Path, text: str) -> str:
    """Write a command."""
    path = directory / "command"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def play(settings: AlarmSection, *events: tuple[str, dict[str, Any]]) -> EventLog:
    """Record events with a hook beside; return the log after the hook's end."""

    async def scenario() -> EventLog:
        log = EventLog(3, lambda: 1_700_000_000_000_000)
        hook = AlarmHook(settings, "shop", log)
        for kind, data in events:
            log.record(kind, **data)
        await hook.close()
        return log

    return event_loop.run(scenario())


def test_the_command_gets_kind_server_and_sentence_and_the_event_as_json(tmp_path: Path) -> None:
    """Arguments for a pager, standard input for a program, environment for a script."""
    out = tmp_path / "out"
    command = script(tmp_path, f'echo "$1|$2|$3|$4|$SPARE_CELL_NAME|$SPARE_ALARM|$SPARE_SERVER" > {out}; cat >> {out}')
    play(AlarmSection(command=[command, "--urgent"]), ("request_held", {"sequence": 17}), ("refreshed", {}))
    first, second = out.read_text().splitlines()
    assert first == "--urgent|request_held|3|request held: sequence 17|shop|request_held|3"
    document = json.loads(second)
    assert (document["schema"], document["alarm"], document["server"], document["data"]) == (
        1,
        "request_held",
        3,
        {"sequence": 17},
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [("echo no route; exit 4", "ended with exit code 4: no route"), ("kill -9 $$", "ended by signal 9")],
)
def test_a_command_that_fails_is_an_event(tmp_path: Path, text: str, reason: str) -> None:
    """Not an alarm of its own: that would never end."""
    log = play(AlarmSection(command=[script(tmp_path, text)]), ("storage_failed", {"reason": "full"}))
    (failed,) = log.since(-1, 10, ["alarm_failed"])
    assert failed.data["alarm"] == "storage_failed"
    assert reason in failed.data["reason"]


def test_a_command_that_is_not_there_is_an_event(tmp_path: Path) -> None:
    """The configuration may be right and the program be gone."""
    log = play(AlarmSection(command=[str(tmp_path / "none")]), ("storage_failed", {}))
    (failed,) = log.since(-1, 10, ["alarm_failed"])
    assert "cannot be run" in failed.data["reason"]


@pytest.mark.parametrize("run", RUNNERS)
def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path, run: Runner) -> None:
    """Its children hold its pipe open."""
    command = script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    failure = run(run_command([command], {}, b"", 1.0))
    assert "did not end within 1 s" in failure
    child = int((tmp_path / "child").read_text())
    deadline_s = time.monotonic() + 30
    while identify(child) is not None:  # it was sent SIGKILL, and dies when the system comes to it
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize("run", RUNNERS)
def test_a_command_that_writes_without_end_fills_no_memory(tmp_path: Path, run: Runner) -> None:
    """Only the last words are kept."""
    failure = run(run_command([script(tmp_path, "yes | head -c 3000000; exit 1")], {}, b"", 60.0))
    assert len(failure) < 1000


@pytest.mark.parametrize("run", RUNNERS)
def test_a_command_that_does_not_read_its_input_is_no_failure(tmp_path: Path, run: Runner) -> None:
    """Even if the input is larger than a pipe."""
    assert run(run_command([script(tmp_path, "exit 0")], {}, b"x" * 1_000_000, 60.0)) == ""
