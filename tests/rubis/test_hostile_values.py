"""Whatever clients send as values, databases of different kind answer, change and hold the same.

Between MariaDB and PostgreSQL differ: collation, padding, NUL bytes, unsigned and huge numbers, over-long text,
broken UTF-8, fractions of a cent.
"""

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rubis_adapter.auction.presentation import SERVLETS
from tests.rubis.running_replica import FIRST_ITEM, RunningReplica, get_request, post_request

pytestmark = pytest.mark.db

LOGIN = {"nickname": b"user3", "password": b"password3"}
FORMS: dict[str, dict[str, bytes]] = {
    "RegisterUser": {
        "firstname": b"A", "lastname": b"B", "nickname": b"fresh", "email": b"a@b", "password": b"p",
        "region": b"AZ--Phoenix",
    },
    "RegisterItem": {
        "name": b"n", "description": b"d", "initialPrice": b"1", "reservePrice": b"2", "buyNow": b"3", "duration": b"4",
        "quantity": b"5", "userId": b"6", "categoryId": b"7",
    },
    "StoreBid": {
        "itemId": b"%d" % (FIRST_ITEM + 9), "userId": b"3", "minBid": b"1", "bid": b"90000", "maxBid": b"90000",
        "qty": b"1", "maxQty": b"1",
    },
    "StoreBuyNow": {"itemId": b"%d" % (FIRST_ITEM + 11), "userId": b"3", "qty": b"1", "maxQty": b"9"},
    "StoreComment": {"itemId": b"25", "to": b"4", "from": b"5", "rating": b"3", "comment": b"c"},
    "SearchItemsByCategory": {"category": b"6", "categoryName": b"x", "page": b"0", "nbOfItems": b"5"},
    "SearchItemsByRegion": {"region": b"5", "category": b"6", "categoryName": b"x", "page": b"0", "nbOfItems": b"5"},
    "BrowseCategories": {"region": b"AZ--Phoenix"},
    "ViewItem": {"itemId": b"25"},
    "PutBid": {"itemId": b"25", **LOGIN},
    "AboutMe": dict(LOGIN),
}  # fmt: skip

NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(["2147483647", "2147483648", "-0", "007", "9999999999.99", "9999999999.995", "1e9", "0.005", "1e"]),
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="aA äÄßıſǆ\u0301\u200b\ufeff\uffff\U0001f600\U0010ffff", min_size=1, max_size=21),
    st.sampled_from(["user3 ", "USER3", "user3\0", "'; DROP TABLE users; --", "%s%d{0}", "\\", "\x7f", "\ufffd"]),
    st.integers(1, 3).map(lambda factor: "語" * (factor * 50)),
    st.sampled_from([8192, 8193, 2048, 2049, 100, 101]).map(lambda length: "𝄞" * length),
)
RAW = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\0b", b"\xf4\x90\x80\x80"])
)
VALUES = st.one_of(NUMBERS.map(str.encode), TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")), RAW)


@st.composite
def hostile_requests(draw: st.DrawFn) -> bytes:
    """A valid form of which up to two values are replaced, removed or doubled."""
    servlet = draw(st.sampled_from(list(FORMS)))
    fields = list(FORMS[servlet].items())
    for _ in range(draw(st.integers(1, 2))):
        position = draw(st.integers(0, len(fields) - 1))
        name = fields[position][0]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "double"])):
            case "replace":
                fields[position] = (name, draw(VALUES))
            case "remove" if len(fields) > 1:
                del fields[position]
            case _:
                fields.insert(position, (name, draw(VALUES)))
    form = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in fields)
    if draw(st.booleans()):
        return post_request(SERVLETS + servlet, form.encode("ascii"))
    return get_request(f"{SERVLETS}{servlet}?{form}")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=hostile_requests())
def test_hostile_values_make_no_difference(both: tuple[RunningReplica, RunningReplica], request: bytes) -> None:
    """The state grows from example to example; it is compared after every change."""
    first, second = both
    one, other = first.execute(request), second.execute(request)
    assert one == other
    assert b" 500 " not in one.reply.split(b"\r\n", 1)[0]
    if one.update:
        assert first.state() == second.state()
