"""Asks before something is destroyed."""

import sys
from collections.abc import Sequence

import click

from replica_manager.control.errors import RefusedByOperator


def confirm_plan(lines: Sequence[str], *, yes: bool, dry_run: bool, needs_answer: bool = True) -> bool:
    """Show a plan and get the operator's consent; `False`: it was only to be shown.

    Args:
        lines: the steps.
        yes: consent is given already.
        dry_run: only show.
        needs_answer: whether a command without a terminal needs `--yes`; not for what can be undone.

    Raises:
        RefusedByOperator: the answer is no, or nobody is there to answer.
    """
    if dry_run:
        for line in lines:
            click.echo(f"would {line}")
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        if needs_answer:
            raise RefusedByOperator("this destroys something and nobody is at the terminal to confirm it", "say --yes")
        return True
    for line in lines:
        click.echo(f"  {line}", err=True)
    if not click.confirm("Go on?", err=True):
        raise RefusedByOperator("nothing was done")
    return True
