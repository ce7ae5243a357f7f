"""The `events` method of the control socket: what is there, and with `follow` what comes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from replica_manager.control.control_socket import Handler
from replica_manager.control.errors import RequestRefused
from replica_manager.control.event_log import EventLog

EVENTS_AT_ONCE_MAX = 1000


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of `events`."""

    since_id: int = -1
    """Events above this id, oldest first; negative: the newest `limit`."""
    limit: int = 100
    kinds: list[str] | None = None
    """Only these kinds; `None`: all."""
    follow: bool = False
    """Stream what is there and then every new event."""


def events_handler(log: EventLog) -> Handler:
    """Return the handler of `events` for `log`."""

    def handle(params: dict[str, Any]) -> Any:
        query = _query(params)
        if query.follow:
            return _follow(log, query)
        return [msgspec.to_builtins(event) for event in log.since(query.since_id, query.limit, query.kinds)]

    return handle


def _query(params: dict[str, Any]) -> EventsQuery:
    try:
        query = msgspec.convert(params, EventsQuery)
    except msgspec.ValidationError as error:
        raise RequestRefused("bad_request", f"events: {error}") from error
    if not 1 <= query.limit <= EVENTS_AT_ONCE_MAX:
        raise RequestRefused("bad_request", f"limit {query.limit} is not from 1 to {EVENTS_AT_ONCE_MAX}")
    return query


async def _follow(log: EventLog, query: EventsQuery) -> AsyncIterator[Any]:
    """Yield events; a slow reader that the ring has overtaken misses some and sees it by their ids."""
    news = asyncio.Event()
    leave = log.watch(news.set)
    try:
        seen = log.newest_id
        for event in log.since(query.since_id, query.limit, query.kinds):
            yield msgspec.to_builtins(event)
            seen = event.id
        while True:
            news.clear()
            while batch := log.since(seen, EVENTS_AT_ONCE_MAX, query.kinds):
                for event in batch:
                    yield msgspec.to_builtins(event)
                    seen = event.id
            await news.wait()
    finally:
        leave()
