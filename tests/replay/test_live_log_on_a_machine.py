"""The beginning of a log that was recorded live, executed again in a real virtual machine that was just booted."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.live_recording import LiveSettings, native_cell, record_live
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


@pytest.fixture
def image() -> Image:
    """The auction site as a virtual machine; its data set is that of the native cell."""
    assert os.geteuid() == 0, "virtual machines need root: run the tests as root"
    return build("rubis-mariadb", Catalog(PROJECT_ROOT / "var" / "images"), lambda progress: None)


@pytest.fixture
def _machine_for_itself() -> Iterator[None]:
    """Another run of tests with virtual machines ends first."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("_machine_for_itself")
def test_a_freshly_booted_machine_gives_the_same_bytes(image: Image, tmp_path: Path) -> None:
    """Recorded from child processes, replayed in a guest: nothing of the place gets into replies, updates or state."""
    with native_rubis(DatabaseKind.MARIADB) as rubis:
        live = record_live(native_cell(tmp_path, rubis, f"replay-{os.getpid()}"), SETTINGS, print)
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
