"""Commenting on a user: login, form, and the comment itself."""

from typing import Final

from rubis_adapter.auction import accounts, catalogue
from rubis_adapter.auction.identifiers import next_id
from rubis_adapter.auction.page import InvalidInput, Page, PageRequest
from rubis_adapter.schema import COMMENT_CHARACTERS_MAX, ID_MAX, comments, users

RATINGS: Final = {5: "Excellent", 3: "Good", 0: "Neutral", -3: "Disappointing", -5: "Bad"}


def put_comment_auth(request: PageRequest) -> Page:
    """The login in front of the form."""
    addressee = accounts.find_user(request.connection, request.form.row_id("to"))
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    values = {"item": item, "next_page": "PutComment", "heading": "Log in to comment", "addressee": addressee}
    return Page("login.html", values)


def put_comment(request: PageRequest) -> Page:
    """The form for a comment."""
    addressee = accounts.find_user(request.connection, request.form.row_id("to"))
    item = catalogue.find_item(request.connection, request.form.row_id("itemId"))
    author = accounts.log_in(request.connection, request.form)
    return Page("comment_form.html", {"item": item, "addressee": addressee, "author": author, "ratings": RATINGS})


def store_comment(request: PageRequest) -> Page:
    """Stores a comment; the addressee is locked, so that the rating cannot change in between."""
    form, connection = request.form, request.connection
    item_id, addressee_id, author_id = form.row_id("itemId"), form.row_id("to"), form.row_id("from")
    rating = form.integer("rating", min(RATINGS), max(RATINGS))
    if rating not in RATINGS:
        raise InvalidInput("rating must be one of -5, -3, 0, 3 and 5")
    text = form.long_text("comment", COMMENT_CHARACTERS_MAX)
    item = catalogue.find_item(connection, item_id)
    author = accounts.find_user(connection, author_id)
    addressee = accounts.lock_user(connection, addressee_id)
    comment_id = next_id(connection, "comments")
    row = {"id": comment_id, "from_user_id": author_id, "to_user_id": addressee_id, "item_id": item_id}
    connection.execute(comments.insert(), row | {"rating": rating, "date": request.context.now, "comment": text})
    new_rating = max(-ID_MAX, min(ID_MAX, addressee.rating + rating))
    connection.execute(users.update().where(users.c.id == addressee_id).values(rating=new_rating))
    values = {"item": item, "author": author, "addressee": addressee, "rating": RATINGS[rating], "text": text}
    return Page("comment_stored.html", values | {"reference": request.context.reference})
