"""The rows of a data set, table by table, as a stream.

A population holds a few bytes per auction and user (6 MB for the large data set); rows are made one at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Final

from rubis_adapter.population.auctions import DAY_S, Auction, AuctionPlan, other_user
from rubis_adapter.population.data_sets import CATEGORIES, REGIONS, DataSet, nickname, password, region_id
from rubis_adapter.population.shares import spread
from rubis_adapter.population.texts import RATINGS, comment_text, item_description, item_name

Value = int | str | Decimal | datetime
Row = tuple[Value, ...]
"""The values of one row, in the order of its table's columns; times are UTC without a zone."""

COMMENTS_PER_USER_MAX: Final = 20
RATING_WEIGHTS: Final = (5, 5, 12, 38, 40)
MEMBER_DAYS: Final = (100, 1_000)
"""Users registered between these many days before the start time: before the first auction began."""
COMMENTED_AGO_S_MAX: Final = 90 * DAY_S

FIRST_SEQUENCE: Final = 1
"""The cursor of a database into which no request has been executed yet."""


class Population:
    """All rows of one data set, a function of its name, the seed and the start time."""

    def __init__(self, data_set: DataSet, seed: int, start_time_us: int) -> None:
        """Plans the data set.

        Args:
            data_set: Which rows.
            seed: Any integer; another one gives other people, auctions and texts.
            start_time_us: The agreed time, in microseconds since the epoch, at which the service starts; the running
                auctions end 12 hours to 7 days after it.
        """
        self.data_set = data_set
        self._seed = seed
        self._start_s = start_time_us // 1_000_000
        self._plan = AuctionPlan(data_set, seed, self._start_s)
        random = Random(f"{seed}:comment plan")
        self._comment_counts = spread(random, data_set.comments, data_set.users, COMMENTS_PER_USER_MAX)

    def row_counts(self) -> Mapping[str, int]:
        """Rows per table, in the order in which the tables are to be filled."""
        sizes = self.data_set
        return {
            "categories": len(CATEGORIES),
            "regions": len(REGIONS),
            "users": sizes.users,
            "items": sizes.items,
            "old_items": sizes.old_items,
            "bids": sizes.bids,
            "comments": sizes.comments,
            "buy_now": sizes.buy_now,
            "ids": 1,
            "spare_state": 1,
        }

    def rows(self, table_name: str) -> Iterator[Row]:
        """The rows of one table of `row_counts`, by rising id."""
        makers: Mapping[str, Callable[[], Iterator[Row]]] = {
            "categories": lambda: iter(enumerate(CATEGORIES, start=1)),
            "regions": lambda: iter(enumerate(REGIONS, start=1)),
            "users": self._users,
            "items": lambda: self._items(self._plan.old_items + 1, self._plan.total),
            "old_items": lambda: self._items(1, self._plan.old_items),
            "bids": self._bids,
            "comments": self._comments,
            "buy_now": self._buy_now,
            "ids": self._ids,
            "spare_state": lambda: iter([(1, FIRST_SEQUENCE)]),
        }
        return makers[table_name]()

    def _users(self) -> Iterator[Row]:
        random = Random(f"{self._seed}:users")
        for user_id in range(1, self.data_set.users + 1):
            first, last = f"Great{user_id}", f"User{user_id}"
            rating = sum(self._ratings(user_id)[0])
            registered_s = self._start_s - random.randint(MEMBER_DAYS[0] * DAY_S, MEMBER_DAYS[1] * DAY_S)
            yield (
                user_id, first, last, nickname(user_id), password(user_id), f"{first}.{last}@rubis.com",
                rating, Decimal("0.00"), _time(registered_s), region_id(user_id),
            )  # fmt: skip

    def _items(self, first_id: int, last_id: int) -> Iterator[Row]:
        for item_id in range(first_id, last_id + 1):
            auction, random = self._plan.auction(item_id)
            name = item_name(random, CATEGORIES[auction.category_id - 1])
            yield _item_row(auction, name, item_description(random, name))

    def _bids(self) -> Iterator[Row]:
        bid_id = 0
        for item_id in range(1, self._plan.total + 1):
            for bid in self._plan.auction(item_id)[0].bids:
                bid_id += 1
                yield (
                    bid_id, bid.user_id, item_id, bid.quantity,
                    _price(bid.bid_cents), _price(bid.max_bid_cents), _time(bid.at_s),
                )  # fmt: skip

    def _comments(self) -> Iterator[Row]:
        """Comments by their addressee; each is left by the seller of an auction that has ended."""
        comment_id = 0
        for to_user_id in range(1, self.data_set.users + 1):
            ratings, random = self._ratings(to_user_id)
            for rating in ratings:
                comment_id += 1
                item_id = self._item_of_another(random, to_user_id)
                at_s = self._start_s - random.randrange(COMMENTED_AGO_S_MAX)
                yield (
                    comment_id, self._plan.seller(item_id), to_user_id, item_id, rating,
                    _time(at_s), comment_text(random, rating),
                )  # fmt: skip

    def _ratings(self, to_user_id: int) -> tuple[list[int], Random]:
        """The ratings of the comments about a user, and the random source for the rest of these comments."""
        random = Random(f"{self._seed}:comments {to_user_id}")
        return random.choices(RATINGS, RATING_WEIGHTS, k=self._comment_counts[to_user_id - 1]), random

    def _item_of_another(self, random: Random, user_id: int) -> int:
        while True:
            item_id = random.randint(1, self._plan.old_items)
            if self._plan.seller(item_id) != user_id:
                return item_id

    def _buy_now(self) -> Iterator[Row]:
        random = Random(f"{self._seed}:buy now")
        for purchase_id in range(1, self.data_set.buy_now + 1):
            auction, _ = self._plan.auction(random.choice(self._plan.buy_now_items))
            buyer_id = other_user(random, self.data_set.users, auction.seller)
            at_s = random.randint(auction.start_s, min(auction.end_s, self._start_s))
            yield purchase_id, buyer_id, auction.item_id, random.randint(1, auction.quantity), _time(at_s)

    def _ids(self) -> Iterator[Row]:
        sizes = self.data_set
        last_item = sizes.old_items + sizes.items
        yield 1, len(CATEGORIES), len(REGIONS), sizes.users, last_item, sizes.bids, sizes.comments, sizes.buy_now


def _item_row(auction: Auction, name: str, description: str) -> Row:
    return (
        auction.item_id, name, description,
        _price(auction.initial_cents), auction.quantity, _price(auction.reserve_cents), _price(auction.buy_now_cents),
        len(auction.bids), _price(auction.max_bid_cents), _time(auction.start_s), _time(auction.end_s),
        auction.seller, auction.category_id,
    )  # fmt: skip


def _price(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
