"""How often each interaction is expected, from walks through the transition table alone."""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from random import Random
from typing import Final

from rubis_adapter.client_emulator.interactions import Interaction
from rubis_adapter.client_emulator.transitions import MIX_NAMES, load_mix
from rubis_adapter.client_emulator.walk import SessionWalk

SAMPLED_INTERACTIONS: Final = 250_000
"""Interactions from which shares are taken: a share of 1 % is then known to ± 0.02 points; half a second."""


@lru_cache(maxsize=len(MIX_NAMES))
def expected_shares(mix: str) -> Mapping[Interaction, float]:
    """The share of every interaction in a long run of the mix, without failures and pages that find nothing.

    Sampled and not solved, because the way back makes the next interaction depend on more than the present one.
    """
    table, random = load_mix(mix), Random("expected shares")
    counts: Counter[Interaction] = Counter()
    sampled = 0
    while sampled < SAMPLED_INTERACTIONS:
        walk = SessionWalk(table, random)
        current: Interaction | None = walk.current
        while current is not None:
            counts[current] += 1
            sampled += 1
            current = walk.advance()
    return {interaction: counts[interaction] / sampled for interaction in Interaction}
