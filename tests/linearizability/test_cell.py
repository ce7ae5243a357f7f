"""A real cell of processes under the recording load: what its clients see is linearizable, also when things die."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.linearizability.checker import Linearizable, check
from benchmarks.linearizability.load import RecordingSettings, record
from benchmarks.linearizability.model import KeyValueModel
from benchmarks.linearizability.recorded import read_history
from benchmarks.null_cell import NullCell, null_cell
from replica_manager.config_addresses import parse_address

pytestmark = pytest.mark.slow

REQUESTS_BEFORE = 300
REQUESTS_AFTER = 300
PATIENCE_S = 120.0

Kill = Callable[[NullCell], int]
"""Returns the process that is to die."""


async def load_and_kill(cell: NullCell, path: Path, kill: Kill) -> Counter[str]:
    """Load the cell, kill a process in the middle, load it on."""
    victim = kill(cell)
    settings = RecordingSettings(
        [(address.host, address.port) for address in map(parse_address, cell.addresses)],
        clients=10,
        keys=5,
        session_s=PATIENCE_S,
        requests_max=REQUESTS_BEFORE + REQUESTS_AFTER,
        pause_s=0.005,
    )
    load = asyncio.create_task(record(settings, path))
    while not load.done() and replies_in(path) < REQUESTS_BEFORE:
        await asyncio.sleep(0.02)
    assert not load.done(), "the kill is to come in the middle"
    os.kill(victim, signal.SIGKILL)
    return await load


def replies_in(path: Path) -> int:
    return path.read_bytes().count(b'"replied"') if path.exists() else 0


@pytest.mark.parametrize(
    ("kill", "has_lost_connections"),
    [
        pytest.param(lambda cell: cell.domain_pid("s0.g1"), False, id="a-domain"),
        pytest.param(lambda cell: cell.manager_pid(1 - cell.leader()), True, id="a-following-server"),
        pytest.param(lambda cell: cell.manager_pid(cell.leader()), True, id="the-leading-server"),
    ],
)
def test_a_process_is_killed_under_load_and_the_history_is_linearizable(
    tmp_path: Path, kill: Kill, has_lost_connections: bool
) -> None:
    """And with one fault of `f = 1` every request is answered in the end.

    Source: design "Fault model and promises".
    """
    path = tmp_path / "history.jsonl"
    with null_cell(tmp_path / "cell", lambda _: None) as cell:
        counts = asyncio.run(load_and_kill(cell, path, kill))
    assert counts["answered"] == counts["sent"] >= REQUESTS_BEFORE + REQUESTS_AFTER
    assert (counts["moved"] > 0) == has_lost_connections, counts
    verdict = check(read_history(path), KeyValueModel())
    assert isinstance(verdict, Linearizable), verdict.explain()
