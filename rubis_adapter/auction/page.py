"""What a page function gets and gives, and the ways in which it can refuse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy import Connection

from rubis_adapter.auction.agreed_context import AgreedContext
from rubis_adapter.auction.form import Form

Record = Any
"""A row as the database gave it, columns as attributes (SQLAlchemy 2.0 and 2.1 name its type differently)."""


@dataclass(frozen=True)
class PageRequest:
    """One request for a dynamic page, inside its transaction."""

    form: Form
    context: AgreedContext
    connection: Connection


@dataclass(frozen=True)
class Page:
    """A page to be rendered when the transaction has ended."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)


class PageRefused(Exception):
    """Base of the refusals: the transaction is rolled back and a page says why.  The text may hold user input."""

    status = HTTPStatus.BAD_REQUEST
    template = "refused.html"


class InvalidInput(PageRefused):
    """Raised when a parameter is missing or not what it must be: the client's mistake."""


class LoginFailed(PageRefused):
    """Raised when nickname and password belong to nobody."""

    status = HTTPStatus.FORBIDDEN


class NicknameTaken(PageRefused):
    """Raised when somebody registers under a nickname that exists."""

    status = HTTPStatus.CONFLICT


class UnknownPage(PageRefused):
    """Raised when there is no page of this name."""

    status = HTTPStatus.NOT_FOUND


class Sorry(PageRefused):
    """Raised when a valid request finds nothing, or comes too late (sold, ended, outbid).  Nobody's mistake."""

    status = HTTPStatus.OK
    template = "sorry.html"
