"""How values become text in pages."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from rubis_adapter.auction.presentation import STATIC, left, link, minute, money, page_environment
from rubis_adapter.auction.static_site import STATIC_ROOT, static_pages

NOW = datetime(2030, 3, 17, 17, 46, 40)  # noqa: DTZ001 - pages show UTC without a zone


def rendered(template: str, **values: object) -> str:
    return page_environment().from_string(template).render(**values)


def test_the_static_pages_are_those_of_the_templates() -> None:
    """`python -m rubis_adapter.auction.static_site` has been run after the last change of a template."""
    for file_name, text in static_pages().items():
        assert (STATIC_ROOT / STATIC.strip("/") / file_name).read_text(encoding="utf-8") == text, file_name


def test_links_hold_bare_ampersands_and_quoted_values() -> None:
    address = str(link("SearchItemsByCategory", category=3, categoryName="Business, Office & Industrial", page=2))
    assert address.endswith(".SearchItemsByCategory?category=3&categoryName=Business%2C+Office+%26+Industrial&page=2")
    assert rendered('{{ link("ViewItem", itemId=5) }}').endswith("ViewItem?itemId=5")


@pytest.mark.parametrize("word", ["Sorry", "ERROR", "itemId=", "&page=", "name=to value=", "<b>"])
def test_texts_of_users_hold_no_word_of_the_page(word: str) -> None:
    text = rendered("{{ text }} {{ text|upper }}", text=f"a {word} b")
    assert word not in text


@pytest.mark.parametrize(
    ("amount", "text"), [("0", "$0.00"), ("1234567.8", "$1,234,567.80"), ("9999999999.99", "$9,999,999,999.99")]
)
def test_money(amount: str, text: str) -> None:
    assert money(Decimal(amount)) == text


def test_times() -> None:
    assert minute(NOW) == "2030-03-17 17:46"
    assert left(NOW + timedelta(days=2, hours=3, minutes=59), NOW) == "2 d 3 h"
    assert left(NOW + timedelta(hours=3, minutes=5), NOW) == "3 h 5 min"
    assert left(NOW + timedelta(seconds=59), NOW) == "0 min"
    assert left(NOW - timedelta(days=1), NOW) == "0 min"
