"""The sizes of the data sets, and what is the same in all of them: regions, categories, how users are named.

Source: SPARE §4.11.1 (small and large); RUBiS's region and category lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from rubis_adapter.population.errors import UnknownDataSet


@dataclass(frozen=True, slots=True)
class DataSet:
    """Rows per table of one data set."""

    name: str
    users: int
    items: int
    old_items: int
    bids: int
    comments: int
    buy_now: int


DATA_SETS: Final[Mapping[str, DataSet]] = MappingProxyType(
    {
        data_set.name: data_set
        for data_set in (
            DataSet("tiny", 500, 1_000, 200, 5_000, 2_500, 100),
            DataSet("small", 100_000, 32_667, 50_000, 500_000, 100_000, 10_000),
            DataSet("large", 1_000_000, 32_667, 500_000, 5_000_000, 1_000_000, 100_000),
        )
    }
)
"""Tiny is for tests and emulated virtual machines; the thesis measures with the other two."""


def data_set(name: str) -> DataSet:
    """The data set called `name`.

    Raises:
        UnknownDataSet: There is none.
    """
    found = DATA_SETS.get(name)
    if found is None:
        raise UnknownDataSet(f"there is no data set {name!r}; there are {', '.join(DATA_SETS)}")
    return found


ITEMS_PER_CATEGORY: Final[Mapping[str, int]] = MappingProxyType(
    {
        "Antiques & Art": 1374,
        "Books": 2691,
        "Business, Office & Industrial": 259,
        "Clothing & Accessories": 2874,
        "Coins": 538,
        "Collectibles": 7521,
        "Computers": 664,
        "Consumer Electronics": 586,
        "Dolls & Bears": 1077,
        "Home & Garden": 976,
        "Jewelry, Gems & Watches": 2325,
        "Movies & Television": 1051,
        "Music": 1420,
        "Photo": 170,
        "Pottery & Glass": 1069,
        "Sports": 3029,
        "Stamps": 305,
        "Tickets & Travel": 242,
        "Toys & Hobbies": 3671,
        "Everything Else": 825,
    }
)
"""Active items of the small data set; the others are divided in the same proportion."""

CATEGORIES: Final = tuple(ITEMS_PER_CATEGORY)
"""Names of the categories; the one at index `i` has the id `i + 1`."""

REGIONS: Final = (
    "AZ--Phoenix", "CA--Los Angeles", "CA--Oakland", "CA--Sacramento", "CA--San Diego", "CA--San Francisco",
    "CA--San Jose", "CO--Denver", "CT--Hartford", "DC--Washington", "FL--Jacksonville", "FL--Miami", "FL--Orlando",
    "FL--Tampa-St. Pete", "FL--West Palm Beach", "GA--Atlanta", "HI--Honolulu", "ID--Billings-Boise", "IL--Chicago",
    "IN--Indianapolis", "KS--Kansas City", "KY--Louisville", "LA--New Orleans", "MA--Boston", "MD--Baltimore",
    "MI--Detroit", "MI--Grand Rapids", "MN--Minn-St. Paul", "MO--Kansas City", "MO--St. Louis", "MT--Billings-Boise",
    "NC--Charlotte", "NC--Greensboro", "NC--Raleigh-Durham", "ND--Bismarck-Pierre", "NM--Albuquerque",
    "NV--Las Vegas", "NY--Albany", "NY--Buffalo", "NY--New York", "NY--Rochester", "OH--Cincinnati",
    "OH--Cleveland", "OH--Columbus", "OH--Dayton", "OK--Oklahoma City", "OR--Portland", "PA--Philadelphia",
    "PA--Pittsburgh", "RI--Providence", "SD--Bismarck-Pierre", "TN--Memphis", "TN--Nashville", "TX--Austin",
    "TX--Dallas-Fort Worth", "TX--Houston", "TX--San Antonio", "UT--Salt Lake City", "VA--Norfolk-VA Beach",
    "VA--Richmond", "WA--Seattle-Tacoma", "WI--Milwaukee",
)  # fmt: skip
"""Names of the regions; the one at index `i` has the id `i + 1`."""


def nickname(user_id: int) -> str:
    """The nickname of the user `user_id`, from 1."""
    return f"user{user_id}"


def password(user_id: int) -> str:
    """The password of the user `user_id`, from 1."""
    return f"password{user_id}"


def region_id(user_id: int) -> int:
    """The region in which the user `user_id` lives."""
    return 1 + user_id % len(REGIONS)
