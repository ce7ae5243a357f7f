"""Plausible names, descriptions and comments, made from the package's vocabulary.

Names look like "Walnut writing desk"; lengths of longer texts are spread evenly over their orders of magnitude, so
that most are short and some reach the limit, like those that people write.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import cycle
from random import Random
from typing import Any, Final

from rubis_adapter.schema import COMMENT_CHARACTERS_MAX, DESCRIPTION_CHARACTERS_MAX

DESCRIPTION_CHARACTERS_MIN: Final = 40
COMMENT_CHARACTERS_MIN: Final = 30

RATINGS: Final = (-5, -3, 0, 3, 5)
"""Ratings that a comment can give."""
_MOODS: Final = dict(zip(RATINGS, ("very_bad", "bad", "neutral", "good", "very_good"), strict=True))


@cache
def _vocabulary() -> Mapping[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))


@cache
def _words(section: str, key: str) -> Sequence[str]:
    words: Sequence[str] = tuple(_vocabulary()[section][key])
    return words


@cache
def _extras() -> Sequence[str]:
    extras: Sequence[str] = tuple(_vocabulary()["extras"])
    return extras


def item_name(random: Random, category: str) -> str:
    """The name of an item of `category`, at most 100 characters."""
    qualifier = random.choice(_words("qualifiers", category))
    thing = random.choice(_words("things", category))
    extra = random.choice(_extras())
    return f"{qualifier} {thing}, {extra}" if extra else f"{qualifier} {thing}"


def item_description(random: Random, name: str, characters_max: int = DESCRIPTION_CHARACTERS_MAX) -> str:
    """A description of the item `name`, at most `characters_max` characters."""
    characters = _length(random, DESCRIPTION_CHARACTERS_MIN, characters_max)
    return _prose(random, f"{name}.", _words("texts", "description"), characters, name)


def comment_text(random: Random, rating: int, characters_max: int = COMMENT_CHARACTERS_MAX) -> str:
    """A comment that goes with `rating` (one of `RATINGS`), at most `characters_max` characters."""
    characters = _length(random, COMMENT_CHARACTERS_MIN, characters_max)
    mood = random.choice(_words("texts", _MOODS[rating]))
    return _prose(random, mood, _words("texts", "remark"), characters, "item")


def _length(random: Random, least: int, most: int) -> int:
    return round(math.exp(random.uniform(math.log(least), math.log(most))))


def _prose(random: Random, opening: str, sentences: Sequence[str], characters: int, name: str) -> str:
    """`opening` and as many sentences as fit into `characters`; the opening stands even if it is longer."""
    text = [_fill(opening, random, name)]
    left = characters - len(text[0])
    for sentence in cycle(random.sample(sentences, len(sentences))):
        text.append(_fill(sentence, random, name))
        left -= 1 + len(text[-1])
        if left < 0:
            text.pop()
            break
    return " ".join(text)


def _fill(sentence: str, random: Random, name: str) -> str:
    if "{" not in sentence:
        return sentence
    return sentence.format(name=name.lower(), years=random.randint(2, 9), size=random.randint(10, 90))
