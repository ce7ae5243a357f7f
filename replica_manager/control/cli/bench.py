"""`spare bench`: measurements, each a report under var/bench."""

from pathlib import Path
from typing import Literal

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import output_option
from replica_manager.control.cli.output import print_json, progress


@click.group()
def bench() -> None:
    """Measure; every command writes a report with the command that made it."""


@bench.command("null")
@output_option
@click.option("--directory", type=click.Path(path_type=Path), default=Path("var/bench/null"), show_default=True)
@click.option("--session-s", type=click.FloatRange(1, 600), default=8, show_default=True, help="One measurement.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Interleaved repetitions.")
@click.option(
    "--memory-requests",
    type=click.IntRange(0, 100_000_000),
    default=1_000_000,
    show_default=True,
    help="Requests after which the managers' memory is looked at; 0: leave it out.",
)
@click.option(
    "--durability",
    "durabilities",
    type=click.Choice(("sync", "async", "none")),
    multiple=True,
    default=("sync",),
    show_default=True,
    help="Several: a cell for each, measured in turn.",
)
def null_command(
    directory: Path, session_s: float, rounds: int, memory_requests: int, durabilities: tuple[str, ...], output: str
) -> None:
    """What replication costs when the service costs nothing: report.json in the directory.

    Subprocess domains with the key-value service, f = 1, one witness, 128-byte requests, everything on this machine,
    the agreement log synced; beside it, interleaved, the same client against the bare service.
    """
    from benchmarks.null_benchmark import NullSettings, run_null_benchmark

    settings = NullSettings(
        directory.absolute(),
        session_s,
        rounds=rounds,
        memory_requests=memory_requests,
        durabilities=tuple(dict.fromkeys(durabilities)),
    )
    report = run_null_benchmark(settings, progress())
    if output == "json":
        print_json(report)
        return
    for row in report["runs"]:
        latency = row["latency_ms"]
        click.echo(
            f"{row['system']:>13} {row['clients']:>3} clients: {row['throughput_rps']:>9.1f}/s  "
            f"p50 {latency['p50']:.3f} ms  p99 {latency['p99']:.3f} ms"
        )
        for name, microseconds in row["cpu_us_per_request"].items():
            click.echo(f"{'':>15}{name:<16} {microseconds:>8.1f} µs CPU per request")
    for system, figures in report["replication"].items():
        for name in ("fsyncs_per_request", "votes_per_request", "witness_messages"):
            click.echo(f"{system}, {name}: {figures[name]}")
    click.echo(f"report: {directory / 'report.json'}")


@bench.command("faults")
@output_option
@click.option("--directory", type=click.Path(path_type=Path), default=Path("var/bench/faults"), show_default=True)
@click.option("--images", type=click.Path(path_type=Path), default=Path("var/images"), show_default=True)
@click.option("--driver", type=click.Choice(["libvirt", "subprocess"]), default="libvirt", show_default=True)
@click.option(
    "--part",
    "parts",
    type=click.Choice(["latency", "throughput", "outage"]),
    multiple=True,
    help="Only this one; may be repeated.  [default: all]",
)
@click.option("--size", "sizes", type=click.IntRange(2, 10_000), multiple=True, help="U_max.  [default: 100, 200, 500]")
@click.option(
    "--service",
    "services",
    type=click.Choice(["key-value", "rubis"]),
    multiple=True,
    help="Of the latency; rubis with virtual machines alone.  [default: both]",
)
@click.option(
    "--mode", "modes", type=click.Choice(["suspended", "running"]), multiple=True, help="passive_mode.  [default: both]"
)
@click.option("--fault", "faults", type=click.Choice(["lie", "kill"]), multiple=True, help="[default: both]")
@click.option("--samples", type=click.IntRange(1, 1000), default=5, show_default=True, help="Faults per point.")
@click.option("--quick", is_flag=True, help="One batch size, two samples, one round: to see that it works.")
def faults_command(
    directory: Path,
    images: Path,
    driver: Literal["libvirt", "subprocess"],
    parts: tuple[Literal["latency", "throughput", "outage"], ...],
    sizes: tuple[int, ...],
    services: tuple[Literal["key-value", "rubis"], ...],
    modes: tuple[Literal["suspended", "running"], ...],
    faults: tuple[Literal["lie", "kill"], ...],
    samples: int,
    quick: bool,
    output: str,
) -> None:
    """How long clients wait when something fails: report.json and pictures in the directory.

    Latency of fault handling in its worst case (the passive domain sleeps, U_max - 1 updates wait for it, an active
    domain lies or is killed), throughput after the crash of an active domain, time without service when a server is
    killed, frozen or cut off.  Key-value service, and the latency of RUBiS; with virtual machines it needs root and
    the better part of an hour.
    """
    from benchmarks.fault_benchmark import PARTS, FaultBenchmark, FaultSettings, summary_lines
    from benchmarks.fault_throughput import ThroughputSettings

    settings = FaultSettings(
        directory.absolute(),
        images.absolute(),
        driver,
        parts or PARTS,
        services or (("key-value",) if quick else FaultSettings.services),
        sizes or ((100,) if quick else FaultSettings.sizes),
        modes or (("suspended",) if quick else FaultSettings.modes),
        faults or FaultSettings.faults,
        2 if quick else samples,
        ThroughputSettings(saturation_s=2, before_s=2, after_s=3, rounds=1) if quick else ThroughputSettings(),
        ("killed",) if quick else FaultSettings.outages,
    )
    document = FaultBenchmark(settings, progress()).run()
    if output == "json":
        print_json(document)
        return
    for line in summary_lines(document):
        click.echo(line)
    click.echo(f"report: {directory / 'report.json'}")


@bench.command("recovery")
@output_option
@click.option("--directory", type=click.Path(path_type=Path), default=Path("var/bench/recovery"), show_default=True)
@click.option("--images", type=click.Path(path_type=Path), default=Path("var/images"), show_default=True)
@click.option("--driver", type=click.Choice(["libvirt", "subprocess"]), default="libvirt", show_default=True)
@click.option(
    "--part",
    "parts",
    type=click.Choice(["load", "large-state"]),
    multiple=True,
    help="Only this one; may be repeated.  [default: all]",
)
@click.option("--recoveries", type=click.IntRange(2, 1000), default=10, show_default=True, help="At half load.")
@click.option(
    "--interval-s",
    type=click.FloatRange(0, 86_400),
    default=90,
    show_default=True,
    help="From the end of one to the begin of the next, at least.",
)
@click.option("--users", type=click.IntRange(1, 2000), default=64, show_default=True, help="Of the auction site.")
@click.option(
    "--saturation-s", type=click.FloatRange(1, 3600), default=60, show_default=True, help="Time to measure saturation."
)
@click.option(
    "--values",
    type=click.IntRange(1, 1_000_000),
    default=65_536,
    show_default=True,
    help="Of 4 KiB each: the large state.",
)
def recovery_command(
    directory: Path,
    images: Path,
    driver: Literal["libvirt", "subprocess"],
    parts: tuple[Literal["load", "large-state"], ...],
    recoveries: int,
    interval_s: float,
    users: int,
    saturation_s: float,
    values: int,
    output: str,
) -> int:
    """What clients notice of proactive recoveries, and how long those take: report.json and pictures in the directory.

    Under the bidding mix of the auction site, at half of its saturation throughput, lightweight recoveries in a row,
    and one at saturation; then one recovery of a key-value store with a large state.  The exit code is 1 if a bar is
    missed.  With virtual machines it needs root and an hour or two.
    """
    from benchmarks.recovery_benchmark import PARTS, RecoveryBenchmark, RecoverySettings, summary_lines
    from benchmarks.recovery_session import SessionSettings
    from benchmarks.recovery_state import StateSettings

    settings = RecoverySettings(
        directory.absolute(),
        images.absolute(),
        driver,
        parts or PARTS,
        SessionSettings(recoveries, interval_s, users, saturation_s),
        StateSettings(values),
    )
    document = RecoveryBenchmark(settings, progress()).run()
    if output == "json":
        print_json(document)
    else:
        for line in summary_lines(document):
            click.echo(line)
        click.echo(f"report: {directory / 'report.json'}")
    return ExitCode.OK if all(bar["is_met"] for bar in document["bars"]) else ExitCode.ERROR
