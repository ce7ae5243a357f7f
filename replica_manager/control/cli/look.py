"""`spare status`, `spare topology`, `spare replicas`."""

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option
from replica_manager.control.cli.output import console, print_json

if TYPE_CHECKING:
    from replica_manager.control.cell_view import CellView

REDRAW_S = 2.0
INTERVAL = click.FloatRange(min=0.1)


@click.command()
@config_option
@output_option
@click.option("-w", "--watch", type=INTERVAL, is_flag=False, flag_value=REDRAW_S, help="Redraw every so many seconds.")
@click.pass_obj
def status(settings: Settings, output: str, watch: float | None) -> int:
    """Show servers, roles, cursors, buffered updates, the last refresh, CPU.

    The exit code says how the cell is: 0 serving, 3 degraded but serving, 4 not serving, 5 no answer in time.
    """
    from replica_manager.control.cell_view import look

    config = settings.load()
    if watch is None:
        view = look(config)
        _show_status(view, output, indent=2)
        return _exit_code(view)
    with contextlib.suppress(KeyboardInterrupt):  # that is how watching ends
        _redraw(lambda: look(config), output, watch)
    return ExitCode.OK


@click.command()
@config_option
@output_option
@click.pass_obj
def topology(settings: Settings, output: str) -> int:
    """Show what runs where: servers, addresses, storage, domains, witnesses."""
    from replica_manager.control.cell_view import look
    from replica_manager.control.cli.views import topology_document, topology_tree

    view = look(settings.load())
    if output == "json":
        print_json(topology_document(view))
    else:
        console().print(topology_tree(view))
    return ExitCode.OK


@click.command()
@config_option
@output_option
@click.pass_obj
def replicas(settings: Settings, output: str) -> int:
    """Show every domain: role, power, cursor, CPU, memory, time suspended."""
    from replica_manager.control.cell_view import look
    from replica_manager.control.cli.views import domain_table

    view = look(settings.load())
    if output == "json":
        print_json({"domains": view.domains()})
    elif view.answers:
        console().print(domain_table(view))
    if not view.answers:
        click.echo(f"no server of cell {view.config.cell.name} answers", err=True)
    return _exit_code(view)


def _show_status(view: "CellView", output: str, *, indent: int | None) -> None:
    from replica_manager.control.cli.views import status_document, status_tables

    if output == "json":
        print_json(status_document(view), indent=indent)
    else:
        console().print(status_tables(view))


def _redraw(take: Any, output: str, interval_s: float) -> None:
    """Show the status again and again: in place on a terminal, one after the other elsewhere."""
    if output == "json" or not sys.stdout.isatty():
        while True:
            _show_status(take(), output, indent=None)
            sys.stdout.flush()
            time.sleep(interval_s)
    from rich.live import Live

    from replica_manager.control.cli.views import status_tables

    with Live(status_tables(take()), console=console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(status_tables(take()), refresh=True)
            time.sleep(interval_s)


def _exit_code(view: "CellView") -> ExitCode:
    if view.is_timeout:
        return ExitCode.TIMEOUT
    return {"serving": ExitCode.OK, "degraded": ExitCode.DEGRADED}.get(view.state, ExitCode.NOT_SERVING)
