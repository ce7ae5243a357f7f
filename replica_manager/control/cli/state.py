"""`spare state export`, `spare state show`."""

from pathlib import Path

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option
from replica_manager.control.cli.output import bytes_text, print_json, progress, time_text


@click.group()
def state() -> None:
    """Write the agreed state of a running cell to a file, and look at such files.

    A file is imported where a cell is made: `spare cell up --import FILE --digest HEX` starts a new cell with it.
    A cell that has served has a state of its own, and never takes another one in.
    """


@state.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--server", "server_id", type=int, metavar="N", help="Which server writes.  [default: the first here]")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there, once the new one is whole.")
@config_option
@output_option
@click.pass_obj
def export_command(settings: Settings, file: Path, server_id: int | None, overwrite: bool, output: str) -> int:
    """Write the state that enough domains agree on, as it is at one position of the order, to FILE.

    Requests go on meanwhile.  FILE is on the machine of the server that writes, belongs to the user that it runs as
    (0600), and is there when it is whole.  Ctrl-C leaves nothing.  The digest is the one that `spare checkpoint` prints
    of this state: note it, and give it to `spare cell up --import`.
    """
    config = settings.load()
    if server_id is not None:
        from replica_manager.control.cli.orders import require_server

        require_server(config, server_id)
    from replica_manager.control.state_transfer import export_state

    done = export_state(config, file.absolute(), progress(), server=server_id, may_overwrite=overwrite)
    if output == "json":
        print_json(dict(done))
    else:
        size = bytes_text(done["bytes"])
        click.echo(f"{done['file']}: {done['parts']} parts, {size}, at sequence {done['point']}")
        click.echo(f"digest {done['digest']}")
    return ExitCode.OK


@state.command("show")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@output_option
def show_command(file: Path, output: str) -> int:
    """Read FILE from end to end and say what is in it; a torn or changed file is refused, with the offending part."""
    from replica_manager.state_files.state_disk import OpenStateFile

    with OpenStateFile(file) as opened:
        found = opened.verify()
    head, digest = found.head, found.content_digest.hex()
    if output == "json":
        totals = {"parts": found.part_count, "bytes": found.byte_count, "digest": digest}
        fields = ("cell", "service", "state_format", "part_bytes_max", "point", "at_us", "service_time_us")
        print_json({"file": str(file), **{field: getattr(head, field) for field in fields}, **totals})
        return ExitCode.OK
    click.echo(f"state of cell {head.cell}, before sequence {head.point}, exported {time_text(head.at_us)}")
    service = head.service or "not known"
    click.echo(f"service {service}, state format {head.state_format}, parts of at most {head.part_bytes_max} bytes")
    if head.service_time_us:
        click.echo(f"the service's clock stands at {time_text(head.service_time_us)}")
    click.echo(f"{found.part_count} parts, {bytes_text(found.byte_count)}: whole")
    click.echo(f"digest {digest}")
    return ExitCode.OK
