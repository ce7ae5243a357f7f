"""Gives every HTTP connection of the proxy a client id, and hands its requests to the failing-over client.

Ids are used again: the one of a connection that has ended serves the next one, with numbers that go on rising.  A new
id is an entry of the agreed order, which would double the cost of clients that open a connection per request, and
would push other clients out of the cell's client table.
"""

from collections.abc import Callable
from typing import Protocol

from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome, ReplySink, Submission

IDLE_CLIENTS_MAX = 1024
"""Ids kept for the next connections; a burst of more connections leaves no more than these behind."""


class RequestSender(Protocol):
    """What the port needs of `FailoverClient`; nothing is called back before these return."""

    def open_client(self, on_opened: Callable[[ClientId | None], None]) -> None:
        """Ask for a client id."""
        ...

    def submit(self, client: ClientId, payload: bytes, on_decided: Callable[[Outcome, bytes], None]) -> int:
        """Send the next request of an id."""
        ...

    def retire(self, client: ClientId) -> None:
        """Use an id no more."""
        ...


class ProxyPort:
    """The `IntakePort` of the proxy's HTTP listener.

    A sink sees the id as its own and numbers from 1; the numbers that the cell sees go on from the former connection.
    """

    def __init__(self, sender: RequestSender, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Send with `sender`; `call_soon` calls later in the same thread."""
        self._sender = sender
        self._call_soon = call_soon
        self._idle: list[ClientId] = []
        """The one used last is at the end and goes first: the cell forgets the others sooner."""
        self._held: dict[ReplySink, ClientId] = {}
        self._busy: set[ClientId] = set()
        self._opening = 0
        self.counts = dict.fromkeys(Outcome, 0)
        """Requests that were decided, by outcome."""
        self.opened = 0

    @property
    def open_count(self) -> int:
        """Requests that are not decided, and connections that wait for an id for their first one."""
        return len(self._busy) + self._opening

    # -- IntakePort --------------------------------------------------------------------------------------------

    def open_client(self, sink: ReplySink, token: int) -> None:
        """Give the connection an id; the one it had, if any, was refused by the cell."""
        self._release(sink)
        if self._idle:
            client = self._idle.pop()
            self._held[sink] = client
            self._call_soon(lambda: sink.client_opened(token, client))
        else:
            self._held[sink] = NOT_YET
            self._opening += 1
            self._sender.open_client(lambda client: self._on_opened(sink, token, client))

    def _on_opened(self, sink: ReplySink, token: int, client: ClientId | None) -> None:
        self._opening -= 1
        self.opened += client is not None
        is_awaited = self._held.get(sink) == NOT_YET
        if client is not None and not is_awaited:
            self._keep(client)
        elif is_awaited:
            del self._held[sink]
            if client is not None:
                self._held[sink] = client
            sink.client_opened(token, client)

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """Send the connection's next request."""
        client = submission.client
        assert self._held.get(sink) == client, "a connection uses the id that it was given"
        self._busy.add(client)
        self._sender.submit(
            client, submission.payload, lambda outcome, reply: self._on_decided(sink, submission, outcome, reply)
        )

    def _on_decided(self, sink: ReplySink, submission: Submission, outcome: Outcome, reply: bytes) -> None:
        client = submission.client
        self.counts[outcome] += 1
        self._busy.discard(client)
        is_held = self._held.get(sink) == client
        if outcome in (Outcome.UNKNOWN_CLIENT, Outcome.SUPERSEDED):
            # Not executed, and the id is of no use any more: the listener asks for another one, and tries again.
            self._sender.retire(client)
            self._drop_idle()
            if is_held:
                del self._held[sink]
            outcome = Outcome.UNKNOWN_CLIENT
        elif not is_held:
            self._keep(client)
        if is_held:
            sink.replied(client, submission.number, outcome, reply)

    def forget(self, sink: ReplySink) -> None:
        """The connection is gone; a request under way is seen through, and then its id is free."""
        self._release(sink)

    # -- ids ---------------------------------------------------------------------------------------------------

    def _release(self, sink: ReplySink) -> None:
        client = self._held.pop(sink, NOT_YET)
        if client != NOT_YET and client not in self._busy:
            self._keep(client)

    def _drop_idle(self) -> None:
        """An id was evicted, so were those used before it: the listener's one more try needs a new one."""
        for client in self._idle:
            self._sender.retire(client)
        self._idle.clear()

    def _keep(self, client: ClientId) -> None:
        if len(self._idle) < IDLE_CLIENTS_MAX:
            self._idle.append(client)
        else:
            self._sender.retire(client)


NOT_YET = ClientId(b"")
"""Stands for an id that was asked for."""
