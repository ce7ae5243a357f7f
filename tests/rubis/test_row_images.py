"""Row images: every value survives, every other byte string is refused, parts are plain slices."""

from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.errors import MalformedUpdate, UnsupportedStatement
from rubis_adapter.schema import SERVICE_TABLES
from rubis_adapter.update_manager.row_images import (
    FORMAT_BYTE,
    ImageReader,
    RowImage,
    decode_images,
    encode_gone,
    encode_row,
    split_parts,
)

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=20),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9),
    st.datetimes(),
)


@st.composite
def images(draw: st.DrawFn) -> RowImage:
    table = draw(st.integers(0, len(SERVICE_TABLES) - 1))
    row_id = draw(st.integers(-(2**63), 2**63 - 1))
    count = len(SERVICE_TABLES[table].columns) - 1
    values = draw(st.none() | st.lists(VALUES, min_size=count, max_size=count).map(tuple))
    return RowImage(table, row_id, values)


def encoded(image: RowImage) -> bytes:
    if image.values is None:
        return encode_gone(image.table, image.id)
    return encode_row(image.table, (image.id, *image.values))


@given(st.lists(images(), max_size=4))
def test_images_survive_encoding(some: list[RowImage]) -> None:
    assert decode_images(FORMAT_BYTE + b"".join(encoded(image) for image in some)) == some


@given(st.lists(images(), max_size=6), st.integers(1, 200), st.integers(1, 60))
def test_a_state_may_be_cut_anywhere(some: list[RowImage], part_bytes_max: int, read_bytes: int) -> None:
    """Parts depend on the stream alone, and a reader may get them in pieces of any size."""
    stream = FORMAT_BYTE + b"".join(encoded(image) for image in some)
    parts = list(split_parts((encoded(image) for image in some), part_bytes_max))
    assert parts == [stream[start : start + part_bytes_max] for start in range(0, len(stream), part_bytes_max)]
    reader = ImageReader()
    read = [
        image
        for start in range(0, len(stream), read_bytes)
        for image in reader.feed(stream[start : start + read_bytes])
    ]
    reader.finish()
    assert read == some


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    for candidate in (data, FORMAT_BYTE + data):
        try:
            found = decode_images(candidate)
        except MalformedUpdate:
            continue
        assert decode_images(FORMAT_BYTE + b"".join(encoded(image) for image in found)) == found


@given(st.lists(images(), min_size=1, max_size=3), st.data())
def test_an_update_that_is_cut_off_is_refused(some: list[RowImage], data: st.DataObject) -> None:
    whole = FORMAT_BYTE + b"".join(encoded(image) for image in some)
    ends = {1}
    for image in some:
        ends.add(max(ends) + len(encoded(image)))
    cut = data.draw(st.integers(0, len(whole) - 1).filter(lambda position: position not in ends))
    with pytest.raises(MalformedUpdate):
        decode_images(whole[:cut])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("12.30"), Decimal("12.3")),
        (Decimal("5"), Decimal("5.000")),
        (12.3, Decimal("12.30")),
    ],
)
def test_equal_numbers_have_equal_images(one: object, other: object) -> None:
    """However a driver spells them."""
    assert encode_row(0, (1, one)) == encode_row(0, (1, other))


def test_a_rounded_number_shows() -> None:
    exact, rounded, finer = (encode_row(0, (1, Decimal(text))) for text in ("12.34", "12.3", "12.341"))
    assert len({exact, rounded, finer}) == 3
    assert decode_images(FORMAT_BYTE + finer)[0].values == (Decimal("12.341"),)


def test_a_fraction_of_a_second_shows() -> None:
    whole, fraction = (encode_row(0, (1, datetime(2030, 1, 2, 3, 4, 5, us))) for us in (0, 250_000))  # noqa: DTZ001
    assert whole != fraction


def test_a_value_of_another_kind_is_named() -> None:
    with pytest.raises(UnsupportedStatement, match=r"categories 7: cannot represent .*bytes"):
        encode_row(0, (7, b"raw"))
