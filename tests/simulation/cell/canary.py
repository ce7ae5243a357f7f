"""What a planted mistake is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.cell.options import Options
from tests.simulation.cell.server import SimulatedServer

Plant = Callable[[SimulatedServer], None]
"""Takes out a rule on one server, to see that a checker finds it."""


def in_part(name: str, planted: type[Any]) -> Plant:
    """Plant in one part of a server's core."""

    def plant(server: SimulatedServer) -> None:
        getattr(server.core, name).__class__ = planted

    return plant


@dataclass(frozen=True)
class Canary:
    """A planted mistake, in which runs it can show, and the rule that finds it."""

    plant: Plant
    rule: str
    """Regular expression over the message of the checker."""
    shows: Callable[[Options], bool] = lambda options: not options.is_faulty
