"""Schedules that the correct code survives, and planted mistakes that it is known not to contain."""

import dataclasses
import random

import pytest

from tests.simulation.agreement.checkers import TwoHistories
from tests.simulation.agreement.cluster import Cluster
from tests.simulation.agreement.options import Options
from tests.simulation.agreement.planted import PLANTED
from tests.simulation.agreement.run import run_seed

SEEDS_MAX = 60
"""Each planted mistake is found within this many schedules."""


def options_for_hunting(tolerated_faults: int) -> Options:
    """A network that loses nothing but is cut often: what the classic mistakes need is changes of sides."""
    return dataclasses.replace(
        Options.draw(random.Random(0)),
        tolerated_faults=tolerated_faults,
        safety_ms=30_000,
        proposal_interval_ms=80,
        fault_interval_ms=1_500,
        delay_max_ms=10,
        loss=0.0,
        duplication=0.0,
        straggling=0.0,
        sync_max_ms=5,
        compaction_interval=100_000,
        history_bytes_max=10_000_000,
        goes_by_wire=False,
    )


@pytest.mark.parametrize("tolerated_faults", [1, 2, 3])
@pytest.mark.parametrize("first_seed", [0, 100])
def test_no_schedule_breaks_a_promise(tolerated_faults: int, first_seed: int) -> None:
    """Every server delivers the same history, and after the faults everything that was proposed is delivered."""
    for seed in range(first_seed, first_seed + 12):
        options = Options.draw(random.Random(seed), tolerated_faults)
        print(f"seed {seed}: {options}")
        assert run_seed(seed, options=options).delivered > 0


@pytest.mark.parametrize("tolerated_faults", [1, 2])
def test_no_schedule_breaks_a_promise_without_witnesses(tolerated_faults: int) -> None:
    """Fences take the witnesses' place, and servers that start are nobody."""
    for seed in range(12):
        options = Options.draw(random.Random(seed), tolerated_faults, has_witnesses=False)
        print(f"seed {seed}: {options}")
        assert run_seed(seed, options=options).recovered_after_ms < 120_000


def test_a_seed_gives_the_same_schedule_again() -> None:
    """A failure can be looked at: everything is drawn from the seed."""
    assert run_seed(5) == run_seed(5)


@pytest.mark.parametrize("mistake", sorted(PLANTED))
def test_a_planted_mistake_splits_the_cell_within_few_schedules(mistake: str) -> None:
    """The checkers find what others have got wrong; each schedule with the correct code passes."""
    options = options_for_hunting(tolerated_faults=2)
    if mistake == "lying-disk":
        options = dataclasses.replace(options, tolerated_faults=1, fault_interval_ms=200, sync_max_ms=50)
    found = next((seed for seed in range(SEEDS_MAX) if splits(PLANTED[mistake], seed, options)), None)
    assert found is not None, f"{mistake} was not found in {SEEDS_MAX} schedules"
    assert not splits(Cluster, found, options)


def splits(cluster_type: type[Cluster], seed: int, options: Options) -> bool:
    """Whether two servers deliver different histories.  Other complaints are of no interest here."""
    try:
        run_seed(seed, cluster_type, options, liveness_ms=10_000)
    except TwoHistories:
        return True
    except AssertionError:
        return False
    return False
