"""`spare chaos`: faults on a schedule, under load, and what became of it."""

from pathlib import Path

import click

from replica_manager.control.cli.options import output_option
from replica_manager.control.cli.output import print_json, progress


@click.command()
@click.argument("file")
@output_option
@click.option("--directory", type=click.Path(path_type=Path), default=Path("var/chaos"), show_default=True)
@click.option("--images", type=click.Path(path_type=Path), default=Path("var/images"), show_default=True)
@click.option("--seed", type=int, default=None, help="Instead of the schedule's.")
@click.option("--check", "is_check", is_flag=True, help="Only check the schedule.")
@click.option("--plot/--no-plot", default=None, help="Draw throughput.png; by default if matplotlib is installed.")
def chaos(
    file: str, directory: Path, images: Path, seed: int | None, is_check: bool, plot: bool | None, output: str
) -> None:
    """Run the schedule FILE of faults on a one-machine cell under load, and check the outcome.

    FILE is a TOML file, or the name of a shipped schedule: `quick` (key-value store in child processes, two
    minutes, every kind of fault), `quick-pairs` (the same with f = 2, two faults at a time), `standard` and `pairs`
    (RUBiS in virtual machines).

    Makes a cell of its own and removes it at the end, also after Ctrl-C.  Succeeds only if no request failed, no
    acknowledged write is lost or doubled, nobody was convicted wrongly, all states are equal, and every fault showed.
    Writes report.json and events.jsonl in the directory.  Needs root.
    """
    import msgspec

    from benchmarks.chaos.run import ChaosSettings, run_chaos
    from benchmarks.chaos.schedule_check import find_schedule, load_schedule

    schedule = load_schedule(find_schedule(file))
    if seed is not None:
        schedule = msgspec.structs.replace(schedule, seed=seed)
    if is_check:
        click.echo(f"{schedule.name}: {len(schedule.step)} steps, {len(schedule.faults)} faults: no mistakes found")
        return
    document = run_chaos(ChaosSettings(schedule, directory.absolute(), images.absolute(), plot), progress())
    if output == "json":
        print_json(document)
    else:
        click.echo(document["summary"], nl=False)
        click.echo(f"report: {directory / 'report.json'}")
