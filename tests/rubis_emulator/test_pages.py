"""What an emulated user reads from pages."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rubis_adapter.client_emulator import pages

LINKS = b"""<a href="X?itemId=11">a</a> <a href="X?itemId=12&x=1">b</a> <a href='X?userId=31'>c</a>
<a href=X?itemId=13>d</a>
<a href="S?category=2&categoryName=Books&page=0&nbOfItems=20">Previous</a>
<a href="S?category=2&categoryName=Books&page=2&nbOfItems=20">Next</a>
<a href="PutCommentAuth?to=41&itemId=11">comment</a>"""
FORM = b"""<input type=hidden name=minBid value=1204.5><input type=hidden name=maxQty value=7>
<input type=hidden name=to value=51>"""


def test_any_of_the_linked_items_can_be_chosen() -> None:
    random = Random(1)
    assert {pages.item_id(LINKS, random) for _ in range(100)} == {11, 12, 13}
    assert pages.user_id(LINKS, random) == 31


def test_previous_and_next_page_are_chosen_alike_and_no_link_means_the_first() -> None:
    random = Random(1)
    chosen = [pages.result_page(LINKS, random) for _ in range(1000)]
    assert set(chosen) == {0, 2}
    assert 400 < chosen.count(2) < 600
    assert pages.result_page(b"no links", random) == 0


def test_forms_give_their_hidden_values() -> None:
    assert pages.min_bid_cents(FORM) == 120_450
    assert pages.max_quantity(FORM) == 7
    assert pages.form_addressee(FORM) == 51
    assert pages.addressee(LINKS) == 41


@pytest.mark.parametrize(
    ("text", "cents"), [(b"0.29", 29), (b"1.1", 110), (b"7", 700), (b"9999999999.99", 999999999999)]
)
def test_prices_are_read_exactly(text: bytes, cents: int) -> None:
    assert pages.min_bid_cents(b"name=minBid value=" + text + b">") == cents


def test_a_page_without_what_is_looked_for_gives_none() -> None:
    random = Random(1)
    page = b"<body>Nothing here; itemId=x userId= name=minBid value=none"
    assert pages.item_id(page, random) is None
    assert pages.user_id(page, random) is None
    assert pages.addressee(page) is None
    assert pages.form_addressee(page) is None
    assert pages.min_bid_cents(page) is None
    assert pages.max_quantity(page) is None
    assert pages.images(page) == []


def test_images_are_named_once_in_their_order() -> None:
    assert pages.images(b'<IMG SRC="b.jpg"><IMG SRC="a.jpg"><IMG SRC="b.jpg">') == ["b.jpg", "a.jpg"]


@given(st.binary())
def test_any_bytes_can_be_read(page: bytes) -> None:
    random = Random(1)
    assert pages.result_page(page, random) >= 0
    assert (pages.item_id(page, random) or 0) in range(10**9)
    assert all(isinstance(image, str) for image in pages.images(page))
