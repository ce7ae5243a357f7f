"""Events of several servers in one order: from the servers that run, from the files of those that do not."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError, ControlUnavailable

ANSWER_TIMEOUT_S = 10.0
FILE_TAIL_BYTES = 4 * 1024 * 1024
"""Read from the end of an event file."""
QUEUE_EVENTS_MAX = 10_000


class EventQuery(NamedTuple):
    """Which events are wanted."""

    limit: int
    kinds: Sequence[str] | None
    """`None`: all."""


def read_events(config: Config, servers: Sequence[int], query: EventQuery) -> Sequence[Mapping[str, Any]]:
    """Return the newest events of all `servers`, and of the keeper if those are all there are, oldest first.

    Raises:
        ControlUnavailable: a server neither runs nor has left a file.
    """
    found: list[Mapping[str, Any]] = []
    for server in servers:
        found += _of_server(CellPaths.of(config), server, query)
    keeper_file = CellPaths.of(config).keeper_event_file
    if len(servers) == len(config.server) and keeper_file.exists():
        found += _from_file(keeper_file, query)
    return sorted(found, key=_order)[-query.limit :]


def follow_events(config: Config, servers: Sequence[int], query: EventQuery) -> Iterator[Mapping[str, Any]]:
    """Yield the newest events and then new ones as they come, until no server is left.

    Raises:
        ControlUnavailable: no server answers.
    """
    paths = CellPaths.of(config)
    arrived: queue.Queue[Mapping[str, Any] | None] = queue.Queue(QUEUE_EVENTS_MAX)
    clients = [client for server in servers if (client := _connect(paths.control_socket(server))) is not None]
    if not clients:
        raise ControlUnavailable(f"no server of cell {config.cell.name} answers", "start it: spare cell up")
    for client in clients:
        threading.Thread(target=_pump, args=(client, query, arrived), daemon=True).start()
    remaining = len(clients)
    while remaining:
        event = arrived.get()
        if event is None:
            remaining -= 1
        else:
            yield event


def _connect(socket: Path) -> ControlClient | None:
    try:
        return ControlClient(socket, ANSWER_TIMEOUT_S)
    except ControlUnavailable:
        return None


def _pump(client: ControlClient, query: EventQuery, arrived: "queue.Queue[Mapping[str, Any] | None]") -> None:
    """Carry one server's stream into the queue; `None` at its end."""
    try:
        for event in client.stream("events", limit=query.limit, kinds=query.kinds, follow=True):
            arrived.put(event)
    except ControlError:
        pass  # the server ended; the others go on
    finally:
        client.close()
        arrived.put(None)


def _of_server(paths: CellPaths, server: int, query: EventQuery) -> Sequence[Mapping[str, Any]]:
    try:
        with ControlClient(paths.control_socket(server), ANSWER_TIMEOUT_S) as client:
            events = client.call("events", limit=query.limit, kinds=query.kinds)
            assert isinstance(events, list), "the control socket's contract"
            return events
    except ControlUnavailable as error:
        path = paths.event_file(server)
        if not path.exists():
            raise ControlUnavailable(f"server {server} does not answer and has left no events", error.hint) from error
        return _from_file(path, query)


def _from_file(path: Path, query: EventQuery) -> Sequence[Mapping[str, Any]]:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - FILE_TAIL_BYTES))
        lines = file.read(FILE_TAIL_BYTES).splitlines()
    events = []
    for line in lines:
        try:
            event = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # cut at the begin of what was read, or by a crash
        if {"at_us", "server", "id", "kind", "text"} <= event.keys():
            events.append(event)
    wanted = [event for event in events if query.kinds is None or event["kind"] in query.kinds]
    return wanted[-query.limit :]


def _order(event: Mapping[str, Any]) -> tuple[int, int, int]:
    return event["at_us"], event["server"], event["id"]
