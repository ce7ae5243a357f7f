"""The rows of the data sets: sizes, references, sums, limits, dates, determinism."""

import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import String, Text

from rubis_adapter.population.auctions import AuctionPlan
from rubis_adapter.population.bulk_files import digest
from rubis_adapter.population.data_sets import CATEGORIES, DATA_SETS, ITEMS_PER_CATEGORY, REGIONS, data_set
from rubis_adapter.population.errors import UnknownDataSet
from rubis_adapter.population.rows import Population
from rubis_adapter.schema import COMMENT_CHARACTERS_MAX, DESCRIPTION_CHARACTERS_MAX, metadata

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
NOW = START.replace(tzinfo=None)

Tables = Mapping[str, list[dict[str, Any]]]


def tables_of(population: Population) -> Tables:
    return {
        name: [dict(zip(metadata.tables[name].columns.keys(), row, strict=True)) for row in population.rows(name)]
        for name in population.row_counts()
    }


@pytest.fixture(scope="module")
def tiny() -> Tables:
    return tables_of(Population(data_set("tiny"), 7, START_US))


@pytest.fixture(scope="module")
def auctions(tiny: Tables) -> Mapping[int, dict[str, Any]]:
    return {row["id"]: row for name in ("items", "old_items") for row in tiny[name]}


def test_the_sizes_are_the_agreed_ones() -> None:
    """Rows, users/items/old_items/bids/comments/buy_now."""
    sizes = {
        name: (found.users, found.items, found.old_items, found.bids, found.comments, found.buy_now)
        for name, found in DATA_SETS.items()
    }
    assert sizes == {
        "tiny": (500, 1_000, 200, 5_000, 2_500, 100),
        "small": (100_000, 32_667, 50_000, 500_000, 100_000, 10_000),
        "large": (1_000_000, 32_667, 500_000, 5_000_000, 1_000_000, 100_000),
    }
    with pytest.raises(UnknownDataSet, match=r"'huge'.*tiny, small, large"):
        data_set("huge")


def test_every_table_has_as_many_rows_as_announced_and_dense_ids(tiny: Tables) -> None:
    population = Population(data_set("tiny"), 7, START_US)
    assert {name: len(rows) for name, rows in tiny.items()} == population.row_counts()
    assert set(population.row_counts()) == set(metadata.tables)
    first_ids = {"items": 201}
    for name, rows in tiny.items():
        first = first_ids.get(name, 1)
        assert [row["id"] for row in rows] == list(range(first, first + len(rows)))


def test_regions_and_categories_are_the_original_ones(tiny: Tables) -> None:
    assert len(REGIONS) == 62
    assert len(CATEGORIES) == 20
    assert sum(ITEMS_PER_CATEGORY.values()) == 32_667
    assert tiny["regions"][1] == {"id": 2, "name": "CA--Los Angeles"}
    assert tiny["categories"][19] == {"id": 20, "name": "Everything Else"}


def test_users_are_named_after_their_id(tiny: Tables) -> None:
    for row in tiny["users"]:
        user = row["id"]
        assert (row["nickname"], row["password"]) == (f"user{user}", f"password{user}")
        assert (row["firstname"], row["lastname"]) == (f"Great{user}", f"User{user}")
        assert row["email"] == f"Great{user}.User{user}@rubis.com"
        assert row["region"] == 1 + user % 62
        assert row["balance"] == Decimal("0.00")


def test_the_ids_row_has_the_last_id_of_every_table(tiny: Tables) -> None:
    assert tiny["ids"] == [
        {
            "id": 1,
            "categories": 20,
            "regions": 62,
            "users": 500,
            "items": 1_200,
            "bids": 5_000,
            "comments": 2_500,
            "buy_now": 100,
        }
    ]
    assert tiny["spare_state"] == [{"id": 1, "cursor": 1}]


def test_every_reference_leads_to_a_row(tiny: Tables, auctions: Mapping[int, dict[str, Any]]) -> None:
    users = range(1, 501)
    assert all(row["region"] in range(1, 63) for row in tiny["users"])
    assert all(row["seller"] in users and row["category"] in range(1, 21) for row in auctions.values())
    assert all(row["user_id"] in users and row["item_id"] in auctions for row in tiny["bids"])
    assert all(row["buyer_id"] in users and row["item_id"] in auctions for row in tiny["buy_now"])
    for row in tiny["comments"]:
        assert row["to_user_id"] in users
        assert row["from_user_id"] == auctions[row["item_id"]]["seller"] != row["to_user_id"]


def test_nobody_bids_on_or_buys_what_they_sell(tiny: Tables, auctions: Mapping[int, dict[str, Any]]) -> None:
    assert all(row["user_id"] != auctions[row["item_id"]]["seller"] for row in tiny["bids"])
    assert all(row["buyer_id"] != auctions[row["item_id"]]["seller"] for row in tiny["buy_now"])


def test_number_and_height_of_bids_agree_with_the_items(tiny: Tables, auctions: Mapping[int, dict[str, Any]]) -> None:
    bids: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tiny["bids"]:
        bids[row["item_id"]].append(row)
    for item_id, item in auctions.items():
        prices = [bid["bid"] for bid in bids[item_id]]
        assert item["nb_of_bids"] == len(prices) <= 20
        assert item["max_bid"] == max(prices, default=Decimal(0))
        assert prices == sorted(set(prices)), "every bid is higher than the one before"
        for bid in bids[item_id]:
            assert item["initial_price"] < bid["bid"] <= bid["max_bid"]
            assert 1 <= bid["qty"] <= item["quantity"]
            assert item["start_date"] <= bid["date"] <= min(item["end_date"], NOW)


def test_ratings_of_users_are_the_sums_of_the_comments_about_them(tiny: Tables) -> None:
    sums: Counter[int] = Counter()
    numbers: Counter[int] = Counter()
    for row in tiny["comments"]:
        sums[row["to_user_id"]] += row["rating"]
        numbers[row["to_user_id"]] += 1
    assert all(row["rating"] == sums[row["id"]] for row in tiny["users"])
    assert max(numbers.values()) <= 20
    assert {row["rating"] for row in tiny["comments"]} == {-5, -3, 0, 3, 5}


@pytest.mark.parametrize("name", ["items", "old_items"])
def test_shares_of_single_reserved_and_buy_now_items_are_exact(tiny: Tables, name: str) -> None:
    rows = tiny[name]
    assert sum(row["quantity"] == 1 for row in rows) == 0.8 * len(rows)
    assert {row["quantity"] for row in rows} <= set(range(1, 11))
    assert sum(row["reserve_price"] > 0 for row in rows) == 0.4 * len(rows)
    assert sum(row["buy_now"] > 0 for row in rows) == 0.1 * len(rows)
    for row in rows:
        assert row["reserve_price"] == 0 or row["reserve_price"] > row["initial_price"]
        assert row["buy_now"] == 0 or row["buy_now"] > max(row["initial_price"], row["max_bid"])


def test_only_items_with_that_option_were_bought_at_once(tiny: Tables, auctions: Mapping[int, dict[str, Any]]) -> None:
    for row in tiny["buy_now"]:
        item = auctions[row["item_id"]]
        assert item["buy_now"] > 0
        assert 1 <= row["qty"] <= item["quantity"]
        assert item["start_date"] <= row["date"] <= min(item["end_date"], NOW)


def test_items_are_divided_over_the_categories_as_in_the_original(tiny: Tables) -> None:
    counts = Counter(row["category"] for row in tiny["items"])
    for category_id, name in enumerate(CATEGORIES, start=1):
        assert abs(counts[category_id] - ITEMS_PER_CATEGORY[name] * 1_000 / 32_667) < 1


def test_the_small_set_has_the_original_number_of_items_per_category() -> None:
    plan = AuctionPlan(data_set("small"), 1, START_US // 1_000_000)
    counts = Counter(plan.auction(item_id)[0].category_id for item_id in range(50_001, 82_668))
    assert [counts[category_id] for category_id in range(1, 21)] == list(ITEMS_PER_CATEGORY.values())


def test_auctions_last_whole_days_and_running_ones_end_half_a_day_or_more_after_the_start(tiny: Tables) -> None:
    for name in ("items", "old_items"):
        for row in tiny[name]:
            length = row["end_date"] - row["start_date"]
            assert length in [timedelta(days=days) for days in range(1, 8)]
            if name == "items":
                assert row["start_date"] <= NOW
                assert row["end_date"] - NOW > length / 2 >= timedelta(hours=12)
            else:
                assert row["end_date"] < NOW


def test_users_registered_before_anything_happened(tiny: Tables) -> None:
    newest_user = max(row["creation_date"] for row in tiny["users"])
    for name in ("items", "old_items"):
        assert newest_user < min(row["start_date"] for row in tiny[name])
    assert newest_user < min(row["date"] for row in tiny["comments"])
    assert max(row["date"] for row in tiny["comments"]) <= NOW


def test_all_times_are_whole_seconds_and_all_prices_have_two_digits(tiny: Tables) -> None:
    values = [value for rows in tiny.values() for row in rows for value in row.values()]
    assert all(value.microsecond == 0 and value.tzinfo is None for value in values if isinstance(value, datetime))
    assert all(value.as_tuple().exponent == -2 for value in values if isinstance(value, Decimal))


def test_texts_fit_into_their_columns_and_never_look_like_an_outcome(tiny: Tables) -> None:
    """An emulated user reads "Sorry" and "ERROR" as outcomes of a request."""
    limits = {"description": DESCRIPTION_CHARACTERS_MAX, "comment": COMMENT_CHARACTERS_MAX}
    for name, rows in tiny.items():
        for column in metadata.tables[name].columns:
            if not isinstance(column.type, String | Text):
                continue
            most = column.type.length or limits[column.name]
            for row in rows:
                text = row[column.name]
                assert 0 < len(text) <= most
                assert "Sorry" not in text
                assert "ERROR" not in text
                assert text.isascii()
                assert not set(text) & set("\"'\\\t\n{}")


def test_some_descriptions_and_comments_are_long(tiny: Tables) -> None:
    assert max(len(row["description"]) for row in tiny["items"]) > 7_000
    assert max(len(row["comment"]) for row in tiny["comments"]) > 1_800


def test_the_same_arguments_give_the_same_rows_and_other_ones_do_not() -> None:
    def tiny_digest(seed: int, start_time_us: int) -> str:
        return digest(Population(data_set("tiny"), seed, start_time_us))

    first = tiny_digest(1, START_US)
    assert first == tiny_digest(1, START_US) == tiny_digest(1, START_US + 999_999)
    assert first != tiny_digest(2, START_US)
    assert first != tiny_digest(1, START_US + 1_000_000)


def test_the_digest_does_not_change_from_release_to_release() -> None:
    """Servers build their images apart and must get the same rows; a change here changes the data sets."""
    assert digest(Population(data_set("tiny"), 1, 0)) == (
        "652d27907e85a29d01580ff568ad9f32330fdc1acd239550c29dffd5b236c590"
    )


def test_the_large_set_streams_in_little_memory() -> None:
    population = Population(data_set("large"), 1, START_US)
    tracemalloc.start()
    for name in population.row_counts():
        assert list(islice(population.rows(name), 50))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2 * 1024 * 1024
