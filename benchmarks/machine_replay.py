"""`make replay`: a log recorded live from real virtual machines, executed again in a freshly booted one.

Two servers, a witness and four machines serve 20 emulated users; then one more machine gets the whole log.
Writes `report.json`; the recordings stay beside it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.live_recording import LiveSession, LiveSettings, machine_cell, record_live
from benchmarks.replay import ReplayReport, replay, summary_line
from benchmarks.replay_domain import MachineSource
from images.build import build
from images.catalog import Catalog, Image
from replica_manager.event_loop import run as run_event_loop
from replica_manager.hypervisor.selection import preload_libvirt
from replica_manager.recording.recording_file import Recording

IMAGE = "rubis-mariadb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if no request failed and everything is equal, otherwise 1."""
    options = _parser().parse_args(arguments)
    settings = LiveSettings(clients=options.clients, requests=options.requests, seed=options.seed)
    preload_libvirt()  # the replay starts no machine if libvirt is loaded after an event loop has run
    before = environment()
    _say(f"image {IMAGE}: building what is missing")
    image = build(IMAGE, Catalog(options.images), lambda progress: None)
    config = machine_cell(options.directory, [image.image_id] * 2, options.images.resolve(), "replay")
    session = record_live(config, settings, _say)
    _say(f"recorded {session.requests} requests in {session.session_s:.0f} s, {session.failed_requests} failed")
    result = _replay(options.directory, session, image, options.images)
    report = {**before, **_document(settings, session, result)}
    (options.directory / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
    for difference in result.differences:
        _say(f"{difference.what} of {difference.sequence} differs: {difference.text}")
    _say(summary_line(result))
    is_good = result.is_equal and not session.failed_requests and result.requests >= settings.requests
    return 0 if is_good else 1


def _replay(directory: Path, session: LiveSession, image: Image, images: Path) -> ReplayReport:
    recording = Recording(session.recordings[0])
    source = MachineSource(image.image_id, images)
    return run_event_loop(replay(recording, source, directory / "replay", _say))


def _document(settings: LiveSettings, session: LiveSession, result: ReplayReport) -> dict[str, Any]:
    live = {
        **asdict(session),
        "settings": asdict(settings),
        "throughput_rps": round(session.requests / session.session_s, 1),
        "recording_bytes": [path.stat().st_size for path in session.recordings],
    }
    return {"live": live, "replay": result.to_json()}


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.machine_replay", description="Record live, then replay.")
    parser.add_argument("--directory", type=Path, default=Path("var/replay"), help="report, recordings, scratch files")
    parser.add_argument("--images", type=Path, default=Path("var/images"), help="the image directory")
    parser.add_argument("--requests", type=int, default=5000, help="at least so many are recorded")
    parser.add_argument("--clients", type=int, default=20, help="emulated users")
    parser.add_argument("--seed", type=int, default=1, help="of the emulated users")
    return parser


if __name__ == "__main__":
    sys.exit(main())
