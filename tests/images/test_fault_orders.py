"""Orders to misbehave: as text in any request, and when each is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.fault_orders import FaultKind, FaultOrder, encode_order, http_form, http_read, key_value_read
from images.recipes.fault_injection.treacherous.orders import find_orders
from images.recipes.fault_injection.treacherous.treachery import Treachery

COUNTS = st.integers(1, 999_999_999)
ORDERS = st.builds(
    FaultOrder,
    number=st.integers(0, 999_999_999),
    target=st.from_regex(r"s(0|[1-9][0-9]{0,2})(\.g[1-9][0-9]{0,5})?", fullmatch=True),
    kind=st.sampled_from(FaultKind),
    first=COUNTS,
    every=COUNTS,
    times=st.integers(0, 999_999_999),
    amount=st.integers(-999_999_999, 999_999_999),
)
ORDER = FaultOrder(1, "s0.g1", FaultKind.WRONG_REPLY)


@given(ORDERS, st.binary(max_size=40), st.binary(max_size=40))
def test_an_order_is_found_wherever_it_stands(order: FaultOrder, before: bytes, after: bytes) -> None:
    """Whatever the service writes around it."""
    assert find_orders(before + encode_order(order) + after) == [order]


@given(ORDERS)
def test_an_order_looks_the_same_in_a_path_and_in_a_form(order: FaultOrder) -> None:
    """Nothing of it is percent-encoded."""
    assert find_orders(http_read(order)) == [order]
    assert find_orders(http_form("/a", {"b": "c d"}, "text", order)) == [order]


@given(st.binary(max_size=200))
def test_other_bytes_are_no_order(data: bytes) -> None:
    """Hostile ones included: nothing raises."""
    assert find_orders(data) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"wrong-reply", b"wrong-answer"),
        (b"_end", b"_en"),
        (b"_s0.g1_", b"_0.g1_"),
        (b"_1_1_0_0_", b"_0_1_0_0_"),
        (b"_1_1_0_0_", b"_1_0_0_0_"),
        (b"_1_1_0_0_", b"_1_1_0_"),
    ],
)
def test_what_only_resembles_an_order_is_none(old: bytes, new: bytes) -> None:
    """Such as one of an unknown kind, or one that would divide by nothing."""
    assert find_orders(encode_order(ORDER).replace(old, new)) == []


@pytest.mark.parametrize(
    "order",
    [
        ORDER._replace(target="witness-0"),
        ORDER._replace(first=0),
        ORDER._replace(every=0),
        ORDER._replace(times=-1),
        ORDER._replace(amount=10**9),
        ORDER._replace(number=-1),
    ],
)
def test_an_order_out_of_range_is_refused_where_it_is_made(order: FaultOrder) -> None:
    """A domain would ignore it, and a test would wait for ever."""
    with pytest.raises(ValueError, match="not an order that can be given"):
        encode_order(order)


def _due(treachery: Treachery, kind: FaultKind, occasions: int) -> list[int]:
    return [occasion for occasion in range(1, occasions + 1) if treachery.due(kind) is not None]


@pytest.mark.parametrize(
    ("first", "every", "times", "due"),
    [
        (1, 1, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
        (3, 1, 0, [3, 4, 5, 6, 7, 8]),
        (1, 3, 0, [1, 4, 7]),
        (2, 3, 2, [2, 5]),
        (1, 1, 2, [1, 2]),
        (9, 1, 1, []),
    ],
)
def test_an_order_is_due_from_the_first_occasion_on_every_so_many_at_most_so_often(
    first: int, every: int, times: int, due: list[int]
) -> None:
    """Counted by the occasions of its kind alone."""
    treachery = Treachery("s0.g1")
    treachery.take_orders(key_value_read(ORDER._replace(first=first, every=every, times=times)))
    assert not treachery.due(FaultKind.HANG)
    assert _due(treachery, FaultKind.WRONG_REPLY, 8) == due


@pytest.mark.parametrize(("target", "is_mine"), [("s0.g1", True), ("s0", True), ("s0.g2", False), ("s1", False)])
def test_an_order_is_for_a_domain_or_for_all_of_a_server(target: str, is_mine: bool) -> None:
    """`s0.g1` is not meant by `s0.g11` either."""
    for domain, expected in (("s0.g1", is_mine), ("s0.g11", target == "s0")):
        assert bool(Treachery(domain).take_orders(encode_order(ORDER._replace(target=target)))) is expected


def test_an_order_that_comes_again_is_taken_once() -> None:
    """By repetition of its request, or in a row image of a later update."""
    treachery = Treachery("s0.g1")
    order = ORDER._replace(times=1)
    assert treachery.take_orders(encode_order(order)) == [order]
    assert _due(treachery, order.kind, 3) == [1]
    assert treachery.take_orders(encode_order(order)) == []
    assert _due(treachery, order.kind, 3) == []


def test_behave_forgets_the_orders_before_it() -> None:
    """Those behind it in the same request hold."""
    treachery = Treachery("s0.g1")
    behave, hang = FaultOrder(2, "s0", FaultKind.BEHAVE), FaultOrder(3, "s0", FaultKind.HANG)
    treachery.take_orders(key_value_read(ORDER, behave, hang))
    assert not treachery.is_armed(FaultKind.WRONG_REPLY)
    assert treachery.is_armed(FaultKind.HANG)
