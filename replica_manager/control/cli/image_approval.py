"""`spare image keygen|approve|revoke|history`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import FunctionT, Settings, config_option, output_option
from replica_manager.control.cli.output import console, print_json, state_text, table, time_text

if TYPE_CHECKING:
    from images.approvals import Ledger, Statement
    from images.catalog import Catalog
    from replica_manager.config import Config

DEFAULT_KEY = "approval.key"

key_option = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SPARE_APPROVAL_KEY",
    help=f"Private key.  [default: {DEFAULT_KEY} beside the configuration file]",
)


def _statement_options(function: FunctionT) -> FunctionT:
    function = click.option(
        "-s", "--server", "servers", type=int, multiple=True, help="Only for this server; may be given again."
    )(function)
    return output_option(config_option(key_option(function)))


@click.command()
@key_option
@config_option
@output_option
@click.pass_obj
def keygen(settings: Settings, key_file: Path | None, output: str) -> int:
    """Make the key with which images are approved, once.

    Keep the private key off the cell's machines if there is another place for it.  The public key goes into the cell's
    configuration; from then on its servers boot only images that were approved.
    """
    from images.approval_key import make_key

    path = _key_path(settings, key_file)
    key = make_key(path)
    if output == "json":
        print_json({"key_file": str(path), "public_key": key.public})
        return ExitCode.OK
    click.echo(f'[approval]\npublic_key = "{key.public}"')
    click.echo(f"the private key is in {path}; these lines belong into the configuration", err=True)
    return ExitCode.OK


@click.command()
@click.argument("image")
@_statement_options
@click.pass_obj
def approve(settings: Settings, image: str, servers: tuple[int, ...], key_file: Path | None, output: str) -> int:
    """Approve IMAGE for all servers, or for some.

    IMAGE is a name (its newest image in the catalog), NAME-DIGEST or a digest; its files are verified first.  What was
    approved last is what a server's next domains boot; approve an older image again to go back to it.
    """
    config = settings.load()
    catalog = _catalog(config)
    chosen = catalog.resolve(image, is_fault_injection_allowed=config.fault_injection)
    catalog.verify(chosen)
    return _state(settings, "approve", (chosen.name, chosen.digest), servers, key_file, output)


@click.command()
@click.argument("image")
@_statement_options
@click.pass_obj
def revoke(settings: Settings, image: str, servers: tuple[int, ...], key_file: Path | None, output: str) -> int:
    """Take back what was approved: IMAGE is not booted any more, by all servers or by some.

    IMAGE is NAME-DIGEST or a digest; it need not be in the catalog any more.  Domains that run go on: `spare retire`
    replaces them.
    """
    _, ledger = _ledger(settings.load())
    return _state(settings, "revoke", _approved_before(ledger, image), servers, key_file, output)


@click.command()
@config_option
@output_option
@click.pass_obj
def history(settings: Settings, output: str) -> int:
    """Show what was approved and revoked, the newest first, and what each server boots now.

    Exit code 1 if an approval is missing or was tampered with: then nothing is booted.
    """
    config = settings.load()
    _, ledger = _ledger(config)
    rows = [_row(config, ledger, statement) for statement in reversed(ledger.statements)]
    problems = [f"{one.file_name}: {one.reason}" for one in ledger.rejected]
    problems += [f"approval {serial} is missing; it may be a revocation" for serial in ledger.missing]
    if output == "json":
        print_json({"service": ledger.service, "approvals": rows, "problems": problems})
    else:
        columns = ("SERIAL", "TIME", "ACTION", "IMAGE", "SERVERS", "STATE")
        cells = [
            [row["serial"], time_text(row["at_us"]), row["action"], row["image"], _who(row["servers"]), _shown(row)]
            for row in rows
        ]
        console().print(table(columns, cells, right=("SERIAL",)))
        for line in problems:
            click.echo(f"PROBLEM: {line}")
    return ExitCode.ERROR if problems else ExitCode.OK


def _state(
    settings: Settings,
    action: Literal["approve", "revoke"],
    image: tuple[str, str],
    servers: tuple[int, ...],
    key_file: Path | None,
    output: str,
) -> int:
    """Sign one statement and say so."""
    from images.approval_files import add_statement
    from images.approval_key import read_key

    config = settings.load()
    _require_servers(config, servers)
    catalog, ledger = _ledger(config)
    path = _key_path(settings, key_file)
    key = read_key(path)
    if key.public != config.approval.public_key:
        hint = f"its public key is {key.public}, the configuration has {config.approval.public_key}"
        raise click.UsageError(f"{path} is not the key of this cell: {hint}")
    made = add_statement(catalog, ledger, key, action, image, servers, time.time_ns() // 1000)
    if output == "json":
        print_json({"approval": _document(made)})
    else:
        verb = "approved" if action == "approve" else "revoked"
        click.echo(f"{made.image_id} {verb} for {_who(made.servers)} of {made.service}, serial {made.serial}")
    return ExitCode.OK


def _approved_before(ledger: "Ledger", image: str) -> tuple[str, str]:
    found = {
        (one.image_name, one.manifest_digest)
        for one in ledger.statements
        if image == one.image_id or (len(image) >= 6 and one.manifest_digest.startswith(image))
    }
    if len(found) != 1:
        what = f"{image} may mean {len(found)} images" if found else f"{image} was never approved for {ledger.service}"
        raise click.BadParameter(f"{what}: spare image history shows NAME-DIGEST", param_hint="IMAGE")
    return found.pop()


def _row(config: "Config", ledger: "Ledger", statement: "Statement") -> dict[str, Any]:
    """Return a statement with what became of it."""
    own = [server.id for server in config.server if statement.holds_for(server.id)]
    counts = [number for number in own if ledger.newest_about(statement.manifest_digest, number) == statement]
    newest = [number for number in counts if statement in _newest(ledger, config, number)]
    if statement.action == "revoke":
        state = "revoked" if counts else "overtaken"
    elif not counts:
        state = "overtaken" if _is_approved_again(ledger, statement, own) else "revoked"
    else:
        state = "newest" if newest else "approved"
    return {**_document(statement), "state": state, "newest_for": newest, "counts_for": counts}


def _newest(ledger: "Ledger", config: "Config", server: int) -> "list[Statement]":
    """Return what a server boots now: of images of the name that the configuration says, if it says a name."""
    wanted = next(one.image for one in config.server if one.id == server)
    is_name = any(one.image_name == wanted for one in ledger.statements)
    approved = ledger.approved(server, wanted if is_name else "")
    if not is_name:
        approved = [one for one in approved if wanted in (one.image_id, one.manifest_digest[: len(wanted)])]
    return list(approved[:1])


def _is_approved_again(ledger: "Ledger", statement: "Statement", servers: list[int]) -> bool:
    newest = [ledger.newest_about(statement.manifest_digest, server) for server in servers]
    return any(one is not None and one.action == "approve" for one in newest)


def _document(statement: "Statement") -> dict[str, Any]:
    return {
        "serial": statement.serial,
        "at_us": statement.at_us,
        "action": statement.action,
        "service": statement.service,
        "image": statement.image_id,
        "manifest_digest": statement.manifest_digest,
        "servers": None if statement.servers is None else list(statement.servers),
    }


def _shown(row: dict[str, Any]) -> Any:
    return state_text(f"newest for {_who(row['newest_for'])}" if row["newest_for"] else row["state"])


def _who(servers: Any) -> str:
    if servers is None:
        return "all servers"
    return ("server " if len(servers) == 1 else "servers ") + ", ".join(map(str, servers))


def _ledger(config: "Config") -> "tuple[Catalog, Ledger]":
    from images.approval_files import read_ledger

    if not config.approval.public_key:
        raise click.UsageError(
            "this cell boots images without approval: spare image keygen makes a key, whose public half belongs into"
            " [approval] of the configuration"
        )
    catalog = _catalog(config)
    return catalog, read_ledger(catalog, config.cell.name, config.approval.public_key)


def _catalog(config: "Config") -> "Catalog":
    from images.catalog import Catalog

    return Catalog(Path(config.hypervisor.image_dir))


def _key_path(settings: Settings, key_file: Path | None) -> Path:
    return key_file if key_file is not None else settings.path.absolute().parent / DEFAULT_KEY


def _require_servers(config: "Config", servers: tuple[int, ...]) -> None:
    known = [server.id for server in config.server]
    for server in servers:
        if server not in known:
            raise click.BadParameter(f"the cell has no server {server}", param_hint="--server")
