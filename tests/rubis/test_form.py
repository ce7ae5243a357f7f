"""Parameters: decoded strictly and checked before anything reaches a database."""

from decimal import Decimal
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.auction.form import FIELDS_MAX, PRICE_MAX, Form, FormError


def form(**fields: object) -> Form:
    return Form(urlencode(fields).encode("ascii"))


@given(st.dictionaries(st.text(max_size=8), st.text(min_size=1, max_size=20), max_size=8))
def test_what_is_encoded_is_decoded(fields: dict[str, str]) -> None:
    decoded = Form(urlencode(fields).encode("ascii"))
    for name in fields:
        assert decoded.has(name)


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        Form(data)
    except FormError as error:
        assert str(error)  # noqa: PT017 - that there is a reason is the point


def test_the_first_of_two_values_counts_and_the_query_comes_before_the_body() -> None:
    assert Form(b"a=1&a=2", b"a=3&b=4").text("a", 1) == "1"
    assert Form(b"a=1", b"b=4").text("b", 1) == "4"


@pytest.mark.parametrize("data", [b"a=%", b"a=%4", b"a=%g0", b"a=%ff", b"a=%ed%a0%80", b"a=%00"])
def test_broken_text_is_refused(data: bytes) -> None:
    with pytest.raises(FormError):
        Form(data).text("a", 10)


def test_too_many_fields_are_refused() -> None:
    Form(b"&".join([b"a=1"] * FIELDS_MAX))
    with pytest.raises(FormError, match="at most"):
        Form(b"&".join([b"a=1"] * (FIELDS_MAX + 1)))


def test_lengths_count_characters_not_bytes() -> None:
    assert form(a="𝄞" * 20).text("a", 20) == "𝄞" * 20
    with pytest.raises(FormError, match="21 characters"):
        form(a="𝄞" * 21).text("a", 20)


def test_lines_are_allowed_only_in_long_texts() -> None:
    assert form(a="one\r\ntwo\rthree\n").long_text("a", 20) == "one\ntwo\nthree\n"
    with pytest.raises(FormError, match="control"):
        form(a="one\ntwo").text("a", 20)
    with pytest.raises(FormError, match="control"):
        form(a="one\0two").long_text("a", 20)


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1.0", "0x1", "\u0661", "1" * 13, "-1", "11", "1_0", "--1", "½"])
def test_other_than_whole_numbers_in_range_are_refused(text: str) -> None:
    with pytest.raises(FormError, match="whole number from 0 to 10"):
        form(n=text).integer("n", 0, 10)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("12", "12.00"), ("12.", "12.00"), ("12.5", "12.50"), ("17.300001", "17.30"), ("0.005", "0.01"),
        ("1.2E7", "12000000.00"), ("0", "0.00"), ("9999999999.99", "9999999999.99"),
    ],
)  # fmt: skip
def test_prices_have_two_digits(text: str, price: str) -> None:
    assert str(form(p=text).price("p")) == price


@pytest.mark.parametrize("text", ["", "-1", "1e-3", "NaN", "Infinity", "1,50", ".5", "9999999999.995", "1E99", "٣"])
def test_other_prices_are_refused(text: str) -> None:
    with pytest.raises(FormError):
        form(p=text).price("p")
    assert Decimal("9999999999.99") == PRICE_MAX


def test_a_missing_parameter_has_its_default() -> None:
    assert form(x=1).integer("n", 0, 10, default=7) == 7
    assert form(n="").price("n", default=Decimal("1.00")) == Decimal("1.00")
