"""How commands show things: tables for people, JSON for programs, progress on standard error."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

SCHEMA = 1
"""Version of the JSON documents; it changes when a key changes its meaning or goes."""
PLAIN_WIDTH = 160
"""Columns of a table that goes into a file or pipe: no line is cut in the middle of a value."""


def print_json(document: dict[str, Any], *, indent: int | None = 2) -> None:
    """Print one JSON document with the version of its form."""
    click.echo(json.dumps({"schema": SCHEMA, **document}, indent=indent, default=str))


def console() -> Any:
    """Return rich's view of standard output; plain where that is no terminal or `NO_COLOR` is set."""
    from rich.console import Console

    return Console(
        file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, soft_wrap=False
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", right: Sequence[str] = ()) -> Any:
    """Return a table.

    Args:
        columns: headings.
        rows: values; `None` is shown as `-`.
        title: above it.
        right: headings of the columns with numbers.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        # Text, not markup: values come from domains and peers.
        shown.add_row(*(value if isinstance(value, Text) else Text(_cell(value)) for value in row))
    return shown


_COLOURS = {
    word: colour
    for colour, words in {
        "green": ("serving", "active", "running", "agrees", "stable"),
        "yellow": ("starting", "degraded", "waiting", "open", "returning", "restarting", "learning", "suspected"),
        "cyan": ("passive", "suspended"),
        "red": (
            *("not_serving", "no answer", "ended", "retired", "stopped", "differs", "diverged", "exceeded"),
            "contradicts",
        ),
    }.items()
    for word in words
}


def state_text(state: str) -> Any:
    """Return a state or role with its colour."""
    from rich.text import Text

    return Text(state, style=_COLOURS.get(state, ""))


def progress() -> Callable[[str], None]:
    """Return a function that tells progress on standard error, with the seconds since now."""
    started_s = time.monotonic()

    def tell(line: str) -> None:
        click.echo(f"[{time.monotonic() - started_s:6.1f} s] {line}", err=True)

    return tell


def bytes_text(count: float | None) -> str | None:
    """Return a number of bytes as people read it."""
    if count is None:
        return None
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def seconds_text(seconds: float | None) -> str | None:
    """Return a duration as people read it."""
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def time_text(at_us: int) -> str:
    """Return a wall-clock time with milliseconds, in the operator's time zone."""
    whole, rest_us = divmod(at_us, 1_000_000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(whole)) + f".{rest_us // 1000:03}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
