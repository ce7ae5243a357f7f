"""`spare server run`, `spare witness run`: one process of a cell in the foreground."""

import time

import click

from replica_manager import event_loop
from replica_manager.control.cli.options import Settings, config_option

born_option = click.option(
    "--born",
    is_flag=True,
    help="The cell is new: its first start ever.  Without it, an empty log counts as a lost memory.",
)


@click.group()
def server() -> None:
    """Run one server of a cell."""


@click.group()
def witness() -> None:
    """Run one witness of a cell."""


@server.command("run")
@click.option("--id", "server_id", type=int, required=True, help="Number of the server, from 0.")
@born_option
@config_option
@click.pass_obj
def run_server_command(settings: Settings, server_id: int, born: bool) -> int:
    """Run server ID in the foreground until SIGTERM; what `spare cell up` and a unit file start."""
    config = settings.load()
    _require_member([one.id for one in config.server], "server", server_id)
    from replica_manager.hypervisor.selection import preload_hypervisor
    from replica_manager.wiring import run_server

    preload_hypervisor(config)
    return event_loop.run(run_server(config, server_id, is_born=born))


@witness.command("run")
@click.option("--id", "witness_id", type=int, required=True, help="Number of the witness, from 0.")
@born_option
@config_option
@click.pass_obj
def run_witness_command(settings: Settings, witness_id: int, born: bool) -> int:
    """Run witness ID in the foreground until SIGTERM."""
    config = settings.load()
    _require_member([one.id for one in config.witness], "witness", witness_id)
    from replica_manager.cell_paths import CellPaths
    from replica_manager.control.event_file import EventFile
    from replica_manager.control.event_log import EventLog
    from replica_manager.witness_server import run_witness

    file = EventFile(CellPaths.of(config).witness_event_file(witness_id))
    events = EventLog(witness_id, lambda: time.time_ns() // 1000, file)
    try:
        return event_loop.run(
            run_witness(config, witness_id, lambda kind, data: events.record(kind, **data), is_born=born)
        )
    finally:
        events.close()


def _require_member(known: list[int], kind: str, number: int) -> None:
    if number not in known:
        there = ", ".join(map(str, known)) or "none"
        raise click.BadParameter(f"the cell has no {kind} {number}; it has {there}", param_hint="--id")
