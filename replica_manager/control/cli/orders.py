"""`spare resolve`, `spare activate`, `spare retire`, and `spare server leave`, `spare server join`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option, plan_options
from replica_manager.control.cli.output import print_json, progress
from replica_manager.control.cli.questions import confirm_plan

if TYPE_CHECKING:
    from replica_manager.config import Config

JOIN_MARGIN_S = 120.0
"""Beside the time to boot two domains: finding out, and the state of the service."""


@click.command()
@click.argument("sequence", type=click.IntRange(min=1))
@click.option("--skip", "action", flag_value="skip", help="Give it up: its client gets an error, no state changes.")
@click.option("--retry", "action", flag_value="retry", help="Hand it to domains once more, after a repair.")
@config_option
@output_option
@plan_options
@click.pass_obj
def resolve(settings: Settings, sequence: int, action: str | None, output: str, yes: bool, dry_run: bool) -> int:
    """Decide about request SEQUENCE, which stays open because more than the bound went wrong.

    `spare status` and the event `request_held` name it, `spare explain SEQUENCE` shows who disagrees.  A skipped
    request can never be executed again; domains that were handed it are replaced.
    """
    if action is None:
        raise click.UsageError("say --skip or --retry")
    plan = {
        "skip": [f"answer request {sequence} with an error", "replace every domain that was handed it"],
        "retry": [f"hand request {sequence} to domains once more"],
    }[action]
    if not confirm_plan(plan, yes=yes, dry_run=dry_run, needs_answer=action == "skip"):
        return ExitCode.OK
    return _order(settings.load(), output, f"request {sequence}: {action}", "resolve", sequence=sequence, action=action)


@click.command()
@click.argument("domain")
@config_option
@output_option
@plan_options
@click.pass_obj
def activate(settings: Settings, domain: str, output: str, yes: bool, dry_run: bool) -> int:
    """Make the passive DOMAIN active.

    The planner goes back to as many active domains as are wanted as soon as nothing speaks against it.
    """
    if not confirm_plan([f"make {domain} active"], yes=yes, dry_run=dry_run, needs_answer=False):
        return ExitCode.OK
    return _order(settings.load(), output, f"{domain} is active", "activate", domain=domain)


@click.command()
@click.argument("domain")
@click.option("--reason", default="the operator retired it", show_default=True, help="Stands in the history.")
@config_option
@output_option
@plan_options
@click.pass_obj
def retire(settings: Settings, domain: str, reason: str, output: str, yes: bool, dry_run: bool) -> int:
    """Give up DOMAIN for good: it is destroyed with its disk, and a fresh one takes its place."""
    plan = [f"destroy {domain} with its disk", "boot a fresh domain and fill it with agreed state"]
    if not confirm_plan(plan, yes=yes, dry_run=dry_run):
        return ExitCode.OK
    return _order(settings.load(), output, f"{domain} is retired", "retire", domain=domain, reason=reason)


@click.command("leave")
@click.argument("server_id", metavar="N", type=int)
@config_option
@output_option
@plan_options
@click.pass_obj
def leave_command(settings: Settings, server_id: int, output: str, yes: bool, dry_run: bool) -> int:
    """Have server N leave the cell and end, for maintenance; the cell goes on with one fault less to tolerate."""
    config = settings.load()
    require_server(config, server_id)
    plan = [f"have server {server_id} leave the cell", "end its process and its domains"]
    if not confirm_plan(plan, yes=yes, dry_run=dry_run):
        return ExitCode.OK
    from replica_manager.control.membership import leave

    leave(config, server_id, progress())
    _say(output, f"server {server_id} has left", {"server": server_id, "state": "left"})
    return ExitCode.OK


@click.command("join")
@click.argument("server_id", metavar="N", type=int)
@click.option("--timeout", "timeout_s", type=float, help="Seconds to wait.  [default: time to boot, and two minutes]")
@config_option
@output_option
@click.pass_obj
def join_command(settings: Settings, server_id: int, timeout_s: float | None, output: str) -> int:
    """Bring server N back into the running cell: start it if it does not run, and wait until it serves."""
    config = settings.load()
    require_server(config, server_id)
    if config.cell.kind != "one-machine":
        raise click.UsageError(f"start it on its host: systemctl start spare-server@{server_id}; it joins by itself")
    from replica_manager.control.cell_network import network_of
    from replica_manager.control.membership import join

    limit_s = timeout_s or config.timeouts.boot_ms / 1000 + JOIN_MARGIN_S
    join(config, server_id, network_of(config), progress(), limit_s)
    _say(output, f"server {server_id} serves", {"server": server_id, "state": "serving"})
    return ExitCode.OK


def require_server(config: "Config", server: int) -> None:
    """Refuse a number that no server of the cell has."""
    known = [one.id for one in config.server]
    if server not in known:
        there = ", ".join(map(str, known))
        raise click.BadParameter(f"the cell has no server {server}; it has {there}", param_hint="N")


def _order(config: "Config", output: str, done: str, method: str, **parameters: Any) -> int:
    from replica_manager.control.orders import order

    _say(output, done, order(config, method, **parameters))
    return ExitCode.OK


def _say(output: str, sentence: str, document: Mapping[str, Any]) -> None:
    if output == "json":
        print_json(dict(document))
    else:
        click.echo(sentence)
