"""Cuts a state into parts."""

from typing import Iterable, Iterator


def cut_into_parts(pieces: Iterable[bytes], part_bytes_max: int) -> Iterator[bytes]:
    """Yield the concatenation of `pieces` in parts of `part_bytes_max` bytes; only the last one may be shorter.

    Where pieces end leaves no trace, so equal states have equal parts if their pieces are canonical together.

    Args:
        pieces: of any length; read as parts are asked for.
        part_bytes_max: at least 1.
    """
    part = bytearray()
    for piece in pieces:
        part += piece
        while len(part) > part_bytes_max:
            yield bytes(part[:part_bytes_max])
            del part[:part_bytes_max]
    yield bytes(part)
