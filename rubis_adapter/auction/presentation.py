"""Templates and how values become text in them.

Emulated users read pages as text: `itemId=`, `userId=`, `to=` and `&page=` begin a value to use, `Sorry` and `ERROR`
tell how a request ended.  Links therefore hold a bare `&`, and no text of a user can form one of these words: such
characters are written as references, which a browser shows as they were.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote_plus

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

SERVLETS: Final = "/rubis_servlets/servlet/edu.rice.rubis.servlets."
STATIC: Final = "/rubis_servlets/"

_DISGUISES: Final = {"=": "&#61;", "Sorry": "S&#111;rry", "ERROR": "E&#82;ROR"}


def page_environment() -> Environment:
    """The templates, all of them compiled, so that no request pays for it."""
    environment = Environment(
        loader=PackageLoader("rubis_adapter.auction"),
        autoescape=True,
        finalize=_disguise,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"money": money, "minute": minute, "left": left, "place": place}
    environment.globals |= {"link": link, "servlet": SERVLETS, "static": STATIC}
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)
    return environment


def link(servlet: str, **parameters: object) -> Markup:
    """The address of a page with its parameters, in their order."""
    query = "&".join(f"{name}={quote_plus(str(value))}" for name, value in parameters.items())
    return Markup(SERVLETS + servlet + ("?" + query if query else ""))  # noqa: S704 - the query is quoted


def money(amount: Decimal) -> str:
    """An amount with a currency sign and thousands separators."""
    return f"${amount:,.2f}"


def minute(time: datetime) -> str:
    """A point in time, to the minute."""
    return f"{time.year:04}-{time.month:02}-{time.day:02} {time.hour:02}:{time.minute:02}"


def place(region: str) -> str:
    """The name of a region, which is `ST--City` in the database, for people."""
    return region.replace("--", " · ")


def left(end: datetime, now: datetime) -> str:
    """How long an auction runs yet, in its two largest units."""
    rest = max(end - now, timedelta())
    hours, minutes = rest.seconds // 3600, rest.seconds // 60 % 60
    if rest.days:
        return f"{rest.days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _disguise(value: Any) -> Any:
    """Escapes a text and takes from it what an emulated user would read as the page's own words."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = str(escape(value))
    for word, disguise in _DISGUISES.items():
        if word in text:
            text = text.replace(word, disguise)
    return Markup(text)  # noqa: S704 - escaped above
