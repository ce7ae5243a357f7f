"""The root of the command line: lazy groups, common options, and the supervisor that turns errors into sentences."""

import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.options import Settings, config_option

_PACKAGE = "replica_manager.control.cli"


class _Lazy(NamedTuple):
    """A command that is imported when it is used."""

    module: str
    attribute: str
    short_help: str


COMMANDS: Mapping[str, _Lazy] = {
    "cell": _Lazy("cell", "cell", "Start, stop and check a cell."),
    "server": _Lazy("member", "server", "Run one server of a cell, have it leave, bring it back."),
    "witness": _Lazy("member", "witness", "Run one witness of a cell."),
    "status": _Lazy("look", "status", "Show servers, roles, cursors, buffered updates."),
    "topology": _Lazy("look", "topology", "Show what runs where, with addresses."),
    "replicas": _Lazy("look", "replicas", "Show every domain with its role and use."),
    "events": _Lazy("history", "events", "Show what happened, or follow it with -f."),
    "explain": _Lazy("history", "explain", "Show who said what about one sequence number."),
    "history": _Lazy("history", "history", "Show every change of roles and members, with its evidence."),
    "resolve": _Lazy("orders", "resolve", "Decide about a request that stays open."),
    "activate": _Lazy("orders", "activate", "Make a passive domain active."),
    "retire": _Lazy("orders", "retire", "Give up a domain; a fresh one takes its place."),
    "recover": _Lazy("recover", "recover", "Replace every server's oldest domain by a fresh one."),
    "checkpoint": _Lazy("checkpoint", "checkpoint", "Compare the state of all domains at one agreed position."),
    "state": _Lazy("state", "state", "Write the agreed state to a file; how to start a cell with it."),
    "proxy": _Lazy("proxy", "proxy", "Serve HTTP clients, and repeat their requests when a server dies."),
    "image": _Lazy("image", "image", "Build, check and approve images of virtual machines."),
    "keys": _Lazy("keys", "keys", "Make and renew keys and certificates."),
    "bench": _Lazy("bench", "bench", "Measure, and write a report."),
    "chaos": _Lazy("chaos", "chaos", "Run faults on a schedule under load, and check the outcome."),
    "demo": _Lazy("demo", "demo", "Serve RUBiS from a cell of real virtual machines, under load."),
    "version": _Lazy("about", "version", "Show the version."),
    "completion": _Lazy("about", "completion", "Print the completion script of a shell."),
}


class SpareGroup(click.Group):
    """A group that imports its commands lazily and supervises what they raise."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of an operator's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(f"{_PACKAGE}.{lazy.module}"), lazy.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their short help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.short_help) for name, lazy in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader of its output that has seen enough is no error, as click would have it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Without this, Python complains once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.OK
        return result

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = "spare", **extra: Any
    ) -> NoReturn:
        """Run the command line; the named supervisor of the operator's side.

        Every error becomes one sentence with a hint, and an exit code; `--debug` adds the traceback.
        """
        extra.pop("standalone_mode", None)
        words = list(sys.argv[1:] if args is None else args)
        is_debug = "--debug" in words or bool(os.environ.get("SPARE_DEBUG"))
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            result = super().main(words, prog_name, standalone_mode=False, **extra)
            code = result if isinstance(result, int) else ExitCode.OK
        except click.ClickException as error:
            error.show()
            code = ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.ERROR
        except (click.exceptions.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            code = ExitCode.INTERRUPTED
        except Exception as error:  # noqa: BLE001  (named supervisor)
            if is_debug:
                traceback.print_exc()
            code = _tell(error)
        sys.exit(int(code))


def _interrupt(_number: int, _frame: object) -> None:
    """Treat SIGTERM like Ctrl-C: commands clean up in either case."""
    raise KeyboardInterrupt


def _tell(error: Exception) -> ExitCode:
    """Say what went wrong in one sentence with a hint; return the exit code."""
    from replica_manager.control.cli.failures import failure_of

    failure = failure_of(error)
    for line in failure.lines:
        click.echo(line, err=True)
    return failure.code


@click.group(
    cls=SpareGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SPARE", "max_content_width": 100},
)
@config_option
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def spare(ctx: click.Context, debug: bool) -> None:
    """Byzantine fault tolerance for an existing service, at nearly the cost of crash tolerance.

    A cell is described by one file; name it with -c or SPARE_CONFIG, or stand in the directory of a spare.toml.

    Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 degraded but serving, 4 not serving, 5 timeout.
    """
    ctx.ensure_object(Settings)
