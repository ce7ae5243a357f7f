"""`spare bench`: measurements, each a report under var/bench."""

from pathlib import Path

import click

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
