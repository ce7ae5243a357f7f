"""The border between listeners and the replica manager's core."""

import enum
from typing import NamedTuple, Protocol

from replica_manager.identifiers import ClientId


class Outcome(enum.IntEnum):
    """What became of a request.

    `UNKNOWN_CLIENT`, `UNAVAILABLE`, `SKIPPED`, `TOO_LARGE` and `MALFORMED` mean that this submission was surely not
    executed; the same number may have been executed for an earlier submission of it, which sending it again will tell.
    """

    ANSWERED = 0
    """`reply` is stable: enough domains agreed on it."""
    UNKNOWN_CLIENT = 1
    """The client id was never issued or was evicted."""
    SUPERSEDED = 2
    """A later number of this client is already recorded, or this number was used for another payload."""
    UNAVAILABLE = 3
    """A queue is full or the cell does not answer; not executed, try again later."""
    SKIPPED = 4
    """An operator resolved the request by skipping it; it changed nothing."""
    TOO_LARGE = 5
    """The request exceeds the configured limit."""
    REPLY_LOST = 6
    """A repetition of a request that was executed, but its reply is no longer kept."""
    MALFORMED = 7
    """The payload is no request of the protocol that the service speaks."""
    UNDECIDED = 8
    """No server has told what became of the request: it was executed, or is executed yet, or never.

    No server says this; a client does that has given up asking (`replica_manager.client`).
    """


class Submission(NamedTuple):
    """One client request."""

    client: ClientId
    number: int
    """Per client, ascending from 1."""
    payload: bytes


class ReplySink(Protocol):
    """What a listener's connection offers; called in the event loop, must not block or raise."""

    def client_opened(self, token: int, client: ClientId | None) -> None:
        """`OpenClient` of `token` is ordered and the id is valid; None: unavailable."""
        ...

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        """The request is decided; `reply` is empty unless `ANSWERED`."""
        ...


class IntakePort(Protocol):
    """What a listener calls.  All calls return at once."""

    def open_client(self, sink: ReplySink, token: int) -> None:
        """Order an `OpenClient`; `sink.client_opened(token, …)` follows."""
        ...

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """Order and answer a request; `sink.replied(…)` follows exactly once unless `forget(sink)` comes first.

        Of several submissions of one request that are under way together only the newest one's sink is answered.
        """
        ...

    def forget(self, sink: ReplySink) -> None:
        """The connection is gone.  Requests already ordered still execute; replies to `sink` may still come once
        and must be ignored by it."""
        ...
