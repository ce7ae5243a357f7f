"""Requests of the interactions."""

from random import Random
from urllib.parse import parse_qs, urlsplit

import pytest

from rubis_adapter.client_emulator.interactions import MODIFYING, STATIC, Interaction
from rubis_adapter.client_emulator.requests import HttpRequest, RequestBuilder, new_nickname
from rubis_adapter.population.data_sets import CATEGORIES, REGIONS
from tests.rubis_emulator.small_site import PAGE

FULL_PAGE = PAGE.encode()
SERVLETS = "/rubis_servlets/servlet/edu.rice.rubis.servlets."
LOGIN = {"nickname": "user42", "password": "password42"}


def builder(seed: int = 1, token: str = "1:0") -> RequestBuilder:
    made = RequestBuilder(Random(seed), 500, token)
    made.user_id = 42
    return made


def parameters(request: HttpRequest) -> dict[str, str]:
    query = urlsplit(request.target).query if request.body is None else request.body.decode("ascii")
    return {name: values[0] for name, values in parse_qs(query, strict_parsing=bool(query)).items()}


def built(interaction: Interaction, page: bytes = FULL_PAGE, seed: int = 1) -> tuple[str, dict[str, str]]:
    request = builder(seed).build(interaction, page)
    assert request is not None
    assert (request.body is not None) == (interaction in MODIFYING)
    return request.path, parameters(request)


@pytest.mark.parametrize(
    ("interaction", "path"),
    [
        (Interaction.HOME, "/rubis_servlets/"),
        (Interaction.REGISTER, "/rubis_servlets/register.html"),
        (Interaction.BROWSE, "/rubis_servlets/browse.html"),
        (Interaction.SELL, "/rubis_servlets/sell.html"),
        (Interaction.ABOUT_ME_AUTH, "/rubis_servlets/about_me.html"),
    ],
)
def test_static_pages(interaction: Interaction, path: str) -> None:
    assert builder().build(interaction, b"") == HttpRequest(path)


@pytest.mark.parametrize(
    ("interaction", "servlet", "expected"),
    [
        (Interaction.BROWSE_CATEGORIES, "BrowseCategories", {}),
        (Interaction.BROWSE_REGIONS, "BrowseRegions", {}),
        (Interaction.VIEW_ITEM, "ViewItem", {"itemId": "17"}),
        (Interaction.VIEW_USER_INFO, "ViewUserInfo", {"userId": "23"}),
        (Interaction.VIEW_BID_HISTORY, "ViewBidHistory", {"itemId": "17"}),
        (Interaction.BUY_NOW_AUTH, "BuyNowAuth", {"itemId": "17"}),
        (Interaction.BUY_NOW, "BuyNow", {"itemId": "17"} | LOGIN),
        (Interaction.PUT_BID_AUTH, "PutBidAuth", {"itemId": "17"}),
        (Interaction.PUT_BID, "PutBid", {"itemId": "17"} | LOGIN),
        (Interaction.PUT_COMMENT_AUTH, "PutCommentAuth", {"itemId": "17", "to": "23"}),
        (Interaction.PUT_COMMENT, "PutComment", {"itemId": "17", "to": "23"} | LOGIN),
        (Interaction.SELECT_CATEGORY_TO_SELL_ITEM, "BrowseCategories", LOGIN),
        (Interaction.ABOUT_ME, "AboutMe", LOGIN),
    ],
)
def test_pages_that_follow_from_the_page_before(
    interaction: Interaction, servlet: str, expected: dict[str, str]
) -> None:
    assert built(interaction) == (SERVLETS + servlet, expected)


def test_searches_draw_ids_from_0_and_follow_the_link_to_another_page() -> None:
    """The original draws so: id 0 exists nowhere and finds nothing."""
    categories, regions = set(), set()
    for seed in range(2000):
        path, search = built(Interaction.SEARCH_ITEMS_IN_REGION, seed=seed)
        assert path == SERVLETS + "SearchItemsByRegion"
        assert search["categoryName"] == CATEGORIES[int(search["category"])]
        assert (search["page"], search["nbOfItems"]) == ("2", "20")
        categories.add(int(search["category"]))
        regions.add(int(search["region"]))
    assert categories == set(range(20))
    assert regions == set(range(62))
    assert built(Interaction.SEARCH_ITEMS_IN_CATEGORY, b"")[1].keys() == {
        "category",
        "categoryName",
        "page",
        "nbOfItems",
    }


def test_browsing_a_region_names_it() -> None:
    assert built(Interaction.BROWSE_CATEGORIES_IN_REGION)[1]["region"] in REGIONS


def test_a_bid_is_above_the_least_one() -> None:
    path, bid = built(Interaction.STORE_BID)
    assert path == SERVLETS + "StoreBid"
    assert bid.keys() == {"itemId", "userId", "minBid", "bid", "maxBid", "qty", "maxQty"}
    assert (bid["itemId"], bid["userId"], bid["minBid"], bid["maxQty"]) == ("17", "42", "12.50", "3")
    assert 12.5 < float(bid["bid"]) < float(bid["maxBid"])
    assert 1 <= int(bid["qty"]) <= 3


def test_a_purchase_takes_at_most_what_is_there() -> None:
    quantities = {built(Interaction.STORE_BUY_NOW, seed=seed)[1]["qty"] for seed in range(100)}
    assert quantities == {"1", "2", "3"}
    assert built(Interaction.STORE_BUY_NOW)[1] | {"qty": "1"} == {
        "itemId": "17",
        "userId": "42",
        "qty": "1",
        "maxQty": "3",
    }


def test_a_comment_goes_to_the_user_in_the_form() -> None:
    comments = [built(Interaction.STORE_COMMENT, seed=seed)[1] for seed in range(100)]
    assert {comment["rating"] for comment in comments} == {"-5", "-3", "0", "3", "5"}
    for comment in comments:
        assert (comment["to"], comment["from"], comment["itemId"]) == ("23", "42", "17")
        assert 0 < len(comment["comment"]) <= 1000


def test_an_item_for_sale_has_everything_that_the_form_asks_for() -> None:
    for seed in range(100):
        item = built(Interaction.REGISTER_ITEM, seed=seed)[1]
        assert 0 < len(item["name"]) <= 100
        assert 0 < len(item["description"]) <= 2000
        assert float(item["initialPrice"]) > 0
        assert float(item["reservePrice"]) == 0 or float(item["reservePrice"]) > float(item["initialPrice"])
        assert float(item["buyNow"]) == 0 or float(item["buyNow"]) > float(item["reservePrice"])
        assert int(item["duration"]) in range(1, 8)
        assert int(item["quantity"]) in range(1, 11)
        assert int(item["categoryId"]) in range(20)
        assert item["userId"] == "42"
    assert built(Interaction.SELL_ITEM_FORM)[1].keys() == {"category", "user"}


def test_new_users_have_names_of_their_own() -> None:
    """Names differ by seed, client and number, so that no registration fails because of another one."""
    names = {
        new_nickname(f"{seed}:{client}", number) for seed in (1, 2) for client in range(50) for number in range(50)
    }
    assert len(names) == 2 * 50 * 50
    assert all(len(name) == 20 for name in names)
    registering = builder()
    first, second = (registering.build(Interaction.REGISTER_USER, b"") for _ in range(2))
    assert first is not None
    assert second is not None
    assert parameters(first)["nickname"] != parameters(second)["nickname"]
    for name, most in (("firstname", 20), ("lastname", 20), ("nickname", 20), ("password", 20), ("email", 50)):
        assert 0 < len(parameters(first)[name]) <= most
    assert parameters(first)["region"] in REGIONS


@pytest.mark.parametrize("interaction", sorted(set(Interaction) - STATIC))
def test_a_page_without_the_needed_ids_makes_no_request_that_needs_them(interaction: Interaction) -> None:
    needs_nothing = {
        Interaction.REGISTER_USER,
        Interaction.BROWSE_CATEGORIES,
        Interaction.SEARCH_ITEMS_IN_CATEGORY,
        Interaction.BROWSE_REGIONS,
        Interaction.BROWSE_CATEGORIES_IN_REGION,
        Interaction.SEARCH_ITEMS_IN_REGION,
        Interaction.SELECT_CATEGORY_TO_SELL_ITEM,
        Interaction.SELL_ITEM_FORM,
        Interaction.REGISTER_ITEM,
        Interaction.ABOUT_ME,
    }
    assert (builder().build(interaction, b"<body>empty</body>") is not None) == (interaction in needs_nothing)


def test_requests_are_encoded_with_host_and_length() -> None:
    assert HttpRequest("/x?y=1").encode("shop:8080") == b"GET /x?y=1 HTTP/1.1\r\nHost: shop:8080\r\n\r\n"
    assert HttpRequest("/x", b"a=1").encode("shop") == (
        b"POST /x HTTP/1.1\r\nHost: shop\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 3\r\n\r\na=1"
    )
    assert HttpRequest("/x?password=secret").path == "/x"
