"""Row images: the uniform representation of rows, equal bytes for equal rows of MariaDB and PostgreSQL.

Layout, big-endian.  An update and a state part are `format: u8` followed by images:

    image = table: u8 (index in SERVICE_TABLES) | kind: u8 (0 the row is gone, 1 its values follow) | id: i64 | values
    values = the other columns in the order of the table, each `tag: u8 | …`:
        0 NULL             nothing
        1 integer          i64
        2 decimal          i64, hundredths
        3 text             u32 length, UTF-8
        4 time             i64, microseconds since 1970-01-01 (UTC)
        5 other decimal    u32 length, ASCII: a number that hundredths or an i64 cannot hold

A value is tagged by what the database gave back, not by what the column should hold: a database that rounds,
converts or cuts shows in its images.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from rubis_adapter.errors import MalformedUpdate, UnsupportedStatement
from rubis_adapter.schema import SERVICE_TABLES

FORMAT: Final = 1
FORMAT_BYTE: Final = bytes([FORMAT])
GONE: Final = 0
PRESENT: Final = 1
VALUE_BYTES_MAX: Final = 4 * 65536
"""No column holds a longer text."""

Value = None | int | str | Decimal | datetime

_HEAD: Final = struct.Struct(">BBq")
_NUMBER: Final = struct.Struct(">Bq")
_TEXT: Final = struct.Struct(">BI")
_NULL, _INTEGER, _HUNDREDTHS, _CHARACTERS, _TIME, _OTHER_DECIMAL = range(6)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - columns hold UTC without a zone
_MICROSECOND: Final = timedelta(microseconds=1)
_INTEGER_MAX: Final = 2**63 - 1

assert all([column.name for column in table.primary_key] == ["id"] for table in SERVICE_TABLES)
assert all(table.columns.keys()[0] == "id" for table in SERVICE_TABLES)
COLUMN_COUNTS: Final = tuple(len(table.columns) for table in SERVICE_TABLES)


class RowImage(NamedTuple):
    """One row after a request, or before it: the state of the row with this key."""

    table: int
    """Index in `SERVICE_TABLES`."""
    id: int
    values: tuple[Value, ...] | None
    """All columns but `id`; None: there is no such row."""


def encode_row(table: int, row: Sequence[object]) -> bytes:
    """The image of a row as the database gave it, `id` first.

    Raises:
      UnsupportedStatement: a value of a kind that no column of the schema has.
    """
    try:
        values = b"".join([_ENCODERS[type(value)](value) for value in row[1:]])
    except KeyError as error:
        raise UnsupportedStatement(
            f"{SERVICE_TABLES[table].name} {row[0]}: cannot represent a value of type {error}"
        ) from None
    return _HEAD.pack(table, PRESENT, row[0]) + values


def encode_gone(table: int, row_id: int) -> bytes:
    """The image of a row that is not there."""
    return _HEAD.pack(table, GONE, row_id)


def decode_images(data: bytes) -> Iterator[RowImage]:
    """The images of an update or a state part; `data` may be any bytes.

    Raises:
      MalformedUpdate: not of this format.
    """
    if data[:1] != FORMAT_BYTE:
        raise MalformedUpdate(f"format {data[:1].hex()!r} is not {FORMAT}")
    position = 1
    try:
        while position < len(data):
            table, kind, row_id = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            if table >= len(SERVICE_TABLES) or kind > PRESENT:
                raise MalformedUpdate(f"no table {table} or no kind {kind} at byte {position}")
            values = None
            if kind == PRESENT:
                values, position = _decode_values(data, position, COLUMN_COUNTS[table] - 1)
            yield RowImage(table, row_id, values)
    except (struct.error, ValueError, ArithmeticError) as error:
        raise MalformedUpdate(f"at byte {position} of {len(data)}: {error}") from error


def _decode_values(data: bytes, position: int, count: int) -> tuple[tuple[Value, ...], int]:
    values: list[Value] = []
    for _ in range(count):
        tag = data[position] if position < len(data) else -1
        if tag == _NULL:
            values.append(None)
            position += 1
        elif tag in _NUMBER_DECODERS:
            _, number = _NUMBER.unpack_from(data, position)
            values.append(_NUMBER_DECODERS[tag](number))
            position += _NUMBER.size
        elif tag in _TEXT_DECODERS:
            _, length = _TEXT.unpack_from(data, position)
            position += _TEXT.size
            if length > min(VALUE_BYTES_MAX, len(data) - position):
                raise MalformedUpdate(f"a text of {length} bytes at byte {position} of {len(data)}")
            values.append(_TEXT_DECODERS[tag](data[position : position + length]))
            position += length
        else:
            raise MalformedUpdate(f"no tag at byte {position} of {len(data)}")
    return tuple(values), position


def split_parts(images: Iterable[bytes], part_bytes_max: int) -> Iterator[bytes]:
    """Packs encoded images, in the given order, into parts of at most `part_bytes_max` bytes, each as full as possible.

    Raises:
      ValueError: a single row does not fit into a part.
    """
    part = [FORMAT_BYTE]
    size = 1
    for image in images:
        if size + len(image) > part_bytes_max:
            if len(image) >= part_bytes_max:
                raise ValueError(f"a row of {len(image)} bytes does not fit into a part of {part_bytes_max}")
            yield b"".join(part)
            part = [FORMAT_BYTE]
            size = 1
        part.append(image)
        size += len(image)
    yield b"".join(part)


def _encode_integer(value: int) -> bytes:
    return _NUMBER.pack(_INTEGER, value)


def _encode_text(value: str) -> bytes:
    data = value.encode("utf-8")
    return _TEXT.pack(_CHARACTERS, len(data)) + data


def _encode_decimal(value: Decimal) -> bytes:
    hundredths = value * 100
    if value.is_finite() and abs(hundredths) <= _INTEGER_MAX and hundredths == (whole := int(hundredths)):
        return _NUMBER.pack(_HUNDREDTHS, whole)
    text = format(value.normalize(), "f").encode("ascii")
    return _TEXT.pack(_OTHER_DECIMAL, len(text)) + text


def _encode_time(value: datetime) -> bytes:
    return _NUMBER.pack(_TIME, (value - _EPOCH) // _MICROSECOND)


_ENCODERS: Final[dict[type, Callable[..., bytes]]] = {
    type(None): lambda _value: bytes([_NULL]),
    int: _encode_integer,
    str: _encode_text,
    Decimal: _encode_decimal,
    # What a column gives that somebody made a float; `repr` is the shortest text that reads back as the same number.
    float: lambda value: _encode_decimal(Decimal(repr(value))),
    datetime: _encode_time,
}

_NUMBER_DECODERS: Final[dict[int, Callable[[int], Value]]] = {
    _INTEGER: int,
    _HUNDREDTHS: lambda number: Decimal(number).scaleb(-2),
    _TIME: lambda number: _EPOCH + timedelta(microseconds=number),
}

_TEXT_DECODERS: Final[dict[int, Callable[[bytes], Value]]] = {
    _CHARACTERS: lambda data: data.decode("utf-8"),
    _OTHER_DECIMAL: lambda data: Decimal(data.decode("ascii")),
}
