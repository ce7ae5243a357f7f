"""Processes are ended by identity, whatever they do about it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from replica_manager.control.processes import (
    ProcessIdentity,
    end_all,
    find_processes,
    identify,
    is_alive,
    reap,
    send,
    variable_of,
)

STUBBORN = "import signal,sys; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
POLITE = "import signal,sys; print('ready', flush=True); signal.pause()"
BRIEF = "import sys; print('ready', flush=True); sys.stdin.read()"


class Started:
    """A child and its identity."""

    def __init__(self, program: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        identity = identify(self.process.pid)
        assert identity is not None
        self.identity = identity


@pytest.fixture
def children() -> Iterator[list[Started]]:
    """Children that are gone after the test."""
    started: list[Started] = []
    yield started
    for child in started:
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdin, child.process.stdout):
            assert pipe is not None
            pipe.close()


def test_identity_is_process_id_and_start(children: list[Started]) -> None:
    """A process id that was given to another process is another identity."""
    children.append(Started(POLITE))
    mine = children[0].identity
    assert is_alive(mine)
    assert not is_alive(ProcessIdentity(mine.pid, mine.started_ticks + 1, mine.boot_id))
    assert not is_alive(ProcessIdentity(mine.pid, mine.started_ticks, "another start of the machine"))


def test_another_process_with_the_same_id_gets_no_signal(children: list[Started]) -> None:
    """`spare cell down` after a restart of the machine must not kill a stranger."""
    children.append(Started(POLITE))
    mine = children[0].identity
    stranger = ProcessIdentity(mine.pid, mine.started_ticks - 1, mine.boot_id)
    assert not send(stranger, signal.SIGKILL)
    end_all([stranger], 0.0, lambda _pid: None)
    assert is_alive(mine)


def test_polite_ones_are_asked_stubborn_and_stopped_ones_killed(children: list[Started]) -> None:
    """SIGTERM, patience, SIGKILL; a stopped process takes no SIGTERM."""
    children += [Started(POLITE), Started(STUBBORN), Started(STUBBORN)]
    children[2].process.send_signal(signal.SIGSTOP)
    killed: list[int] = []
    end_all([child.identity for child in children], 1.0, killed.append)
    assert sorted(killed) == sorted([children[1].process.pid, children[2].process.pid])
    assert not any(is_alive(child.identity) for child in children)


def test_an_ended_process_that_nobody_reaped_is_not_alive(children: list[Started]) -> None:
    """The first process of a container may reap slowly; nobody waits for that."""
    children.append(Started(BRIEF))
    assert children[0].process.stdin is not None
    children[0].process.stdin.close()  # only now: before, it may have no identity any more
    os.waitid(os.P_PID, children[0].process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(children[0].identity)
    assert not send(children[0].identity, signal.SIGTERM)
    assert reap(children[0].process.pid) == 0
    assert reap(children[0].process.pid) is None


def test_processes_are_found_by_their_environment(children: list[Started]) -> None:
    """The mark of a cell is inherited by everything that its processes start."""
    children.append(Started(POLITE, SPARE_TEST_MARK="here"))
    pid = children[0].process.pid
    assert variable_of(pid, "SPARE_TEST_MARK") == "here"
    assert variable_of(pid, "SPARE_TEST_MAR") is None
    found = find_processes(lambda proc: b"SPARE_TEST_MARK=here" in (proc / "environ").read_bytes().split(b"\0"))
    assert [identity.pid for identity in found] == [pid]
