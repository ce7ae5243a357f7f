"""Transition tables: which interaction follows which, with what probability, as data files of this package."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from rubis_adapter.client_emulator.errors import InvalidTransitionTable
from rubis_adapter.client_emulator.interactions import BACK, END_OF_SESSION, Interaction

MIX_NAMES: Final = ("bidding", "browsing")
COLUMNS: Final[tuple[str, ...]] = (*Interaction, BACK, END_OF_SESSION)


@dataclass(frozen=True, slots=True)
class TransitionTable:
    """The probabilities of one mix, ready to draw from.

    Attributes:
        name: The mix's name.
        rows: Per interaction its possible columns with the running sum of probabilities up to and with them.
    """

    name: str
    rows: Mapping[Interaction, tuple[tuple[float, str], ...]]

    def draw(self, current: Interaction, uniform: float) -> str:
        """The column that follows `current`.

        Args:
            current: The interaction that has just been answered.
            uniform: A uniform draw from [0, 1).

        Returns:
            The first column whose running sum exceeds `uniform`; `current` if the row's total does not.
        """
        for running_sum, column in self.rows[current]:
            if uniform < running_sum:
                return column
        return current

    def allows_back(self, interaction: Interaction) -> bool:
        """Whether `interaction`'s row has a way back."""
        return any(column == BACK for _, column in self.rows[interaction])


def load_mix(name: str) -> TransitionTable:
    """The mix `name` of this package.

    Raises:
        InvalidTransitionTable: There is no such mix, or its file is wrong.
    """
    if name not in MIX_NAMES:
        raise InvalidTransitionTable(f"there is no mix {name!r}; there are {', '.join(MIX_NAMES)}")
    text = resources.files(__package__).joinpath("mixes", f"{name}.toml").read_text(encoding="utf-8")
    return parse_mix(name, text)


def parse_mix(name: str, text: str) -> TransitionTable:
    """A transition table from its TOML text, `from = { to = probability }`.

    Raises:
        InvalidTransitionTable: Not TOML, an unknown name, a row is missing, or a value is no probability.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidTransitionTable(f"mix {name!r} is no TOML: {error}") from error
    unknown = sorted(document.keys() - set(Interaction))
    missing = [interaction for interaction in Interaction if interaction not in document]
    if unknown or missing:
        raise InvalidTransitionTable(f"mix {name!r}: unknown rows {unknown}, missing rows {missing}")
    return TransitionTable(name, {row: _running_sums(name, row, document[row]) for row in Interaction})


def _running_sums(name: str, row: Interaction, probabilities: Mapping[str, Any]) -> tuple[tuple[float, str], ...]:
    unknown = sorted(probabilities.keys() - set(COLUMNS))
    if unknown:
        raise InvalidTransitionTable(f"mix {name!r}, row {row}: unknown columns {unknown}")
    total = 0.0
    sums: list[tuple[float, str]] = []
    for column in COLUMNS:
        probability = probabilities.get(column, 0)
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise InvalidTransitionTable(f"mix {name!r}, row {row}, column {column}: {probability!r} is no probability")
        if probability:
            total += probability
            sums.append((total, column))
    return tuple(sums)
