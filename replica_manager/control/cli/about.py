"""`spare version`, `spare completion`."""

import click

from replica_manager.control.cli.options import output_option
from replica_manager.control.cli.output import print_json


@click.command()
@output_option
def version(output: str) -> None:
    """Show the version of this program."""
    from importlib.metadata import version as version_of

    if output == "json":
        print_json({"version": version_of("spare")})
    else:
        click.echo(f"spare {version_of('spare')}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(spare completion bash)"."""
    from click.shell_completion import get_completion_class

    from replica_manager.control.cli.root import spare

    script = get_completion_class(shell)
    assert script is not None, "click knows the shells that are offered"
    click.echo(script(spare, {}, "spare", "_SPARE_COMPLETE").source())
