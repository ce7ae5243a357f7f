"""Users: registration, what everybody may see of them, and what they see of themselves."""

from decimal import Decimal
from typing import Final

from rubis_adapter.auction import accounts, activity, catalogue
from rubis_adapter.auction.identifiers import next_id
from rubis_adapter.auction.page import NicknameTaken, Page, PageRequest
from rubis_adapter.schema import users

_NAME_CHARACTERS_MAX: Final = 20
_EMAIL_CHARACTERS_MAX: Final = 50
_REGION_CHARACTERS_MAX: Final = 25


def register_user(request: PageRequest) -> Page:
    """Stores a new user."""
    form, connection = request.form, request.connection
    names = {name: form.text(name, _NAME_CHARACTERS_MAX) for name in ("firstname", "lastname", "nickname", "password")}
    email = form.text("email", _EMAIL_CHARACTERS_MAX)
    region = catalogue.find_region_by_name(connection, form.text("region", _REGION_CHARACTERS_MAX))
    if accounts.has_nickname(connection, names["nickname"]):
        raise NicknameTaken(f"The nickname {names['nickname']} is taken, please choose another one.")
    row = names | {"email": email, "rating": 0, "balance": Decimal("0.00"), "region": region.id}
    user_id = next_id(connection, "users")
    connection.execute(users.insert(), row | {"id": user_id, "creation_date": request.context.now})
    values = {"user": row | {"id": user_id}, "region": region.name, "reference": request.context.reference}
    return Page("user_registered.html", values)


def view_user_info(request: PageRequest) -> Page:
    """A user and what others say about them."""
    user = accounts.find_user(request.connection, request.form.row_id("userId"))
    values = {"user": user, "region": accounts.region_name(request.connection, user.region)}
    return Page("user.html", values | {"comments": accounts.comments_about(request.connection, user.id)})


def about_me(request: PageRequest) -> Page:
    """Everything that a user takes part in."""
    connection, now = request.connection, request.context.now
    user = accounts.log_in(connection, request.form)
    return Page(
        "about_me.html",
        {
            "user": user,
            "region": accounts.region_name(connection, user.region),
            "bidding": activity.running_bids(connection, user.id, now),
            "won": activity.won_items(connection, user.id, now),
            "bought": activity.purchases(connection, user.id, now),
            "selling": activity.running_sales(connection, user.id, now),
            "sold": activity.ended_sales(connection, user.id, now),
            "comments": accounts.comments_about(connection, user.id),
            "now": now,
        },
    )
