"""`spare cell up|down|check`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from replica_manager.control.cli.diversity_view import diversity_document, diversity_of, print_diversity
from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option, output_option, plan_options
from replica_manager.control.cli.output import print_json, progress
from replica_manager.control.cli.questions import confirm_plan

if TYPE_CHECKING:
    from replica_manager.config import Config
    from replica_manager.config_findings import Finding
    from replica_manager.state_files.fitting import ImportedState


@click.group()
def cell() -> None:
    """Start, stop and check a cell."""


@cell.command()
@config_option
@output_option
@click.pass_obj
def check(settings: Settings, output: str) -> int:
    """Find every mistake in the configuration, with line numbers; warnings do not fail.

    A configuration without mistakes is also scored by how much its replicas have in common.
    """
    findings = _findings(settings.path)
    errors = sum(finding.severity == "error" for finding in findings)
    diversity = None if errors else diversity_of(settings.load())
    if output == "json":
        fields = ("severity", "line", "path", "message", "suggestion")
        rows = [{field: getattr(finding, field) for field in fields} for finding in findings]
        scored = None if diversity is None else diversity_document(diversity)
        print_json({"file": str(settings.path), "ok": errors == 0, "findings": rows, "diversity": scored})
    else:
        for finding in findings:
            click.echo(finding.render(str(settings.path)))
        click.echo(f"{settings.path}: {_summary(errors, len(findings) - errors)}", err=True)
        if diversity is not None:
            print_diversity(diversity)
    return ExitCode.USAGE if errors else ExitCode.OK


@cell.command()
@config_option
@click.option("--fresh", is_flag=True, help="Discard the state of an earlier run of the cell first.")
@click.option(
    "--without",
    type=int,
    multiple=True,
    metavar="SERVER",
    help="witnesses = 0: restart without this server, which has surely stopped for ever; you vouch for it.",
)
@click.option("--accept-loss", is_flag=True, help="Restart from logs that were not synced before an unclean end.")
@click.option(
    "--import",
    "import_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Fill a new cell with a state that `spare state export` wrote.",
)
@click.option("--digest", metavar="HEX", default="", help="With --import: the digest that the state must have.")
@plan_options
@click.pass_obj
def up(
    settings: Settings,
    fresh: bool,
    without: tuple[int, ...],
    accept_loss: bool,
    import_file: Path | None,
    digest: str,
    yes: bool,
    dry_run: bool,
) -> int:
    """Start all members of a one-machine cell and wait until it serves.

    A cell that has served before restarts from its disks: every acknowledged request is there.  The exit code is 3 if
    it serves and its redundancy is still being restored.

    With --import every domain of a new cell begins with the state in FILE, and is compared with it before the cell
    counts as started.
    """
    config = _checked(settings.path)
    _require_one_machine(config)
    _require_restart_options(config, without, fresh=fresh, accept_loss=accept_loss)
    imported = _checked_import(config, import_file, digest, fresh=fresh)
    from replica_manager.cell_paths import CellPaths
    from replica_manager.control.cell_down import discard, plan_fresh
    from replica_manager.control.cell_network import network_of
    from replica_manager.control.cell_restart_plan import Restart
    from replica_manager.control.cell_up import bring_up, clear_leftovers, is_running
    from replica_manager.control.keeper_process import ensure_keeper, restart_what_ended

    network = network_of(config)
    if config.cell.restart == "always" and not fresh and restart_what_ended(config, progress()):
        return ExitCode.DEGRADED
    if is_running(config):
        if fresh:
            raise click.UsageError(f"the cell {config.cell.name} runs: `spare cell down` first, then --fresh")
        click.echo(f"cell {config.cell.name} already runs, with the configuration of its start", err=True)
        if config.cell.restart == "always":
            ensure_keeper(CellPaths.of(config), progress())
        return ExitCode.OK
    old_state = plan_fresh(config) if fresh else ()
    if dry_run:
        deletions = [f"delete {path} with everything in it" for path in old_state]
        filling = [] if imported is None else [f"fill every domain with the state in {imported.path}"]
        for line in (*deletions, *_up_lines(config), *filling):
            click.echo(f"would {line}")
        return ExitCode.OK
    if without:
        confirm_plan(_vouching_lines(without), yes=yes, dry_run=False)
    if old_state:
        confirm_plan([f"delete {path} with everything in it" for path in old_state], yes=yes, dry_run=False)
        # Before anything is deleted: what a killed cell has left runs, and is mounted, in there.
        clear_leftovers(config, network, progress())
        discard(old_state)
    tell = progress()
    state = bring_up(config, network, tell, restart=Restart(without, accept_loss), imported=imported)
    how = "serves" if state == "serving" else "serves, but degraded: spare status shows what is missing"
    tell(f"cell {config.cell.name} {how}; clients connect to {', '.join(_client_addresses(config))}")
    return ExitCode.OK if state == "serving" else ExitCode.DEGRADED


@cell.command()
@config_option
@click.option("--purge", is_flag=True, help="Delete the durable state too: logs, disks of domains, keys.")
@click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Stop the cell that was started with this runtime_dir, without its configuration file.",
)
@plan_options
@click.pass_obj
def down(settings: Settings, purge: bool, runtime_dir: Path | None, yes: bool, dry_run: bool) -> int:
    """Stop a one-machine cell and remove all that it made, also after `kill -9` of everything."""
    config = _started_config(settings, runtime_dir)
    _require_one_machine(config)
    from replica_manager.control.cell_down import plan_down, take_down
    from replica_manager.control.cell_network import network_of

    plan = plan_down(config, purge=purge)
    is_question = bool(plan.members or plan.removed or dry_run)
    if is_question and not confirm_plan(plan.lines, yes=yes, dry_run=dry_run, needs_answer=purge):
        return ExitCode.OK
    tell = progress()
    take_down(config, network_of(config), plan, tell)
    tell(f"cell {config.cell.name} is down")
    return ExitCode.OK


@cell.command()
@click.option("--runtime-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="Of the cell.")
def keep(runtime_dir: Path) -> int:
    """Keep the members of a running one-machine cell running; what `spare cell up` leaves behind.

    A member whose process ended is started again after 1 s at first, and up to 30 s if it keeps ending.  Ends at
    SIGTERM; the members stay.
    """
    from replica_manager import event_loop
    from replica_manager.control.cell_up import stored_config
    from replica_manager.control.keeper_run import keep as keep_members

    config = stored_config(runtime_dir.absolute())
    if config is None:
        raise click.BadParameter(f"no cell was started with {runtime_dir}", param_hint="--runtime-dir")
    return event_loop.run(keep_members(config))


def _require_restart_options(config: "Config", without: tuple[int, ...], *, fresh: bool, accept_loss: bool) -> None:
    """Refuse what makes no sense together."""
    if fresh and (without or accept_loss):
        raise click.UsageError("--fresh discards the state that --without and --accept-loss go on with")
    if without and config.cell.witnesses:
        raise click.UsageError("--without is for cells with witnesses = 0; this one goes on by itself")
    known = [server.id for server in config.server]
    for server in without:
        if server not in known:
            raise click.BadParameter(f"the cell has no server {server}", param_hint="--without")
    if len(set(without)) == len(known):
        raise click.BadParameter("nobody would be left", param_hint="--without")


def _checked_import(config: "Config", file: Path | None, digest: str, *, fresh: bool) -> "ImportedState | None":
    """Return what a new cell is to begin with, read from end to end; before anything is started or deleted.

    Raises:
        StateFileError: it is damaged, or does not fit this cell.
    """
    if file is None:
        if digest:
            raise click.UsageError("--digest is that of the state to --import")
        return None
    from replica_manager.cell_paths import CellPaths
    from replica_manager.control.cell_import import read_import
    from replica_manager.control.cell_up import has_served, is_running

    if is_running(config) or (has_served(CellPaths.of(config)) and not fresh):
        raise click.UsageError(
            f"the cell {config.cell.name} has a state; only a new cell imports one, and --fresh discards what is there"
        )
    return read_import(config, file.absolute(), digest, progress())


def _vouching_lines(without: tuple[int, ...]) -> list[str]:
    return [f"go on without server {server}: if it still runs anywhere, clients get two answers" for server in without]


def _findings(path: Path) -> "list[Finding]":
    from replica_manager.config_check import check as check_file
    from replica_manager.control.cli.image_presence import image_problem

    return check_file(path, image_problem)


def _checked(path: Path) -> "Config":
    """Return the configuration; say its warnings.

    Raises:
        ConfigError: it has mistakes, or this machine lacks something that it needs.
    """
    from replica_manager.config_check import load
    from replica_manager.config_findings import ConfigError

    findings = _findings(path)
    if any(finding.severity == "error" for finding in findings):
        raise ConfigError(str(path), findings)
    for finding in findings:
        click.echo(finding.render(str(path)), err=True)
    return load(path)


def _started_config(settings: Settings, runtime_dir: Path | None) -> "Config":
    """Return the configuration with which the cell was started, or else the one in the file."""
    from replica_manager.control.cell_up import stored_config

    if runtime_dir is not None:
        stored = stored_config(runtime_dir.absolute())
        if stored is None:
            raise click.BadParameter(f"no cell was started with {runtime_dir}", param_hint="--runtime-dir")
        return stored
    config = settings.load()
    return stored_config(Path(config.cell.runtime_dir)) or config


def _require_one_machine(config: "Config") -> None:
    if config.cell.kind != "one-machine":
        raise click.UsageError(
            "the servers of this cell are hosts of their own: start each with `spare server run --id N` there"
        )


def _up_lines(config: "Config") -> list[str]:
    members = [f"server {server.id}" for server in config.server] + [f"witness {one.id}" for one in config.witness]
    networks = ["make the cell's network namespaces"] if config.cell.network == "namespaces" else []
    size_mib = config.cell.state_disk_mib
    disks = [f"mount a disk of {size_mib} MiB for server {server.id}" for server in config.server if size_mib]
    return ["issue keys that are missing or due", *disks, *networks, *(f"start {member}" for member in members)]


def _client_addresses(config: "Config") -> list[str]:
    return [server.publish or server.public_address for server in config.server]


def _summary(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "no mistakes found"
    parts = [(errors, "error"), (warnings, "warning")]
    return ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in parts if count)
