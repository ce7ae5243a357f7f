"""`spare checkpoint`."""

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option
from replica_manager.control.cli.output import console, print_json, table


@click.command()
@config_option
@output_option
@click.option("--timeout", "timeout_s", type=float, default=300.0, show_default=True, help="Seconds to wait.")
@click.pass_obj
def checkpoint(settings: Settings, output: str, timeout_s: float) -> int:
    """Compare the state of all domains at one agreed position, passive ones too.

    Every domain gives its state as it is after exactly the same request; the exit code is 1 if two differ.
    """
    from replica_manager.control.checkpoint import take_checkpoint

    taken = take_checkpoint(settings.load(), timeout_s)
    if output == "json":
        print_json({"point": taken.point, "digests": dict(taken.digests), "equal": taken.is_equal})
    else:
        console().print(table(("DOMAIN", "STATE DIGEST"), sorted(taken.digests.items())))
        verdict = "all equal" if taken.is_equal else "NOT EQUAL"
        click.echo(f"{len(taken.digests)} domains at sequence {taken.point}: {verdict}")
    return ExitCode.OK if taken.is_equal else ExitCode.ERROR
