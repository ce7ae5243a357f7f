"""Every page of the site over real tiers, on both databases.

Source: RUBiS's pages and what its client emulator reads from them.
"""

import re
from urllib.parse import unquote_plus, urlencode

import pytest

from rubis_adapter.auction.presentation import SERVLETS
from rubis_adapter.update_manager.row_images import decode_images
from tests.rubis.running_replica import FIRST_ITEM, Reply, RunningReplica, page_request, parse_reply, post_request

pytestmark = pytest.mark.db

ITEM = FIRST_ITEM + 4
LOGIN = {"nickname": "user3", "password": "password3"}
NEW_USER = {
    "firstname": "Ada", "lastname": "Byron", "nickname": "ada", "email": "ada@example.org", "password": "engine",
    "region": "GA--Atlanta",
}  # fmt: skip
NEW_ITEM = {
    "name": "Brass sextant", "description": "Old,\r\nbut it works.", "initialPrice": "12.5", "reservePrice": "20",
    "buyNow": "30.005", "duration": "3", "quantity": "2", "userId": "4", "categoryId": "6",
}  # fmt: skip
BID: dict[str, object] = {
    "itemId": ITEM,
    "userId": 3,
    "minBid": "5000.00",
    "bid": "5001.00",
    "maxBid": "5002.00",
    "qty": 1,
    "maxQty": 1,
}
COMMENT: dict[str, object] = {
    "itemId": ITEM,
    "to": 5,
    "from": 3,
    "rating": -3,
    "comment": "Came late.\nStill, it came.",
}
PURCHASE: dict[str, object] = {"itemId": ITEM, "userId": 3, "qty": 1, "maxQty": 1}

READING_PAGES: list[tuple[str, dict[str, object]]] = [
    ("BrowseCategories", {}),
    ("BrowseCategories", {"region": "GA--Atlanta"}),
    ("BrowseCategories", dict(LOGIN)),
    ("SearchItemsByCategory", {"category": 6, "categoryName": "Collectibles", "page": 0, "nbOfItems": 5}),
    ("BrowseRegions", {}),
    ("ViewItem", {"itemId": ITEM}),
    ("ViewItem", {"itemId": 1}),
    ("ViewUserInfo", {"userId": 3}),
    ("ViewBidHistory", {"itemId": ITEM}),
    ("BuyNowAuth", {"itemId": ITEM}),
    ("BuyNow", {"itemId": ITEM, **LOGIN}),
    ("PutBidAuth", {"itemId": ITEM}),
    ("PutBid", {"itemId": ITEM, **LOGIN}),
    ("PutCommentAuth", {"itemId": ITEM, "to": 5}),
    ("PutComment", {"itemId": ITEM, "to": 5, **LOGIN}),
    ("SellItemForm", {"user": 3, "category": 6}),
    ("AboutMe", dict(LOGIN)),
]
CHANGING_PAGES: list[tuple[str, dict[str, object]]] = [
    ("RegisterUser", dict(NEW_USER)),
    ("RegisterItem", dict(NEW_ITEM)),
    ("StoreBid", BID),
    ("StoreBuyNow", PURCHASE),
    ("StoreComment", COMMENT),
]
STATIC_PAGES = {
    "": "Home", "index.html": "Home", "register.html": "Register", "browse.html": "Browse", "sell.html": "Sell",
    "about_me.html": "AboutMeAuth",
}  # fmt: skip


def assert_shown(reply: Reply, mark: str) -> None:
    """The page is the one asked for and says neither of the emulator's words."""
    assert reply.status == 200, reply.text
    assert f'data-page="{mark}"' in reply.text
    assert "Sorry" not in reply.text
    assert "ERROR" not in reply.text


def values_after(key: str, text: str) -> list[str]:
    """What follows each occurrence of a key that the emulator looks for, up to the characters at which it stops."""
    return [re.split(r'["?&>]', rest, maxsplit=1)[0] for rest in text.split(key)[1:]]


@pytest.mark.parametrize(("servlet", "parameters"), READING_PAGES + CHANGING_PAGES)
def test_each_page_is_the_same_by_get_and_by_post(
    site: RunningReplica, servlet: str, parameters: dict[str, object]
) -> None:
    by_get, update_by_get = site.changing_page(servlet, **parameters)
    site.reset()
    outcome = site.execute(post_request(SERVLETS + servlet, urlencode(parameters).encode("ascii")))
    assert_shown(by_get, servlet)
    assert parse_reply(outcome.reply) == by_get
    assert outcome.update == update_by_get
    assert bool(update_by_get) == ((servlet, parameters) in CHANGING_PAGES)


@pytest.mark.parametrize(("servlet", "parameters"), READING_PAGES)
def test_ids_in_links_are_numbers_where_the_emulator_looks_for_them(
    site: RunningReplica, servlet: str, parameters: dict[str, object]
) -> None:
    text = site.page(servlet, **parameters).text
    for key in ("itemId=", "userId=", "&page="):
        assert all(value.isdigit() for value in values_after(key, text)), key
    assert all(re.match(r"\d+[&\"]", rest) for rest in re.split(r"\bto=", text)[1:])


def test_the_pages_that_the_emulator_continues_from_name_an_item(site: RunningReplica) -> None:
    """Bid, purchase and comment are sent with an item id found on the page before."""
    for servlet in ("ViewItem", "PutBidAuth", "BuyNowAuth", "PutCommentAuth", "PutBid", "BuyNow", "PutComment"):
        text = site.page(servlet, itemId=ITEM, to=5, **LOGIN).text
        assert str(ITEM) in values_after("itemId=", text), servlet


@pytest.mark.parametrize("file_name", STATIC_PAGES)
def test_static_pages(site: RunningReplica, file_name: str) -> None:
    reply = site.get(f"/rubis_servlets/{file_name}")
    assert_shown(reply, STATIC_PAGES[file_name])
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert list(reply.headers) == ["Date", "Content-Type", "Cache-Control", "Content-Length"]


@pytest.mark.parametrize("image", ["RUBiS_logo.jpg", "bid_now.jpg", "buy_it_now.jpg"])
def test_the_images_that_pages_name_can_be_loaded(site: RunningReplica, image: str) -> None:
    pages = site.get("/rubis_servlets/").text + site.page("ViewItem", itemId=ITEM).text
    assert f'<IMG SRC="/rubis_servlets/{image}"' in pages
    outcome = site.execute(f"GET /rubis_servlets/{image} HTTP/1.1\r\nHost: x\r\n\r\n".encode("ascii"))
    head, _, body = outcome.reply.partition(b"\r\n\r\n")
    assert b"Content-Type: image/jpeg\r\n" in head
    assert body.startswith(b"\xff\xd8\xff")


def test_the_root_leads_to_the_home_page(site: RunningReplica) -> None:
    for target in ("/", "/rubis_servlets"):
        reply = site.get(target)
        assert (reply.status, reply.headers["Location"]) == (302, "/rubis_servlets/")


def test_the_style_sheet_is_there(site: RunningReplica) -> None:
    reply = site.get("/rubis_servlets/rubis.css")
    assert reply.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "--ruby" in reply.text


def test_a_search_leads_from_page_to_page(site: RunningReplica) -> None:
    seen: list[str] = []
    number = 0
    while True:
        text = site.page(
            "SearchItemsByCategory", category=6, categoryName="Collectibles", page=number, nbOfItems=5
        ).text
        seen += list(dict.fromkeys(re.findall(r"ViewItem\?itemId=(\d+)", text)))
        linked = [int(value) for value in values_after("&page=", text)]
        assert linked == [page for page in (number - 1, number + 1) if page >= 0][: len(linked)]
        if number + 1 not in linked:
            break
        number += 1
    assert number >= 2
    assert len(seen) == len(set(seen)) > 10


def test_a_search_in_a_region_shows_only_its_sellers(site: RunningReplica) -> None:
    found = {}
    for region in range(1, 33):
        reply = site.page("SearchItemsByRegion", region=region, category=6, categoryName="Collectibles", nbOfItems=100)
        for item in re.findall(r"ViewItem\?itemId=(\d+)", reply.text):
            found[int(item)] = region
    everywhere = site.page("SearchItemsByCategory", category=6, categoryName="Collectibles", nbOfItems=100).text
    assert set(found) == {int(item) for item in re.findall(r"ViewItem\?itemId=(\d+)", everywhere)}
    for item, region in found.items():
        sellers = re.findall(r"ViewUserInfo\?userId=(\d+)", site.page("ViewItem", itemId=item).text)
        assert 1 + int(sellers[0]) % 62 == region


@pytest.mark.parametrize(
    ("servlet", "parameters"),
    [
        ("SearchItemsByCategory", {"category": 0}),
        ("SearchItemsByCategory", {"category": 6, "page": 900}),
        ("SearchItemsByRegion", {"region": 0, "category": 6}),
        ("SearchItemsByRegion", {"region": 5, "category": 0}),
        ("BrowseCategories", {"region": "XX--Nowhere"}),
        ("ViewItem", {"itemId": 0}),
        ("ViewItem", {"itemId": 2**31 - 1}),
        ("ViewUserInfo", {"userId": 0}),
        ("ViewBidHistory", {"itemId": 0}),
        ("PutBidAuth", {"itemId": 0}),
        ("PutBid", {"itemId": 1, **LOGIN}),
        ("BuyNow", {"itemId": 1, **LOGIN}),
        ("SellItemForm", {"user": 3, "category": 0}),
        ("RegisterItem", NEW_ITEM | {"categoryId": 0}),
        ("RegisterUser", NEW_USER | {"region": "nowhere"}),
        ("StoreBid", BID | {"itemId": 1}),
        ("StoreBid", BID | {"userId": 0}),
        ("StoreBid", BID | {"minBid": "0.01", "bid": "0.01", "maxBid": "0.01"}),
        ("StoreBid", BID | {"qty": 11, "maxQty": 11}),
        ("StoreBuyNow", PURCHASE | {"qty": 11, "maxQty": 11}),
        ("StoreComment", COMMENT | {"to": 0}),
    ],
)
def test_what_finds_nothing_or_comes_too_late_is_sorry(
    site: RunningReplica, servlet: str, parameters: dict[str, object]
) -> None:
    reply, update = site.changing_page(servlet, **parameters)
    assert reply.status == 200
    assert "Sorry" in reply.text
    assert "ERROR" not in reply.text
    assert f'data-page="{servlet}"' in reply.text
    assert update == b""
    assert site.state() == site.pristine


@pytest.mark.parametrize(
    ("servlet", "parameters", "status"),
    [
        ("ViewItem", {}, 400),
        ("ViewItem", {"itemId": -1}, 400),
        ("ViewItem", {"itemId": 2**31}, 400),
        ("ViewItem", {"itemId": "9" * 500}, 400),
        ("ViewItem", {"itemId": "٣"}, 400),
        ("PutBid", {"itemId": ITEM, "nickname": "user3", "password": "wrong"}, 403),
        ("AboutMe", {"nickname": "user3 ", "password": "password3"}, 403),
        ("AboutMe", {"nickname": "USER3", "password": "password3"}, 403),
        ("AboutMe", {"nickname": "user3", "password": "password3\0"}, 400),
        ("RegisterUser", NEW_USER | {"nickname": "user3"}, 409),
        ("RegisterUser", NEW_USER | {"nickname": "x" * 21}, 400),
        ("RegisterUser", NEW_USER | {"firstname": "Ada\0"}, 400),
        ("RegisterUser", NEW_USER | {"firstname": "   "}, 400),
        ("RegisterItem", NEW_ITEM | {"description": "x" * 8193}, 400),
        ("RegisterItem", NEW_ITEM | {"initialPrice": "-1"}, 400),
        ("RegisterItem", NEW_ITEM | {"initialPrice": "NaN"}, 400),
        ("RegisterItem", NEW_ITEM | {"initialPrice": "99999999999"}, 400),
        ("RegisterItem", NEW_ITEM | {"duration": 0}, 400),
        ("StoreBid", BID | {"qty": 2}, 400),
        ("StoreBid", BID | {"bid": "4999.99"}, 400),
        ("StoreBid", BID | {"maxBid": "5000.50"}, 400),
        ("StoreComment", COMMENT | {"rating": 4}, 400),
        ("StoreComment", COMMENT | {"comment": "x" * 2049}, 400),
        ("NoSuchServlet", {}, 404),
    ],
)
def test_a_clients_mistake_is_an_error_page(
    site: RunningReplica, servlet: str, parameters: dict[str, object], status: int
) -> None:
    reply, update = site.changing_page(servlet, **parameters)
    assert reply.status == status
    assert "ERROR" in reply.text
    assert "Sorry" not in reply.text
    assert update == b""


@pytest.mark.parametrize(
    "query", ["itemId=%", "itemId=%zz", "itemId=%ff", "itemId=25&%c3%28=1", "&".join("abcdefgh" * 9)]
)
def test_a_form_that_cannot_be_decoded_is_an_error_page(site: RunningReplica, query: str) -> None:
    reply = site.get(f"{SERVLETS}ViewItem?{query}")
    assert reply.status == 400
    assert "ERROR" in reply.text


def test_texts_of_users_cannot_speak_for_the_page(site: RunningReplica) -> None:
    """A browser shows them as they were written; an emulated user sees none of its words in them."""
    hostile = "Sorry ERROR itemId=9999 <script>alert(1)</script> &page=7"
    registered, update = site.changing_page("RegisterItem", **(NEW_ITEM | {"name": hostile, "description": hostile}))
    assert_shown(registered, "RegisterItem")
    item = next(image.id for image in decode_images(update) if image.table == 3)
    shown = site.page("ViewItem", itemId=item)
    assert_shown(shown, "ViewItem")
    assert "9999" not in values_after("itemId=", shown.text)
    assert "<script>" not in shown.text
    assert "S&#111;rry" in shown.text


def test_a_bid_raises_count_and_price(site: RunningReplica) -> None:
    form = site.page("PutBid", itemId=ITEM, **LOGIN).text
    minimum = float(values_after("name=minBid value=", form)[0])
    assert values_after("name=maxQty value=", form)[0].isdigit()
    assert values_after("name=userId value=", form) == ["3"]
    bids = int(re.findall(r">(\d+) bids?<", form)[0])
    stored = site.page("StoreBid", **(BID | {"minBid": minimum, "bid": minimum + 5, "maxBid": minimum + 9}))
    assert_shown(stored, "StoreBid")
    item = site.page("ViewItem", itemId=ITEM).text
    assert f"${minimum + 5:,.2f}" in item
    assert f">{bids + 1} bid" in item
    assert "user3" in site.page("ViewBidHistory", itemId=ITEM).text
    assert float(values_after("name=minBid value=", site.page("PutBid", itemId=ITEM, **LOGIN).text)[0]) == minimum + 6


def test_buying_the_last_piece_ends_the_auction(site: RunningReplica) -> None:
    quantity = int(values_after("name=maxQty value=", site.page("BuyNow", itemId=ITEM, **LOGIN).text)[0])
    for left in range(quantity, 0, -1):
        assert_shown(site.page("StoreBuyNow", **(PURCHASE | {"maxQty": left})), "StoreBuyNow")
    assert "This auction has ended" in site.page("ViewItem", itemId=ITEM).text
    assert "Sorry" in site.page("StoreBuyNow", **PURCHASE).text
    assert "Sorry" in site.page("PutBid", itemId=ITEM, **LOGIN).text
    assert f"itemId={ITEM}" in site.page("AboutMe", **LOGIN).text


def test_a_comment_changes_the_rating(site: RunningReplica) -> None:
    def rating() -> int:
        return int(re.findall(r'Rating <span class="rating[^>]*>(-?\d+)<', site.page("ViewUserInfo", userId=5).text)[0])

    before = rating()
    form = site.page("PutComment", itemId=ITEM, to=5, **LOGIN).text
    assert values_after("name=to value=", form) == ["5"]
    assert_shown(site.page("StoreComment", **COMMENT), "StoreComment")
    assert rating() == before - 3
    assert "Still, it came." in site.page("ViewUserInfo", userId=5).text


def test_a_new_item_is_found_until_it_ends(site: RunningReplica) -> None:
    reply, update = site.changing_page("RegisterItem", **NEW_ITEM)
    assert_shown(reply, "RegisterItem")
    item = next(image.id for image in decode_images(update) if image.table == 3)
    assert item == site_last_item(site)
    search = page_request("SearchItemsByCategory", category=6, nbOfItems=100)
    assert f"itemId={item}" in site.execute(search).reply.decode("utf-8")
    shown = site.page("ViewItem", itemId=item).text
    assert "$12.50" in shown
    assert "at once for $30.01" in shown
    site.adapter.apply_updates([], site.adapter.cursor() + 3 * 24 * 3600)
    assert f"itemId={item}" not in site.execute(search).reply.decode("utf-8")


def site_last_item(site: RunningReplica) -> int:
    """The highest id of an item in the pristine data set plus one."""
    return FIRST_ITEM + 60


def test_a_new_user_can_log_in_and_sell(site: RunningReplica) -> None:
    assert_shown(site.page("RegisterUser", **NEW_USER), "RegisterUser")
    login = {"nickname": "ada", "password": "engine"}
    about = site.page("AboutMe", **login)
    assert_shown(about, "AboutMe")
    assert "GA · Atlanta" in about.text
    categories = site.page("BrowseCategories", **login).text
    links = re.findall(r'SellItemForm\?category=(\d+)&user=(\d+)"', categories)
    assert sorted(int(category) for category, _ in links) == list(range(1, 21))
    assert {user for _, user in links} == {"31"}


def test_links_carry_names_of_categories_and_regions(site: RunningReplica) -> None:
    text = site.page("BrowseCategories", region="CA--San Diego").text
    names = [unquote_plus(name) for name in re.findall(r"categoryName=([^\"&]*)", text)]
    assert "Business, Office & Industrial" in names
    assert len(names) == 20
    regions = [unquote_plus(name) for name in re.findall(r"region=([^\"&]*)", site.page("BrowseRegions").text)]
    assert regions[0] == "AZ--Phoenix"
    assert len(regions) == 62
