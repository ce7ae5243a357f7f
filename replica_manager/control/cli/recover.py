"""`spare recover`."""

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option
from replica_manager.control.cli.output import print_json, progress

MARGIN_S = 300.0
"""Beside the boots of all servers, one after the other: states are given, voted on and set."""


@click.command()
@click.option("--resilient", is_flag=True, help="Active domains give their states too: what was executed is compared.")
@click.option("--timeout", "timeout_s", type=float, help="Seconds to wait.  [default: time to boot, and five minutes]")
@config_option
@output_option
@click.pass_obj
def recover(settings: Settings, resilient: bool, timeout_s: float | None, output: str) -> int:
    """Replace the active domain of every server by its sleeper, and the sleeper by a fresh domain from a clean image.

    Clients notice nothing.  Ends when the recovery has; Ctrl-C ends the waiting, not the recovery.  The exit code is 1
    if a server was left out: a further recovery, which compares more, follows by itself then.
    """
    config = settings.load()
    from replica_manager.control.recovery_wait import recover_and_wait

    limit_s = timeout_s or config.timeouts.boot_ms / 1000 * len(config.server) + MARGIN_S
    outcome = recover_and_wait(config, is_resilient=resilient, report=progress(), limit_s=limit_s)
    if output == "json":
        print_json(dict(outcome))
    else:
        left_out = "; ".join(f"server {server}: {reason}" for server, reason in outcome["given_up"].items())
        renewed = ", ".join(f"server {server}" for server in sorted(outcome["renewed"])) or "nobody"
        click.echo(f"recovery {outcome['number']} ({outcome['recovery']}) renewed {renewed}")
        if left_out:
            click.echo(f"left out: {left_out}", err=True)
    return ExitCode.ERROR if outcome["given_up"] else ExitCode.OK
