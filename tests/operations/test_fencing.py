"""A cell without witnesses: a silent server is fenced before anybody goes on without it."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.operations.live_cell import LiveCell

pytestmark = pytest.mark.slow


def script(path: Path, text: str) -> Path:
    """Write a command."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_server_is_fenced_and_the_cell_goes_on(make_cell: Callable[..., LiveCell], victim: int) -> None:
    """Whichever it was: the lowest id, or the one that has to wait for its turn."""
    cell = make_cell(witnesses=0, cell='restart = "never"')
    cell.ok("cell", "up")
    cell.kill(f"server {victim}")
    assert cell.put_and_get().endswith(b"1")
    assert [event["data"]["suspect"] for event in cell.events("fenced")] == [victim]
    changed = [event["data"] for event in cell.events("membership_changed")]
    assert [data["left_server"] for data in changed] == [victim]
    assert changed[0]["threshold"] == 1  # a fenced server votes for nothing any more


def test_a_fencing_command_that_fails_blocks_the_cell_and_alarms_until_it_succeeds(
    make_cell: Callable[..., LiveCell], tmp_path: Path
) -> None:
    """No answer is better than two; it is tried again, with server and host as arguments and in the environment."""
    told, works = tmp_path / "told", tmp_path / "works"
    says = 'echo "$# $1 $SPARE_FENCE_SERVER $SPARE_CELL_NAME"'
    fence = script(tmp_path / "fence", f"{says} >> {told}; echo no power; test -e {works}")
    alarm = script(tmp_path / "alarm", f'echo "$@" >> {tmp_path}/alarms\ncat >> {tmp_path}/details')
    cell = make_cell(
        witnesses=0,
        cell=f'restart = "never"\nfencing = "{fence}"',
        rest=f'[alarm]\ncommand = ["{alarm}"]\ninterval_ms = 100\n',
    )
    cell.ok("cell", "up")
    cell.kill("server 1")
    cell.wait("two failures", lambda: len(cell.events("fencing_failed")) >= 2)
    assert cell.is_silent(3.0)
    assert told.read_text().splitlines()[0] == f"2 1 1 {cell.config.cell.name}"
    assert "no power" in cell.events("fencing_failed")[0]["data"]["reason"]
    alarms = tmp_path / "alarms"
    cell.wait(
        "the alarm", lambda: alarms.exists() and "fencing_failed 0 fencing failed: suspect 1" in alarms.read_text()
    )
    assert '"alarm":"fencing_failed"' in (tmp_path / "details").read_text()
    assert "cannot be fenced" in cell.spare("status")[1]
    works.touch()
    assert cell.put_and_get().endswith(b"1")


def test_a_frozen_server_is_ended_before_the_other_goes_on_and_never_answers_again(
    make_cell: Callable[..., LiveCell],
) -> None:
    """The split, as far as processes allow: it would wake up as a member of the old configuration."""
    cell = make_cell(witnesses=0, cell='restart = "never"')
    cell.ok("cell", "up")
    frozen = cell.record("server 1")
    cell.kill("server 1", number=signal.SIGSTOP)
    assert cell.put_and_get().endswith(b"1")
    assert not frozen.is_alive
    assert [event["data"]["suspect"] for event in cell.events("fenced")] == [1]


def test_a_server_that_was_fenced_and_started_again_rejoins(make_cell: Callable[..., LiveCell]) -> None:
    """The keeper starts it; it neither orders nor fences, and comes back as somebody new."""
    cell = make_cell(witnesses=0)
    cell.ok("cell", "up")
    cell.kill("server 0", number=signal.SIGSTOP)
    assert cell.put_and_get().endswith(b"1")
    cell.wait("a new process", lambda: bool(cell.events("member_started")))
    cell.wait_whole()
    assert all(event["server"] == 1 for event in cell.events("fencing_began"))


def test_fencing_none_takes_the_thesis_at_its_word(make_cell: Callable[..., LiveCell]) -> None:
    """Silence is a crash; `cell check` warns of it."""
    cell = make_cell(witnesses=0, cell='restart = "never"\nfencing = "none"')
    assert "a split network splits the cell" in cell.ok("cell", "check")
    cell.ok("cell", "up")
    cell.kill("server 1")
    assert cell.put_and_get().endswith(b"1")
