"""`python -m rubis_adapter.client_emulator`: runs an emulation against web servers that are up."""

import asyncio
import json
import sys
from pathlib import Path

import click

from rubis_adapter.client_emulator.emulation import run_emulation
from rubis_adapter.client_emulator.errors import EmulatorError
from rubis_adapter.client_emulator.report import EmulationReport
from rubis_adapter.client_emulator.settings import DEFAULT_TIMEOUT_S, EmulatorSettings, Progress
from rubis_adapter.client_emulator.transitions import MIX_NAMES
from rubis_adapter.population.data_sets import DATA_SETS


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


@click.command()
@click.argument("addresses", nargs=-1, required=True, metavar="HOST:PORT...")
@click.option("--clients", type=int, default=50, show_default=True)
@click.option("--mix", type=click.Choice(MIX_NAMES), default="bidding", show_default=True)
@click.option("--data-set", type=click.Choice(list(DATA_SETS)), default="tiny", show_default=True)
@click.option("--think-time-scale", type=float, default=1.0, show_default=True, help="Factor on the mean of 7 s.")
@click.option("--up-ramp", type=float, default=60.0, show_default=True, help="Seconds.")
@click.option("--session", type=float, default=240.0, show_default=True, help="Seconds that are measured.")
@click.option("--down-ramp", type=float, default=60.0, show_default=True, help="Seconds.")
@click.option("--seed", type=int, default=1, show_default=True, help="Take another one for a second run.")
@click.option("--timeout", type=float, default=DEFAULT_TIMEOUT_S, show_default=True, help="Seconds per request.")
@click.option("--images/--no-images", "loads_images", default=False, show_default=True, help="Fetch images too.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the whole report as JSON here.")
def main(
    addresses: tuple[str, ...],
    clients: int,
    mix: str,
    data_set: str,
    think_time_scale: float,
    up_ramp: float,
    session: float,
    down_ramp: float,
    seed: int,
    timeout: float,
    loads_images: bool,
    report: Path | None,
) -> None:
    """Emulates users of the auction site at HOST:PORT and prints what they saw in the runtime session."""
    try:
        settings = EmulatorSettings(
            addresses=tuple(_address(text) for text in addresses),
            clients=clients,
            mix=mix,
            users=DATA_SETS[data_set].users,
            think_time_scale=think_time_scale,
            up_ramp_s=up_ramp,
            session_s=session,
            down_ramp_s=down_ramp,
            seed=seed,
            timeout_s=timeout,
            loads_images=loads_images,
        )
        result = asyncio.run(run_emulation(settings, _show))
    except EmulatorError as error:
        raise click.ClickException(str(error)) from error
    if report is not None:
        report.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    click.echo(summary(result))


def _show(progress: Progress) -> None:
    click.echo(
        f"{progress.elapsed_s:6.0f} of {progress.total_s:.0f} s, {progress.phase}: {progress.running_clients} clients, "
        f"{progress.requests_per_s:.0f} requests/s, {progress.requests} so far, {progress.failed_requests} failed",
        err=True,
    )


def summary(report: EmulationReport) -> str:
    """The report on one screen."""
    document = report.to_json()
    latency_ms = document["latency_ms"]
    counts = (
        f"requests {document['requests']}, failed {document['failed_requests']}, "
        f"sorry {document['sorry_share']:.1%}, modifying {document['modifying_requests']}"
    )
    lines = [
        counts,
        f"throughput {document['throughput_rps']:.1f} requests/s",
        "latency " + ", ".join(f"{name} {value:.1f} ms" for name, value in latency_ms.items()),
        *(f"failed by {reason}: {part['count']}" for reason, part in document["failures"].items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
