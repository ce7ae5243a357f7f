"""Reading users, and the comments about them."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, select

from rubis_adapter.auction.form import Form
from rubis_adapter.auction.page import LoginFailed, Record, Sorry
from rubis_adapter.schema import comments, regions, users

NICKNAME_CHARACTERS_MAX: Final = 20
PASSWORD_CHARACTERS_MAX: Final = 20
COMMENTS_SHOWN_MAX: Final = 50

_author = users.alias("author")
_BY_ID = select(users).where(users.c.id == bindparam("user_id"))
_BY_NICKNAME = select(users).where(users.c.nickname == bindparam("nickname"))
_REGION_NAME = select(regions.c.name).where(regions.c.id == bindparam("region_id"))
_COMMENTS_ABOUT = (
    select(comments, _author.c.nickname.label("author"))
    .join(_author, _author.c.id == comments.c.from_user_id)
    .where(comments.c.to_user_id == bindparam("user_id"))
    .order_by(comments.c.date.desc(), comments.c.id.desc())
    .limit(COMMENTS_SHOWN_MAX)
)


def find_user(connection: Connection, user_id: int) -> Record:
    """The user with this id.  Raises `Sorry` if there is none."""
    user = connection.execute(_BY_ID, {"user_id": user_id}).one_or_none()
    if user is None:
        raise Sorry("this user does not exist.")
    return user


def lock_user(connection: Connection, user_id: int) -> Record:
    """The user with this id, locked until the transaction ends.  Raises `Sorry` if there is none."""
    user = connection.execute(_BY_ID.with_for_update(), {"user_id": user_id}).one_or_none()
    if user is None:
        raise Sorry("this user does not exist.")
    return user


def has_nickname(connection: Connection, nickname: str) -> bool:
    """Whether somebody has this nickname."""
    return connection.execute(_BY_NICKNAME, {"nickname": nickname}).one_or_none() is not None


def log_in(connection: Connection, form: Form) -> Record:
    """The user whose nickname and password the form holds.  Raises `LoginFailed`."""
    nickname = form.text("nickname", NICKNAME_CHARACTERS_MAX)
    password = form.text("password", PASSWORD_CHARACTERS_MAX)
    user = connection.execute(_BY_NICKNAME, {"nickname": nickname}).one_or_none()
    if user is None or user.password != password:
        raise LoginFailed("Nickname or password is wrong. If you have no account yet, please register first.")
    return user


def region_name(connection: Connection, region_id: int) -> str:
    """The name of a region, empty if there is none."""
    return connection.execute(_REGION_NAME, {"region_id": region_id}).scalar_one_or_none() or ""


def comments_about(connection: Connection, user_id: int) -> Sequence[Record]:
    """The newest comments about a user, newest first, with their authors' nicknames."""
    return connection.execute(_COMMENTS_ABOUT, {"user_id": user_id}).all()
