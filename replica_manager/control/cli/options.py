"""Options that many commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from replica_manager.config import Config

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
DEFAULT_FILE = "spare.toml"


@dataclass(slots=True)
class Settings:
    """What the options of the command line say, whether they stand before or after the command."""

    config_path: Path | None = None

    @property
    def path(self) -> Path:
        """The configuration file."""
        return self.config_path or Path(DEFAULT_FILE)

    def load(self) -> "Config":
        """Return the configuration.

        Raises:
            ConfigError: it has mistakes.
        """
        from replica_manager.config_check import load

        return load(self.path)


def config_option(function: FunctionT) -> FunctionT:
    """Add `-c FILE`."""

    def keep(ctx: click.Context, _option: click.Parameter, value: Path | None) -> None:
        settings = ctx.ensure_object(Settings)
        if value is not None:
            settings.config_path = value

    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="SPARE_CONFIG",
        expose_value=False,
        callback=keep,
        help=f"Configuration file of the cell.  [default: {DEFAULT_FILE}]",
    )(function)


def output_option(function: FunctionT) -> FunctionT:
    """Add `-o table|json`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        help="For people or for programs.",
    )(function)


def plan_options(function: FunctionT) -> FunctionT:
    """Add `--yes` and `--dry-run` to a command that destroys something."""
    function = click.option("--dry-run", is_flag=True, help="Show the plan and do nothing.")(function)
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)
