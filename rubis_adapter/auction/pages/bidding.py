"""Bidding: login, form, and the bid itself."""

from rubis_adapter.auction import accounts, catalogue
from rubis_adapter.auction.identifiers import next_id
from rubis_adapter.auction.page import InvalidInput, Page, PageRequest, Sorry
from rubis_adapter.schema import ID_MAX, bids, items


def put_bid_auth(request: PageRequest) -> Page:
    """The login in front of the form."""
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    return Page("login.html", {"item": item, "next_page": "PutBid", "heading": "Log in to bid"})


def put_bid(request: PageRequest) -> Page:
    """The form for a bid."""
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    bidder = accounts.log_in(request.connection, request.form)
    catalogue.require_running(item, request.context.now)
    seller = accounts.find_user(request.connection, item.seller)
    values = {"item": item, "seller": seller, "bidder": bidder, "minimum": catalogue.minimum_bid(item)}
    return Page("bid_form.html", values | {"price": catalogue.current_price(item)})


def store_bid(request: PageRequest) -> Page:
    """Stores a bid; the item is locked, so that count and highest bid cannot change in between."""
    form, connection, now = request.form, request.connection, request.context.now
    item_id, user_id = form.row_id("itemId"), form.row_id("userId")
    quantity, quantity_max = form.integer("qty", 1, ID_MAX), form.integer("maxQty", 1, ID_MAX)
    minimum, bid, bid_max = form.price("minBid"), form.price("bid"), form.price("maxBid")
    if quantity > quantity_max:
        raise InvalidInput(f"You cannot bid for {quantity} items, only {quantity_max} are offered.")
    if bid < minimum:
        raise InvalidInput(f"Your bid must be at least {minimum}.")
    if bid_max < bid:
        raise InvalidInput("Your highest bid must not be below your bid.")
    bidder = accounts.find_user(connection, user_id)
    item = catalogue.lock_running_item(connection, item_id, now)
    if quantity > item.quantity:
        raise Sorry(f"only {item.quantity} of these are left.")
    if bid < catalogue.minimum_bid(item):
        raise Sorry(f"somebody was faster: bids start at {catalogue.minimum_bid(item)} now.")
    bid_id = next_id(connection, "bids")
    row = {"id": bid_id, "user_id": user_id, "item_id": item_id, "qty": quantity, "bid": bid, "max_bid": bid_max}
    connection.execute(bids.insert(), row | {"date": now})
    raised = {"nb_of_bids": item.nb_of_bids + 1, "max_bid": max(item.max_bid, bid)}
    connection.execute(items.update().where(items.c.id == item_id).values(raised))
    values = {"item": item, "bidder": bidder, "bid": bid, "quantity": quantity, "reference": request.context.reference}
    return Page("bid_stored.html", values)
