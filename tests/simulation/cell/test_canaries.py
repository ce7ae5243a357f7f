"""The simulation finds what it is there to find: each planted mistake, by the checker of its rule."""

import re
from itertools import count, islice

import pytest

from tests.simulation.cell.options import draw_options
from tests.simulation.cell.planted import CANARIES
from tests.simulation.cell.run import run_seed

pytestmark = pytest.mark.slow

SEEDS_MAX = 500


@pytest.mark.parametrize("name", CANARIES)
def test_a_planted_mistake_is_found(name: str) -> None:
    canary = CANARIES[name]
    seeds = islice((seed for seed in count() if canary.shows(draw_options(seed))), SEEDS_MAX)
    found = []
    for seed in seeds:
        try:
            run_seed(seed, canary.plant)
        except AssertionError as broken:
            found.append(str(broken))
            if re.search(canary.rule, str(broken)):
                return
    raise AssertionError(f"{name} was not found by '{canary.rule}', but as {found}")
