"""Looking for items: by category, and by category within a region."""

from typing import Final

from rubis_adapter.auction import accounts, catalogue
from rubis_adapter.auction.page import Page, PageRequest, Sorry

ITEMS_PER_PAGE: Final = 20
ITEMS_PER_PAGE_MAX: Final = 100
PAGE_MAX: Final = 1_000_000
_REGION_NAME_CHARACTERS_MAX: Final = 25


def browse_categories(request: PageRequest) -> Page:
    """All categories; they lead to items, to items of one region, or (after a login) to the form for selling."""
    form, connection = request.form, request.connection
    seller = region = None
    if form.has("nickname") or form.has("password"):
        seller = accounts.log_in(connection, form)
    elif form.has("region"):
        region = catalogue.find_region_by_name(connection, form.text("region", _REGION_NAME_CHARACTERS_MAX))
    categories = catalogue.all_categories(connection)
    if not categories:
        raise Sorry("there are no categories yet.")
    return Page("categories.html", {"categories": categories, "region": region, "seller": seller})


def browse_regions(request: PageRequest) -> Page:
    """All regions."""
    regions_found = catalogue.all_regions(request.connection)
    if not regions_found:
        raise Sorry("there are no regions yet.")
    return Page("regions.html", {"regions": regions_found})


def search_items_by_category(request: PageRequest) -> Page:
    """One page of the running auctions of a category."""
    return _search(request, None)


def search_items_by_region(request: PageRequest) -> Page:
    """One page of the running auctions of a category whose sellers live in one region."""
    return _search(request, request.form.row_id("region"))


def _search(request: PageRequest, region_id: int | None) -> Page:
    form, connection = request.form, request.connection
    category_id = form.row_id("category")
    page = form.integer("page", 0, PAGE_MAX, default=0)
    per_page = form.integer("nbOfItems", 1, ITEMS_PER_PAGE_MAX, default=ITEMS_PER_PAGE)
    category = catalogue.find_category(connection, category_id)
    region = None if region_id is None else catalogue.find_region(connection, region_id)
    now = request.context.now
    found = catalogue.running_items(connection, category_id, region_id, now, page * per_page, per_page + 1)
    if not found:
        raise Sorry("there are no more items here." if page else "there are no items here at the moment.")
    return Page(
        "search.html",
        {
            "category": category,
            "region": region,
            "items": found[:per_page],
            "now": now,
            "page_number": page,
            "per_page": per_page,
            "has_next": len(found) > per_page,
        },
    )
