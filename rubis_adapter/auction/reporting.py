"""Brackets each request for the update manager and reports its update before the reply leaves."""

from typing import Protocol


class UpdateReporter(Protocol):
    """What the site does around every dynamic request so that its changes become known."""

    def begin(self, sequence: int) -> None:
        """A request starts."""

    def finish(self, sequence: int) -> bool:
        """The request has ended, its transaction too; whether it changed anything."""


class Unreported:
    """Runs the site alone, as without a cell: nobody wants to know the changes."""

    def begin(self, sequence: int) -> None:
        """Does nothing."""

    def finish(self, sequence: int) -> bool:
        """Reports nothing."""
        return False
