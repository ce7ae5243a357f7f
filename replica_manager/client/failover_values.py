"""Limits of a client that fails over, what it wants done, and what it tells.  Pure."""

from dataclasses import dataclass
from typing import NamedTuple

from replica_manager.identifiers import ClientId
from replica_manager.intake.framed_messages import ToServer
from replica_manager.intake.port import Outcome


@dataclass(frozen=True, slots=True)
class FailoverSettings:
    """Times and bounds."""

    deadline_ms: int = 30_000
    """A request is decided this long after it was submitted, whatever happens.  A cell needs `crash_ms` and a little
    (4 to 6 s) to go on without a server."""
    attempt_ms: int = 2_000
    """Silence after which a request is repeated to another server; grows with every attempt."""
    attempt_ms_max: int = 8_000
    connect_ms: int = 2_000
    backoff_ms: int = 50
    """First pause after a refusal or a failed connection; doubles, and is drawn between its half and the whole."""
    backoff_ms_max: int = 2_000
    hangup_ms: int = 10_000
    """A server that has said nothing for this long, and has not answered, is connected to anew: it may have lost its
    power, and nobody would ever end that connection."""
    attempts_max: int = 32
    """Of one request; reached only if servers accept connections and drop them at once."""
    open_requests_max: int = 4096
    """Requests and openings under way; more are answered `UNAVAILABLE` at once."""
    open_bytes_max: int = 128 * 1024 * 1024
    """Bytes of requests under way: each is kept to be repeated."""
    spread_ms: int = 20
    spread_ms_per_request: float = 0.1
    """When a server dies, what was under way there is repeated spread over this time, not all in one moment."""


class Connect(NamedTuple):
    """Open a connection; `on_connected` or `on_lost` follows."""

    server: int


class HangUp(NamedTuple):
    """End the connection, or the attempt to open it; nothing of it may be reported any more."""

    server: int


class Send(NamedTuple):
    """Send over the open connection."""

    server: int
    message: ToServer


class Opened(NamedTuple):
    """Tell the caller that its client id is there; `None`: the cell does not issue one now."""

    token: int
    client: ClientId | None


class Decided(NamedTuple):
    """Tell the caller what became of its request; exactly once per `submit`."""

    client: ClientId
    number: int
    outcome: Outcome
    reply: bytes
    """Empty unless `ANSWERED`."""


class Noted(NamedTuple):
    """Something that whoever runs the client may want to know."""

    kind: str
    """`connected`, `lost`, `unreachable`, `misbehaved`, `silent`, `refused`, `moved`."""
    server: int
    detail: str


Action = Connect | HangUp | Send | Opened | Decided | Noted
