"""A cell whose servers run different software: `python -m benchmarks.heterogeneous`.

Server 0 boots `rubis-mariadb`, server 1 `rubis-postgres`: images that share neither kernel, C library and Python nor
any server program.  With one active machine per server every reply that a client gets is one that both gave, byte for
byte, and every update too.  Emulated users of the bidding mix work with the site; two checkpoints, one of them under
load, compare the states of all four machines.  Writes `report.json`; the recordings stay beside it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.live_recording import LiveSession, LiveSettings, machine_cell, record_live
from images.build import build
from images.catalog import Catalog, Image
from replica_manager.recording.recording_file import Recording

IMAGES = ("rubis-mariadb", "rubis-postgres")
"""By server."""
INTERACTIONS = 20_000
SESSION_S_MAX = 6 * 3600.0


@dataclass(frozen=True)
class HeterogeneousSettings:
    """How much, and where."""

    directory: Path
    images: Path
    live: LiveSettings
    cell_name: str = "heterogeneous"


def run_heterogeneous(settings: HeterogeneousSettings) -> dict[str, Any]:
    """Run the cell under load; return the report, which is also written.

    `problems` in it is empty if all machines said the same, no request failed, and all states are equal.

    Raises:
        LiveRecordingFailed: the users ended before the wanted number of interactions.
        ControlError, ImageError, NetworkError: the cell cannot be started; nothing is left behind.
    """
    before = environment()
    built = [_build(name, settings.images) for name in IMAGES]
    server_images = [image.image_id for image in built]
    config = machine_cell(settings.directory, server_images, settings.images.resolve(), settings.cell_name)
    session = record_live(config, settings.live, _say)
    report = {**before, **_document(settings, built, session), "load_average_after": environment()["load_average"]}
    report["problems"] = list(_problems(report))
    (settings.directory / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
    return report


def _build(name: str, images: Path) -> Image:
    _say(f"image {name}: building what is missing")
    return build(name, Catalog(images), lambda progress: None)


def _document(settings: HeterogeneousSettings, images: Sequence[Image], session: LiveSession) -> dict[str, Any]:
    recording = Recording(session.recordings[0])
    return {
        "settings": asdict(settings),
        "server_images": {f"s{server}": image.image_id for server, image in enumerate(images)},
        "domain_images": dict(session.images),
        "interactions": session.requests,
        "failed_interactions": session.failed_requests,
        "agreed_requests": recording.request_count,
        "modifying_requests": sum(bool(request.update) for request in recording.requests()),
        "disagreements": dict(session.disagreements),
        "checkpoints": [
            {"point": one.point, "is_equal": one.is_equal, "digests": dict(one.digests)} for one in session.checkpoints
        ],
        "session_s": round(session.session_s, 1),
        "interactions_per_s": round(session.requests / session.session_s, 2),
    }


def _problems(report: dict[str, Any]) -> Iterator[str]:
    if report["disagreements"]:
        yield f"domains disagreed: {report['disagreements']}"
    if report["failed_interactions"]:
        yield f"{report['failed_interactions']} interactions failed"
    if not report["modifying_requests"]:
        yield "nothing changed the database"
    for domain, image in report["domain_images"].items():
        if image != report["server_images"][domain.partition(".")[0]]:
            yield f"{domain} was booted from {image}"
    for checkpoint in report["checkpoints"]:
        if not checkpoint["is_equal"]:
            yield f"states differ at {checkpoint['point']}"
        silent = {f"s{server}" for server in range(len(IMAGES))} - {
            one.partition(".")[0] for one in checkpoint["digests"]
        }
        if silent:
            yield f"at {checkpoint['point']} no domain of {', '.join(sorted(silent))} gave its state"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if there is no problem, otherwise 1."""
    options = _parser().parse_args(arguments)
    live = LiveSettings(options.clients, options.interactions, seed=options.seed, session_s_max=SESSION_S_MAX)
    report = run_heterogeneous(HeterogeneousSettings(options.directory, options.images, live))
    states = ", ".join(f"equal at {one['point']}" for one in report["checkpoints"] if one["is_equal"])
    _say(
        f"{report['interactions']} interactions in {report['session_s']:.0f} s, "
        f"{report['modifying_requests']} with an update; {report['failed_interactions']} failed, "
        f"{sum(report['disagreements'].values())} disagreements; states of all domains: {states or 'DIFFERENT'}"
    )
    for problem in report["problems"]:
        _say(problem)
    return 1 if report["problems"] else 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.heterogeneous", description="A cell of different software.")
    parser.add_argument("--directory", type=Path, default=Path("var/bench/heterogeneous"), help="report, recordings")
    parser.add_argument("--images", type=Path, default=Path("var/images"), help="the image directory")
    parser.add_argument("--interactions", type=int, default=INTERACTIONS, help="at least so many, of the bidding mix")
    parser.add_argument("--clients", type=int, default=20, help="emulated users")
    parser.add_argument("--seed", type=int, default=1, help="of the emulated users")
    return parser


if __name__ == "__main__":
    sys.exit(main())
