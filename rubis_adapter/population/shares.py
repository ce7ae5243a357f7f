"""How a fixed number of things is divided over places, exactly and in little memory."""

from collections.abc import Sequence
from random import Random


def proportional(total: int, weights: Sequence[int]) -> list[int]:
    """Divides `total` in the proportion of `weights` by largest remainders; the parts sum to `total`."""
    weight_total = sum(weights)
    parts = [total * weight // weight_total for weight in weights]
    remainders = [total * weight % weight_total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def spread(random: Random, total: int, places: int, most: int) -> bytearray:
    """Gives every one of `places` a count of at most `most` (below 256), so that the counts sum to `total`.

    Counts are drawn evenly from 0 to twice the mean and then corrected one by one at random places.
    """
    assert 0 <= total <= places * most, "more than the places can hold"
    if not places:
        return bytearray()
    widest = min(most, round(2 * total / places))
    counts = bytearray(random.choices(range(widest + 1), k=places))
    missing = total - sum(counts)
    step = 1 if missing > 0 else -1
    while missing:
        place = random.randrange(places)
        if 0 <= counts[place] + step <= most:
            counts[place] += step
            missing -= step
    return counts


def flags(random: Random, places: int, share: float) -> bytearray:
    """One byte per place, 1 at exactly `share` of them (rounded), chosen at random, 0 elsewhere."""
    marked = round(places * share)
    chosen = bytearray(b"\1" * marked + b"\0" * (places - marked))
    random.shuffle(chosen)
    return chosen
