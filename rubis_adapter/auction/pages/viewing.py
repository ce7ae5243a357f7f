"""Looking at one item."""

from rubis_adapter.auction import accounts, catalogue
from rubis_adapter.auction.page import Page, PageRequest


def view_item(request: PageRequest) -> Page:
    """An item, running or ended, with its seller."""
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    seller = accounts.find_user(request.connection, item.seller)
    return Page(
        "item.html",
        {
            "item": item,
            "seller": seller,
            "price": catalogue.current_price(item),
            "purchase_price": catalogue.purchase_price(item),
            "is_running": item.end_date > request.context.now and item.quantity > 0,
            "now": request.context.now,
        },
    )


def view_bid_history(request: PageRequest) -> Page:
    """The bids on an item."""
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    seller = accounts.find_user(request.connection, item.seller)
    bids = catalogue.bids_on(request.connection, item.id)
    return Page("bid_history.html", {"item": item, "seller": seller, "bids": bids})
