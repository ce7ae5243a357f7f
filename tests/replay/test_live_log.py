"""An agreed log of thousands of RUBiS requests, recorded live, gives the same bytes in fresh domains.

Source: thesis, section 4.3.1 (deterministic replicas) and 4.10.2 (one representation of the state for all databases).
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.live_recording import LiveSession, LiveSettings, native_cell, record_live
from benchmarks.native_rubis import native_rubis
from replica_manager.recording.recording_file import Recording
from rubis_adapter.tiers.service_processes import DatabaseKind
from tests.replay.replay_command import ReplayCommand

pytestmark = [pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(1800)]

SETTINGS = LiveSettings(clients=20, requests=5000)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSession]:
    """A cell on MariaDB that served 20 users, with a checkpoint among their requests and one at the end."""
    directory = tmp_path_factory.mktemp("live")
    with native_rubis(DatabaseKind.MARIADB) as rubis:
        yield record_live(native_cell(directory, rubis, f"replay-{os.getpid()}"), SETTINGS, print)


def test_the_cell_served_and_its_servers_recorded_the_same(live: LiveSession) -> None:
    """At least 5,000 requests, none failed; the log, replies and updates are those of the cell, not of a server."""
    assert live.requests >= SETTINGS.requests
    assert live.failed_requests == 0
    # Where a checkpoint stands among the requests is each server's own: its prefix may run ahead of the other's.
    recording, other = (Recording(path) for path in live.recordings)
    assert all(one == two for one, two in zip(recording.requests(), other.requests(), strict=True))
    assert recording.checkpoints == other.checkpoints
    assert recording.request_count >= SETTINGS.requests
    assert [one.point for one in recording.checkpoints] == [one.point for one in live.checkpoints]
    for recorded, taken in zip(recording.checkpoints, live.checkpoints, strict=True):
        assert {domain: digest.hex() for domain, digest in recorded.digests.items()} == taken.digests
        assert taken.is_equal
        assert len(taken.digests) == 4, "active and passive domains of both servers"


def test_a_fresh_domain_on_either_database_gives_the_same_bytes(live: LiveSession, tmp_path: Path) -> None:
    """Replies, updates and states; on PostgreSQL too, though the cell ran on MariaDB."""
    recording = Recording(live.recordings[0])
    modifying = sum(bool(one.update) for one in recording.requests())
    with contextlib.ExitStack() as stack:
        commands = []
        for kind in DatabaseKind:
            command = ReplayCommand(live.recordings[0], tmp_path / f"{kind}.json", "--database", kind)
            stack.callback(command.close)
            commands.append(command)
        results = [command.result() for command in commands]
    assert modifying >= 100
    states = {str(one.point): one.digests["s0.g1"].hex() for one in recording.checkpoints}
    for result in results:
        assert (result["requests"], result["modifying_requests"]) == (recording.request_count, modifying)
        assert result["states"] == states
