"""Cells that are gone after their test."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.operations.live_cell import LiveCell


@pytest.fixture
def make_cell() -> Iterator[Callable[..., LiveCell]]:
    """Make cells, one per test as a rule; each is ended and its directory removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        made: list[LiveCell] = []

        def make(**options: object) -> LiveCell:
            place = Path(directory) / str(len(made))
            place.mkdir()
            made.append(LiveCell(place, **options))  # type: ignore[arg-type]
            return made[-1]

        yield make
        for cell in made:
            code, _, err = cell.spare("cell", "down", "--purge", "--yes")
            assert code == 0, err
