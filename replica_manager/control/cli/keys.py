"""`spare keys init|issue|renew|show`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option
from replica_manager.control.cli.output import console, print_json, table

if TYPE_CHECKING:
    from replica_manager.config import Config


@click.group()
def keys() -> None:
    """Make and renew the keys and certificates with which members recognise each other.

    `spare cell up` does all of this by itself; a cell of hosts needs `init` and `issue` where the operator works,
    and each member its own three files: authority.crt, MEMBER.crt, MEMBER.key.
    """


def _directory(config: "Config") -> Path:
    from replica_manager.cell_paths import CellPaths

    return CellPaths.of(config).keys


@keys.command()
@config_option
@click.pass_obj
def init(settings: Settings) -> int:
    """Make the authority of the cell, unless it is there."""
    from replica_manager.network.keys import init as make_authority

    config = settings.load()
    made = make_authority(_directory(config), config.cell.name)
    click.echo(f"authority of cell {config.cell.name} {'made' if made else 'is there'}: {_directory(config)}")
    return ExitCode.OK


@keys.command()
@config_option
@click.option("--always", is_flag=True, help="Issue new ones even where the old ones are good.")
@click.pass_obj
def issue(settings: Settings, always: bool) -> int:
    """Give every member of the configuration a key and a certificate where it has none, or none that is good."""
    from replica_manager.control.cell_up import issue_keys

    config = settings.load()
    issued = issue_keys(config, _directory(config), always=always)
    click.echo(f"issued: {', '.join(issued) or 'nothing, all certificates are good'}")
    return ExitCode.OK


@keys.command()
@config_option
@click.option("--always", is_flag=True, help="Renew all, due or not.")
@click.pass_obj
def renew(settings: Settings, always: bool) -> int:
    """Issue certificates again that are due, with the addresses they have."""
    from replica_manager.network.key_files import member_name
    from replica_manager.network.keys import renew as renew_keys

    config = settings.load()
    renewed = [member_name(member) for member in renew_keys(_directory(config), config.cell.name, always=always)]
    click.echo(f"renewed: {', '.join(renewed) or 'nothing is due'}")
    return ExitCode.OK


@keys.command()
@config_option
@output_option
@click.pass_obj
def show(settings: Settings, output: str) -> int:
    """Show the certificates with their identities and expiry."""
    from replica_manager.network.keys import show as read_certificates

    found = read_certificates(_directory(settings.load()))
    rows = [(one.name, one.identity, one.expires.strftime("%Y-%m-%d %H:%M UTC")) for one in found]
    if output == "json":
        fields = ("name", "identity", "expires")
        print_json({"certificates": [dict(zip(fields, row, strict=True)) for row in rows]})
    else:
        console().print(table(("NAME", "IDENTITY", "EXPIRES"), rows))
    return ExitCode.OK
