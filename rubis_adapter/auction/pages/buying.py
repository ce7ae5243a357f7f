"""Buying at once: login, form, and the purchase itself."""

from rubis_adapter.auction import accounts, catalogue
from rubis_adapter.auction.identifiers import next_id
from rubis_adapter.auction.page import InvalidInput, Page, PageRequest, Sorry
from rubis_adapter.schema import ID_MAX, buy_now, items


def buy_now_auth(request: PageRequest) -> Page:
    """The login in front of the form."""
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    return Page("login.html", {"item": item, "next_page": "BuyNow", "heading": "Log in to buy"})


def buy_now_form(request: PageRequest) -> Page:
    """The form for a purchase."""
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    buyer = accounts.log_in(request.connection, request.form)
    catalogue.require_running(item, request.context.now)
    seller = accounts.find_user(request.connection, item.seller)
    values = {"item": item, "seller": seller, "buyer": buyer, "price": catalogue.purchase_price(item)}
    return Page("buy_form.html", values)


def store_buy_now(request: PageRequest) -> Page:
    """Stores a purchase and lowers the quantity; with the last piece the auction ends."""
    form, connection, now = request.form, request.connection, request.context.now
    item_id, user_id = form.row_id("itemId"), form.row_id("userId")
    quantity, quantity_max = form.integer("qty", 1, ID_MAX), form.integer("maxQty", 1, ID_MAX)
    if quantity > quantity_max:
        raise InvalidInput(f"You cannot buy {quantity} items, only {quantity_max} are offered.")
    buyer = accounts.find_user(connection, user_id)
    item = catalogue.lock_running_item(connection, item_id, now)
    if quantity > item.quantity:
        raise Sorry(f"only {item.quantity} of these are left.")
    purchase_id = next_id(connection, "buy_now")
    row = {"id": purchase_id, "buyer_id": user_id, "item_id": item_id, "qty": quantity, "date": now}
    connection.execute(buy_now.insert(), row)
    left = {"quantity": item.quantity - quantity}
    if quantity == item.quantity:
        left["end_date"] = now
    connection.execute(items.update().where(items.c.id == item_id).values(left))
    price = catalogue.purchase_price(item)
    values = {"item": item, "buyer": buyer, "quantity": quantity, "price": price, "total": price * quantity}
    return Page("purchase_stored.html", values | {"reference": request.context.reference})
