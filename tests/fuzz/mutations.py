"""Changes bytes in the ways that break parsers.  Pure: the same seed gives the same mutants.

Written for speed: a million mutants per parser are made in one thread, so `random()` is used where `randrange` would
read better, at a fifth of its cost.
"""

import random
from collections.abc import Callable, Sequence

MUTANT_BYTES_MAX = 64 * 1024
"""A mutant is cut here: longer ones only cost time, the limits of the parsers under test are set below it."""
CHANGES_MAX = 4
INTERESTING_BYTES = b'\x00\x01\x7f\x80\xff\r\n\t :;,"{}[]0123456789aGP-+\x90\x91\x93\xc0\xc1\xc4\xc6\xcf\xdc\xdd'
"""Ends of ranges, line ends and separators, digits, markers of msgpack."""
LENGTHS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63,
    2**64 - 1,
)
WIDTHS = (1, 2, 4, 4, 4, 8)

Change = Callable[["Mutator", bytearray], None]


class Mutator:
    """Makes mutants of a corpus."""

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        """Draw from `corpus`, which is not empty, by `seed`."""
        assert corpus
        self._corpus = list(corpus)
        self._random = random.Random(seed).random
        self.counts: dict[str, int] = dict.fromkeys((change.__name__ for change in _CHANGES), 0)
        """How often each change was made."""

    def mutant(self) -> bytes:
        """Return one member of the corpus, changed one to `CHANGES_MAX` times."""
        data = bytearray(self._corpus[self.below(len(self._corpus))])
        for _ in range(1 + self.below(CHANGES_MAX)):
            change = _CHANGES[self.below(len(_CHANGES))]
            self.counts[change.__name__] += 1
            change(self, data)
        return bytes(data[:MUTANT_BYTES_MAX])

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit - 1`; 0 if there is none."""
        return int(self._random() * limit)

    def span(self, data: bytearray, length_max: int) -> tuple[int, int]:
        """Return begin and end of a piece of `data`."""
        begin = self.below(len(data))
        return begin, begin + 1 + self.below(min(length_max, len(data) - begin))

    def other(self) -> bytes:
        """Return any member of the corpus."""
        return self._corpus[self.below(len(self._corpus))]


def flip_bit(mutator: Mutator, data: bytearray) -> None:
    """One bit is another."""
    if data:
        data[mutator.below(len(data))] ^= 1 << mutator.below(8)


def set_byte(mutator: Mutator, data: bytearray) -> None:
    """One byte means something else."""
    if data:
        data[mutator.below(len(data))] = INTERESTING_BYTES[mutator.below(len(INTERESTING_BYTES))]


def insert(mutator: Mutator, data: bytearray) -> None:
    """Bytes that were not there."""
    position = mutator.below(len(data) + 1)
    data[position:position] = bytes([mutator.below(256) for _ in range(1 + mutator.below(8))])


def delete(mutator: Mutator, data: bytearray) -> None:
    """A piece is missing."""
    begin, end = mutator.span(data, 32)
    del data[begin:end]


def duplicate(mutator: Mutator, data: bytearray) -> None:
    """A piece comes twice, or many times."""
    begin, end = mutator.span(data, 64)
    piece = data[begin:end]
    data[end:end] = piece * (1 if mutator.below(8) else 1 + mutator.below(64))


def splice(mutator: Mutator, data: bytearray) -> None:
    """The begin of one message and the end of another."""
    other = mutator.other()
    position = mutator.below(len(data) + 1)
    data[position:] = other[mutator.below(len(other) + 1) :]


def append(mutator: Mutator, data: bytearray) -> None:
    """Another message behind it."""
    data += mutator.other()


def edit_length(mutator: Mutator, data: bytearray) -> None:
    """A number, most likely a length, that is wrong by one or by everything."""
    width = WIDTHS[mutator.below(len(WIDTHS))]
    if len(data) < width:
        return
    position = 0 if mutator.below(3) == 0 else mutator.below(len(data) - width + 1)
    present = int.from_bytes(data[position : position + width])
    near = present + mutator.below(5) - 2
    value = near if mutator.below(2) else LENGTHS[mutator.below(len(LENGTHS))]
    data[position : position + width] = (value % (1 << (8 * width))).to_bytes(width)


def edit_digits(mutator: Mutator, data: bytearray) -> None:
    """A number in digits that is another one."""
    positions = [index for index in range(min(len(data), 512)) if 48 <= data[index] <= 57]
    if positions:
        position = positions[mutator.below(len(positions))]
        data[position : position + 1] = b"%d" % LENGTHS[mutator.below(len(LENGTHS))]


def truncate(mutator: Mutator, data: bytearray) -> None:
    """The rest never comes."""
    del data[mutator.below(len(data) + 1) :]


def swap(mutator: Mutator, data: bytearray) -> None:
    """Two pieces in each other's place."""
    first_begin, first_end = mutator.span(data, 16)
    second_begin, second_end = mutator.span(data, 16)
    if first_end <= second_begin:
        first, second = data[first_begin:first_end], data[second_begin:second_end]
        data[second_begin:second_end] = first
        data[first_begin:first_end] = second


_CHANGES: tuple[Change, ...] = (
    flip_bit,
    set_byte,
    insert,
    delete,
    duplicate,
    splice,
    append,
    edit_length,
    edit_digits,
    truncate,
    swap,
)
