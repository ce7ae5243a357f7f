"""What an emulated user reads from the page before it: ids in links, values of forms, images.

Source: the original emulator, which looks for these very strings.
"""

import re
from random import Random
from typing import Final

_ITEM_ID: Final = re.compile(rb"itemId=(\d{1,9})")
_USER_ID: Final = re.compile(rb"userId=(\d{1,9})")
_TO: Final = re.compile(rb"to=(\d{1,9})")
_TO_VALUE: Final = re.compile(rb"name=to value=(\d{1,9})")
_PAGE: Final = re.compile(rb"&page=(\d{1,9})")
_MIN_BID: Final = re.compile(rb"name=minBid value=(\d{1,12}(?:\.\d{1,2})?)")
_MAX_QUANTITY: Final = re.compile(rb"name=maxQty value=(\d{1,9})")
_IMAGE: Final = re.compile(rb'<IMG SRC="([^"\s]{1,200})"')

_CHOSEN_LINKS_MAX: Final = 2
"""Of the links to other result pages the first two count: previous and next."""


def item_id(page: bytes, random: Random) -> int | None:
    """The item of a random one of the links to items."""
    return _one_of(_ITEM_ID.findall(page), random)


def user_id(page: bytes, random: Random) -> int | None:
    """The user of a random one of the links to users."""
    return _one_of(_USER_ID.findall(page), random)


def addressee(page: bytes) -> int | None:
    """The user whom the page's link for commenting names."""
    return _first(_TO, page)


def form_addressee(page: bytes) -> int | None:
    """The user in the form for a comment."""
    return _first(_TO_VALUE, page)


def result_page(page: bytes, random: Random) -> int:
    """The previous or the next page of a search, whichever a coin says; 0 where there is neither."""
    return _one_of(_PAGE.findall(page)[:_CHOSEN_LINKS_MAX], random) or 0


def min_bid_cents(page: bytes) -> int | None:
    """The least acceptable bid in the form for a bid, in cents."""
    match = _MIN_BID.search(page)
    return None if match is None else round(float(match[1]) * 100)


def max_quantity(page: bytes) -> int | None:
    """The largest quantity in the form for a bid or a purchase."""
    return _first(_MAX_QUANTITY, page)


def images(page: bytes) -> list[str]:
    """The images that a browser would load with the page, in their order, each once."""
    return list(dict.fromkeys(source.decode("ascii", "replace") for source in _IMAGE.findall(page)))


def _first(pattern: re.Pattern[bytes], page: bytes) -> int | None:
    match = pattern.search(page)
    return None if match is None else int(match[1])


def _one_of(found: list[bytes], random: Random) -> int | None:
    return int(random.choice(found)) if found else None
