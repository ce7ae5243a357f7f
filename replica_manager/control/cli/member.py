"""`spare server run`, `spare witness run`: one process of a cell in the foreground."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from replica_manager import event_loop
from replica_manager.control.cli.options import Settings, config_option
from replica_manager.control.cli.orders import join_command, leave_command

born_option = click.option(
    "--born",
    is_flag=True,
    help="The cell is new: its first start ever.  Without it, an empty log counts as a lost memory.",
)
loss_option = click.option(
    "--accept-loss",
    is_flag=True,
    help="Take the log for complete although it was not synced before an unclean end.",
)


@click.group()
def server() -> None:
    """Run one server of a cell, have it leave, bring it back."""


server.add_command(leave_command)
server.add_command(join_command)


@click.group()
def witness() -> None:
    """Run one witness of a cell."""


@server.command("run")
@click.option("--id", "server_id", type=int, required=True, help="Number of the server, from 0.")
@born_option
@loss_option
@click.option(
    "--without",
    "vouched",
    type=int,
    multiple=True,
    help="witnesses = 0: this server has stopped for ever, you vouch for it; may be given again.",
)
@click.option(
    "--import",
    "import_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --born: fill the first domains with this state; the same one on every server, so name its --digest.",
)
@click.option("--digest", metavar="HEX", default="", help="The digest that the imported state must have.")
@config_option
@click.pass_obj
def run_server_command(
    settings: Settings,
    server_id: int,
    born: bool,
    accept_loss: bool,
    vouched: tuple[int, ...],
    import_file: Path | None,
    digest: str,
) -> int:
    """Run server ID in the foreground until SIGTERM; what `spare cell up` and a unit file start."""
    if (import_file is not None) != bool(digest):
        raise click.UsageError("--import and --digest go together: servers with different states would never agree")
    if import_file is not None and not born:
        raise click.UsageError("--import is for a server that is --born: any other one has a state")
    config = settings.load()
    _require_member([one.id for one in config.server], "server", server_id)
    from replica_manager.hypervisor.selection import preload_hypervisor
    from replica_manager.state_files.fitting import ImportedState
    from replica_manager.wiring import run_server

    preload_hypervisor(config)
    imported = None if import_file is None else ImportedState(import_file, digest)
    return event_loop.run(
        run_server(config, server_id, is_born=born, vouched=vouched, is_loss_accepted=accept_loss, imported=imported)
    )


@witness.command("run")
@click.option("--id", "witness_id", type=int, required=True, help="Number of the witness, from 0.")
@born_option
@loss_option
@config_option
@click.pass_obj
def run_witness_command(settings: Settings, witness_id: int, born: bool, accept_loss: bool) -> int:
    """Run witness ID in the foreground until SIGTERM."""
    config = settings.load()
    _require_member([one.id for one in config.witness], "witness", witness_id)
    from replica_manager.cell_paths import CellPaths
    from replica_manager.control.event_file import EventFile
    from replica_manager.control.event_log import EventLog
    from replica_manager.witness_server import run_witness

    file = EventFile(CellPaths.of(config).witness_event_file(witness_id))
    events = EventLog(witness_id, lambda: time.time_ns() // 1000, file)

    def report(kind: str, data: Mapping[str, Any]) -> None:
        events.record(kind, **data)

    try:
        return event_loop.run(run_witness(config, witness_id, report, is_born=born, is_loss_accepted=accept_loss))
    finally:
        events.close()


def _require_member(known: list[int], kind: str, number: int) -> None:
    if number not in known:
        there = ", ".join(map(str, known)) or "none"
        raise click.BadParameter(f"the cell has no {kind} {number}; it has {there}", param_hint="--id")
