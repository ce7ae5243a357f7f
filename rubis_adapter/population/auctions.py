"""Auctions and their bids: what is planned for all of them at once, and how one of them is worked out.

A plan is a few bytes per auction (who sells it, how many bids it has, …), so that totals and shares are exact.
Everything else of an auction is a function of the seed and its id: items and bids are streamed separately and still
agree.  Money is in cents and time in whole seconds since the epoch here.
"""

import math
from array import array
from dataclasses import dataclass
from random import Random
from typing import Final

from rubis_adapter.population.data_sets import CATEGORIES, ITEMS_PER_CATEGORY, DataSet
from rubis_adapter.population.shares import flags, proportional, spread

BIDS_PER_ITEM_MAX: Final = 20
QUANTITY_MAX: Final = 10
SINGLE_SHARE: Final = 0.8
RESERVE_SHARE: Final = 0.4
BUY_NOW_SHARE: Final = 0.1
DAYS_MAX: Final = 7
DAY_S: Final = 86_400
ENDED_AGO_S_MAX: Final = 90 * DAY_S
"""An old auction ended at most this long before the start time."""


@dataclass(frozen=True, slots=True)
class Bid:
    """One bid of an auction, money in cents, `at_s` in seconds since the epoch."""

    user_id: int
    quantity: int
    bid_cents: int
    max_bid_cents: int
    at_s: int


@dataclass(frozen=True, slots=True)
class Auction:
    """One auction as it stands at the start time.

    `reserve_cents` and `buy_now_cents` are 0 where there is none; `bids` rise.
    """

    item_id: int
    seller: int
    category_id: int
    quantity: int
    initial_cents: int
    reserve_cents: int
    buy_now_cents: int
    start_s: int
    end_s: int
    bids: tuple[Bid, ...]

    @property
    def max_bid_cents(self) -> int:
        """The highest bid, 0 if there is none."""
        return self.bids[-1].bid_cents if self.bids else 0


class AuctionPlan:
    """What is known of all auctions; ids 1 to `old_items` have ended, the ids above them are still running."""

    def __init__(self, data_set: DataSet, seed: int, start_s: int) -> None:
        self.old_items = data_set.old_items
        self.total = data_set.old_items + data_set.items
        self._users = data_set.users
        self._seed = seed
        self._start_s = start_s
        random = Random(f"{seed}:auction plan")
        self._sellers = array("I", (random.randint(1, data_set.users) for _ in range(self.total)))
        self._bid_counts = spread(random, data_set.bids, self.total, BIDS_PER_ITEM_MAX)
        self._categories = _categories(random, data_set.old_items) + _categories(random, data_set.items)
        self._singles = self._flags(random, SINGLE_SHARE)
        self._reserves = self._flags(random, RESERVE_SHARE)
        self._buy_nows = self._flags(random, BUY_NOW_SHARE)
        self.buy_now_items = array("I", (index + 1 for index, flag in enumerate(self._buy_nows) if flag))

    def _flags(self, random: Random, share: float) -> bytearray:
        """Flags whose share is exact among the old and among the running auctions."""
        return flags(random, self.old_items, share) + flags(random, self.total - self.old_items, share)

    def seller(self, item_id: int) -> int:
        """Who sells `item_id`."""
        return self._sellers[item_id - 1]

    def auction(self, item_id: int) -> tuple[Auction, Random]:
        """The auction `item_id`, and the random source from which its texts are to be drawn next."""
        random = Random(f"{self._seed}:item {item_id}")
        index = item_id - 1
        start_s, end_s = self._times(random, item_id)
        initial_cents = round(math.exp(random.uniform(math.log(100), math.log(50_000))))
        quantity = 1 if self._singles[index] else random.randint(2, QUANTITY_MAX)
        bids = self._bids(random, index, initial_cents, quantity, (start_s, min(end_s, self._start_s)))
        reached_cents = max(initial_cents, bids[-1].bid_cents if bids else 0)
        auction = Auction(
            item_id=item_id,
            seller=self._sellers[index],
            category_id=self._categories[index],
            quantity=quantity,
            initial_cents=initial_cents,
            reserve_cents=round(initial_cents * random.uniform(1.2, 2.5)) if self._reserves[index] else 0,
            buy_now_cents=round(reached_cents * random.uniform(1.3, 2.5)) if self._buy_nows[index] else 0,
            start_s=start_s,
            end_s=end_s,
            bids=bids,
        )
        return auction, random

    def _times(self, random: Random, item_id: int) -> tuple[int, int]:
        """Start and end: a running auction has at least half of its days before it, so 12 hours or more."""
        length_s = random.randint(1, DAYS_MAX) * DAY_S
        if item_id > self.old_items:
            start_s = self._start_s - random.randrange(length_s // 2)
        else:
            start_s = self._start_s - random.randint(1, ENDED_AGO_S_MAX) - length_s
        return start_s, start_s + length_s

    def _bids(
        self, random: Random, index: int, initial_cents: int, quantity: int, between_s: tuple[int, int]
    ) -> tuple[Bid, ...]:
        times_s = sorted(random.randint(*between_s) for _ in range(self._bid_counts[index]))
        bids: list[Bid] = []
        price_cents = initial_cents
        for at_s in times_s:
            price_cents += max(50, round(price_cents * random.uniform(0.01, 0.08)))
            user_id = other_user(random, self._users, self._sellers[index])
            most_cents = round(price_cents * random.uniform(1, 1.2))
            bids.append(Bid(user_id, random.randint(1, quantity), price_cents, most_cents, at_s))
        return tuple(bids)


def other_user(random: Random, users: int, than: int) -> int:
    """A user drawn from 1 to `users`, but not `than`."""
    drawn = random.randint(1, users - 1)
    return drawn + 1 if drawn >= than else drawn


def _categories(random: Random, items: int) -> bytearray:
    """Category ids of `items` auctions, in the proportion of the original's categories."""
    parts = proportional(items, [ITEMS_PER_CATEGORY[name] for name in CATEGORIES])
    ids = bytearray(category_id for category_id, part in enumerate(parts, start=1) for _ in range(part))
    random.shuffle(ids)
    return ids
