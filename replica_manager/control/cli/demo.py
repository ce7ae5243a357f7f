"""`spare demo`: the whole thing, shown on this machine."""

from pathlib import Path

import click

from replica_manager.control.cli.options import output_option
from replica_manager.control.cli.output import print_json, progress


@click.command()
@output_option
@click.option("--directory", type=click.Path(path_type=Path), default=Path("var/demo"), show_default=True)
@click.option("--images", type=click.Path(path_type=Path), default=Path("var/images"), show_default=True)
@click.option("--clients", type=click.IntRange(1, 2000), default=50, show_default=True, help="Emulated users.")
@click.option("--session-s", type=click.FloatRange(10, 3600), default=240, show_default=True, help="Measured time.")
@click.option("--think-time-scale", type=click.FloatRange(0, 10), default=0.5, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--cell-name", default="demo", show_default=True, help="Another name lets two demos run at a time.")
@click.option("--publish", default="", metavar="ADDRESS:PORT", help="Also serve the site here, for a browser.")
def demo(
    directory: Path,
    images: Path,
    clients: int,
    session_s: float,
    think_time_scale: float,
    seed: int,
    cell_name: str,
    publish: str,
    output: str,
) -> None:
    """Serve RUBiS from a one-machine cell of real virtual machines, with emulated users; report.json in DIRECTORY.

    Builds the image if it is not there (minutes, once), starts two servers, a witness and four virtual machines,
    runs the bidding mix, compares all databases, and stops everything.  Needs root.
    """
    from benchmarks.rubis_demo import DemoSettings, run_demo

    settings = DemoSettings(
        directory.absolute(),
        images.absolute(),
        clients=clients,
        session_s=session_s,
        think_time_scale=think_time_scale,
        seed=seed,
        publish=publish,
        cell_name=cell_name,
    )
    document = run_demo(settings, progress())
    if output == "json":
        print_json(document)
    else:
        click.echo(document["summary"], nl=False)
        click.echo(f"report: {directory / 'report.json'}")
