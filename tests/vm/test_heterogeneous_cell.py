"""A cell whose servers share no server program, kernel or Python serves users, and its replicas agree on every byte.

Source: SPARE §4.6.2 (heterogeneous replicas).  The long run: `python -m benchmarks.heterogeneous`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.heterogeneous import IMAGES, HeterogeneousSettings, run_heterogeneous
from benchmarks.live_recording import LiveSettings
from benchmarks.machine_traces import left_behind, machine_traces
from images.catalog import Catalog
from replica_manager.recording.recording_file import Recording

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(3600)]

DOMAINS = {"s0.g1", "s0.g2", "s1.g1", "s1.g2"}
CELL_NAME = "t-heterogeneous"
LIVE = LiveSettings(clients=10, requests=400, first_checkpoint_requests=150)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the files of the one run."""
    return tmp_path_factory.mktemp("heterogeneous")


@pytest.fixture(scope="module")
def report(place: Path, catalog: Catalog) -> dict[str, Any]:
    """Some hundred interactions of the bidding mix on a cell of MariaDB and PostgreSQL."""
    traces = machine_traces(str(place), CELL_NAME)
    report = run_heterogeneous(HeterogeneousSettings(place, catalog.directory, LIVE, CELL_NAME))
    assert not left_behind(traces, machine_traces(str(place), CELL_NAME))
    return report


def test_replicas_of_different_software_never_disagree(report: dict[str, Any], place: Path) -> None:
    """Each server boots its own image; no request fails, and no vote differs."""
    booted_from = {domain: image.rpartition("-")[0] for domain, image in report["domain_images"].items()}
    assert booted_from == {domain: IMAGES[int(domain[1])] for domain in DOMAINS}
    assert report["interactions"] >= LIVE.requests
    assert report["failed_interactions"] == 0
    assert report["disagreements"] == {}
    assert report["modifying_requests"] > 10
    assert report["problems"] == []
    assert json.loads((place / "report.json").read_text())["problems"] == []


def test_the_states_of_all_domains_are_equal_under_load_and_at_the_end(report: dict[str, Any]) -> None:
    """Executed states and applied ones, of both databases; and the users did change something in between."""
    first, last = report["checkpoints"]
    for checkpoint in (first, last):
        assert checkpoint["digests"].keys() == DOMAINS
        assert len(set(checkpoint["digests"].values())) == 1
    assert first["point"] < last["point"]
    assert first["digests"]["s0.g1"] != last["digests"]["s0.g1"]


def test_both_servers_recorded_the_same_replies_and_updates(report: dict[str, Any], place: Path) -> None:
    """What was agreed is in the recordings of both, for `benchmarks.replay`."""
    recordings = [Recording(place / "recordings" / f"s{server}.recording") for server in range(2)]
    requests = [list(recording.requests()) for recording in recordings]
    assert requests[0] == requests[1]
    assert len(requests[0]) == report["agreed_requests"] >= LIVE.requests
