"""Row images: the uniform representation of rows, equal bytes for equal rows of MariaDB and PostgreSQL.

Layout, big-endian.  An update is `format: u8` followed by images; a state likewise, cut into parts anywhere:

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

import re
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
_PLAIN_DECIMAL: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?")

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


def decode_images(data: bytes) -> list[RowImage]:
    """The images of an update; `data` may be any bytes.

    Raises:
      MalformedUpdate: not of this format.
    """
    reader = ImageReader()
    images = reader.feed(data)
    reader.finish()
    return images


class ImageReader:
    """Decodes images from a stream that comes in pieces."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._rest = b""
        self._is_begun = False

    def feed(self, data: bytes) -> list[RowImage]:
        """The images that are complete with this piece.  Raises `MalformedUpdate`."""
        data = self._rest + data
        position = 0
        if not self._is_begun and data:
            if data[:1] != FORMAT_BYTE:
                raise MalformedUpdate(f"format {data[0]} is not {FORMAT}")
            self._is_begun = True
            position = 1
        images = []
        while (found := _decode_image(data, position)) is not None:
            image, position = found
            images.append(image)
        self._rest = data[position:]
        return images

    def finish(self) -> None:
        """The stream has ended.  Raises `MalformedUpdate` if that is in the middle of an image, or before the first."""
        if self._rest or not self._is_begun:
            raise MalformedUpdate(f"cut off in the middle of an image ({len(self._rest)} bytes are left)")


def _decode_image(data: bytes, position: int) -> tuple[RowImage, int] | None:
    """The image at `position` and where it ends, None if it is not complete."""
    if position + _HEAD.size > len(data):
        return None
    table, kind, row_id = _HEAD.unpack_from(data, position)
    position += _HEAD.size
    if table >= len(SERVICE_TABLES) or kind > PRESENT:
        raise MalformedUpdate(f"no table {table} or no kind {kind}")
    if kind == GONE:
        return RowImage(table, row_id, None), position
    values: list[Value] = []
    for _ in range(COLUMN_COUNTS[table] - 1):
        try:
            found = _decode_value(data, position)
        except (ValueError, ArithmeticError) as error:
            raise MalformedUpdate(f"{SERVICE_TABLES[table].name} {row_id}: {error}") from error
        if found is None:
            return None
        value, position = found
        values.append(value)
    return RowImage(table, row_id, tuple(values)), position


def _decode_value(data: bytes, position: int) -> tuple[Value, int] | None:
    """The value at `position` and where it ends, None if it is not complete."""
    if position >= len(data):
        return None
    tag = data[position]
    if tag == _NULL:
        return None, position + 1
    if tag in _NUMBER_DECODERS:
        end = position + _NUMBER.size
        return (_NUMBER_DECODERS[tag](_NUMBER.unpack_from(data, position)[1]), end) if end <= len(data) else None
    if tag not in _TEXT_DECODERS:
        raise MalformedUpdate(f"no tag {tag}")
    start = position + _TEXT.size
    if start > len(data):
        return None
    length = _TEXT.unpack_from(data, position)[1]
    if length > VALUE_BYTES_MAX:
        raise MalformedUpdate(f"a text of {length} bytes, {VALUE_BYTES_MAX} are allowed")
    end = start + length
    return (_TEXT_DECODERS[tag](data[start:end]), end) if end <= len(data) else None


def split_parts(images: Iterable[bytes], part_bytes_max: int) -> Iterator[bytes]:
    """Cuts the stream of encoded images into parts of exactly `part_bytes_max` bytes; the last may be shorter."""
    pieces = [FORMAT_BYTE]
    size = 1
    for image in images:
        pieces.append(image)
        size += len(image)
        if size > part_bytes_max:
            stream = b"".join(pieces)
            cut = len(stream) - len(stream) % part_bytes_max
            yield from (stream[start : start + part_bytes_max] for start in range(0, cut, part_bytes_max))
            pieces = [stream[cut:]]
            size = len(stream) - cut
    yield from (part for part in (b"".join(pieces),) if part)


def _encode_integer(value: int) -> bytes:
    return _NUMBER.pack(_INTEGER, value)


def _encode_text(value: str) -> bytes:
    data = value.encode("utf-8")
    return _TEXT.pack(_CHARACTERS, len(data)) + data


def _encode_decimal(value: Decimal) -> bytes:
    if not value.is_finite():
        raise UnsupportedStatement(f"cannot represent {value}")
    hundredths = value * 100
    if abs(hundredths) <= _INTEGER_MAX and hundredths == (whole := int(hundredths)):
        return _NUMBER.pack(_HUNDREDTHS, whole)
    text = format(value.normalize(), "f").encode("ascii")
    return _TEXT.pack(_OTHER_DECIMAL, len(text)) + text


def _encode_time(value: datetime) -> bytes:
    return _NUMBER.pack(_TIME, (value - _EPOCH) // _MICROSECOND)


def _decode_decimal(data: bytes) -> Decimal:
    if not _PLAIN_DECIMAL.fullmatch(data):
        raise ValueError("not a plain decimal number")
    return Decimal(data.decode("ascii"))


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
    _OTHER_DECIMAL: _decode_decimal,
}
