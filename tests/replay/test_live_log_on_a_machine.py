"""The beginning of a log that was recorded live, executed again in real virtual machines that were just booted."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.live_recording import LiveSession, LiveSettings, native_cell, record_live
from benchmarks.native_rubis import native_rubis
from images.build import build
from images.catalog import Catalog, Image
from images.overlay import PROJECT_ROOT
from replica_manager.recording.recording_file import Recording
from rubis_adapter.tiers.service_processes import DatabaseKind
from tests.replay.replay_command import ReplayCommand

pytestmark = [pytest.mark.vm, pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(3600)]

SETTINGS = LiveSettings(clients=20, requests=300, first_checkpoint_requests=100)
LOCK = PROJECT_ROOT / "var" / "vm-tests.lock"


@pytest.fixture(scope="module", autouse=True)
def _machine_for_itself() -> Iterator[None]:
    """Another run of tests with virtual machines ends first."""
    assert os.geteuid() == 0, "virtual machines need root: run the tests as root"
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveSession:
    """Recorded from child processes on MariaDB."""
    directory = tmp_path_factory.mktemp("live")
    with native_rubis(DatabaseKind.MARIADB) as rubis:
        return record_live(native_cell(directory, rubis, f"replay-{os.getpid()}"), SETTINGS, print)


@pytest.fixture(params=["rubis-mariadb", "rubis-postgres"])
def image(request: pytest.FixtureRequest) -> Image:
    """The auction site as a virtual machine, on either database; its data set is that of the native cell."""
    return build(request.param, Catalog(PROJECT_ROOT / "var" / "images"), lambda progress: None)


def test_a_freshly_booted_machine_gives_the_same_bytes(live: LiveSession, image: Image, tmp_path: Path) -> None:
    """Nothing of the place, of the release or of the database gets into replies, updates or state."""
    recording = Recording(live.recordings[0])
    options = ("--image", image.image_id, "--images", str(PROJECT_ROOT / "var" / "images"))
    command = ReplayCommand(live.recordings[0], tmp_path / "report.json", *options)
    try:
        result = command.result()
    finally:
        command.close()
    assert result["image"] == image.image_id
    assert result["requests"] == recording.request_count >= SETTINGS.requests
    assert result["modifying_requests"] > 0
    assert list(result["states"].values()) == [one.digests["s0.g1"].hex() for one in recording.checkpoints]
    assert len(result["states"]) == 2
