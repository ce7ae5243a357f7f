"""Ending another server of this machine: whoever it is, nothing of it runs on."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from replica_manager.cell_paths import CellPaths
from replica_manager.control.local_fence import fence_local, lock_holders
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.control.processes import identify

LOG_OWNER = """
import sys, time
from pathlib import Path
from agreement.storage import Put
from replica_manager.ordering.stable_log import SqliteStableStorage
storage = SqliteStableStorage(Path(sys.argv[1]))
storage.write([Put(b"k", b"v")])
print("open", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def paths() -> Iterator[CellPaths]:
    """The paths of a cell that has nothing yet."""
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        yield CellPaths(Path(directory) / "state", Path(directory) / "run")


def test_a_recorded_manager_is_killed_even_if_it_is_frozen(paths: CellPaths) -> None:
    """It would wake up as a member of an old configuration."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        identity = identify(process.pid)
        assert identity is not None
        ProcessRecords(paths.processes).write(ProcessRecord("server", 1, identity, "", 0))
        os.kill(process.pid, 19)
        assert fence_local(paths, 1) == ""
        assert process.wait(60) == -9


def test_only_that_server_is_ended(paths: CellPaths) -> None:
    """Its number decides."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        identity = identify(process.pid)
        assert identity is not None
        ProcessRecords(paths.processes).write(ProcessRecord("server", 0, identity, "", 0))
        assert fence_local(paths, 1) == ""
        assert process.poll() is None
        process.kill()


def test_a_manager_that_was_started_by_hand_is_found_by_its_log(paths: CellPaths) -> None:
    """It is on no record, but only one process can have the log."""
    log = paths.state("server", 1) / "agreement.db"
    log.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", LOG_OWNER, log], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        assert lock_holders(log) == [process.pid]
        assert fence_local(paths, 1) == ""
        assert process.wait(60) == -9
    assert lock_holders(log) == []


def test_a_server_of_which_nothing_is_left_is_fenced_already(paths: CellPaths) -> None:
    """A crash is what fencing wants to bring about."""
    assert fence_local(paths, 1) == ""
