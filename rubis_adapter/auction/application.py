"""The Flask application: finds the page, runs it in one transaction, renders it, reports the update.

What a page refuses is a page too.  A database that is out of order is none: then the reply says that this replica
cannot go on (`OUTCOME_FAILED`), because the next replica might well be able to answer.
"""

import logging
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, request
from jinja2 import Environment
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from rubis_adapter.auction.agreed_context import (
    OUTCOME_FAILED,
    OUTCOME_UNCHANGED,
    OUTCOME_UPDATE,
    UPDATE_HEADER,
    AgreedContext,
    MissingContext,
    read_context,
)
from rubis_adapter.auction.form import Form, FormError
from rubis_adapter.auction.page import InvalidInput, Page, PageRefused, PageRequest, UnknownPage
from rubis_adapter.auction.pages import PAGES
from rubis_adapter.auction.presentation import SERVLETS, page_environment
from rubis_adapter.auction.reporting import UpdateReporter

BODY_BYTES_MAX: Final = 256 * 1024
"""More than the longest description, every byte of it percent-encoded."""
FORM_TYPE: Final = "application/x-www-form-urlencoded"

_Rendered = tuple[HTTPStatus, str]
_log = logging.getLogger(__name__)


def create_application(engine: Engine, reporter: UpdateReporter) -> Flask:
    """The site over one database; `reporter` learns what each request changed."""
    application = Flask(__name__, static_folder=None)
    application.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    site = AuctionSite(engine, reporter, page_environment())
    application.add_url_rule(f"{SERVLETS}<name>", "page", site.serve, methods=["GET", "POST"])
    application.add_url_rule("/<path:name>", "unknown", site.serve, methods=["GET", "POST"])
    return application


class AuctionSite:
    """Serves the dynamic pages."""

    def __init__(self, engine: Engine, reporter: UpdateReporter, environment: Environment) -> None:
        """See `create_application`."""
        self._engine = engine
        self._reporter = reporter
        self._environment = environment

    def serve(self, name: str) -> Response:
        """One request, from its headers to its reply."""
        try:
            context = read_context(dict(request.headers))
        except MissingContext as error:
            return Response(f"{error}\n", HTTPStatus.BAD_REQUEST, content_type="text/plain; charset=utf-8")
        self._reporter.begin(context.sequence)
        rendered = self._supervise(name, context)
        has_changed = self._reporter.finish(context.sequence)
        if rendered is None:
            return Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers={UPDATE_HEADER: OUTCOME_FAILED})
        outcome = OUTCOME_UPDATE if has_changed else OUTCOME_UNCHANGED
        headers = {UPDATE_HEADER: outcome, "Cache-Control": "no-store"}
        return Response(rendered[1], rendered[0], headers, content_type="text/html; charset=utf-8")

    def _supervise(self, name: str, context: AgreedContext) -> _Rendered | None:
        """The supervisor of page functions: a mistake in one is an answer like any other, equal in every replica.

        Returns None if the database is out of order.
        """
        try:
            return self._run(name, context)
        except (OperationalError, InterfaceError, InternalError):
            _log.exception("request %d: the database is out of order", context.sequence)
            return None
        except DBAPIError as error:
            if error.connection_invalidated:
                _log.exception("request %d: the database went away", context.sequence)
                return None
            _log.exception("request %d: the database refused a statement", context.sequence)
        except Exception:  # noqa: BLE001 - the supervisor
            _log.exception("request %d: the page %r failed", context.sequence, name)
        message = "This page has a defect. Nothing was changed on your behalf."
        return HTTPStatus.INTERNAL_SERVER_ERROR, self._render(name, "refused.html", {"message": message})

    def _run(self, name: str, context: AgreedContext) -> _Rendered:
        try:
            function = PAGES.get(name)
            if function is None:
                raise UnknownPage("There is no such page.")
            form = _read_form()
            with self._engine.begin() as connection:
                page = _call(function, PageRequest(form, context, connection))
        except PageRefused as refusal:
            return refusal.status, self._render(name, refusal.template, {"message": str(refusal)})
        return HTTPStatus.OK, self._render(name, page.template, page.values)

    def _render(self, name: str, template: str, values: Any) -> str:
        page = name if name in PAGES else "Unknown"
        return self._environment.get_template(template).render(values, page=page)


def _call(function: Any, page_request: PageRequest) -> Page:
    try:
        page: Page = function(page_request)
    except FormError as error:
        raise InvalidInput(f"{error}.") from error
    return page


def _read_form() -> Form:
    body = request.get_data(cache=False)
    if body and request.mimetype not in ("", FORM_TYPE):
        raise InvalidInput("A form must be sent URL-encoded.")
    try:
        return Form(request.query_string, body)
    except FormError as error:
        raise InvalidInput(f"{error}.") from error
