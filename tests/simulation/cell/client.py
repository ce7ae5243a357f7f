"""Simulated clients: send, wait, and repeat the same request to another server when no reply comes."""

from typing import TYPE_CHECKING

from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome, Submission
from tests.simulation.cell.history import History, Operation
from tests.simulation.cell.world import World

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer

PATIENCE_US = 1_500_000
KEYS = 9


class SimulatedClient:
    """One client with `count` requests to send, one after another; a `ReplySink`."""

    def __init__(
        self, world: World, servers: "list[SimulatedServer]", history: History, name: str, count: int, think_us: int
    ) -> None:
        """Start soon."""
        self._world = world
        self._servers = servers
        self._history = history
        self._name = name
        self._left = count
        self._think_us = think_us
        self.is_to_kill = False
        """Whether its next request kills every domain that executes it."""
        self._client: ClientId | None = None
        self._number = 0
        self._token = 0
        self._attempt = 0
        self._operation: Operation | None = None
        world.after(world.random.randrange(1000, 100_000), self._open)

    @property
    def is_done(self) -> bool:
        """Whether every request was answered."""
        return self._left == 0 and self._operation is None

    @property
    def has_more(self) -> bool:
        """Whether it will send another request."""
        return self._left > 0 and self._client is not None

    def _server(self) -> "SimulatedServer":
        up = [server for server in self._servers if server.is_serving] or self._servers
        return self._world.random.choice(up)

    # -- the identity ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._client is None:
            self._token += 1
            self._server().open_client(self, self._token)
            self._world.after(PATIENCE_US, self._open)

    def client_opened(self, token: int, client: ClientId | None) -> None:
        """The cell issued an id."""
        if self._client is None and client is not None:
            self._client = client
            self._next()

    def send_one_more(self) -> None:
        """Send a request beyond those that were drawn, if none is under way."""
        if self.is_done:
            self._left = 1
            self._next()

    # -- requests ----------------------------------------------------------------------------------------------

    def _next(self) -> None:
        if self._left == 0 or self._client is None:
            return
        self._left -= 1
        self._number += 1
        draw = self._world.random
        key = b"k%d" % draw.randrange(KEYS)
        value = b"%s.%d" % (self._name.encode(), self._number)
        kind = draw.random()
        payload = b"get " + key if kind < 0.3 else (b"set " if kind < 0.5 else b"append ") + key + b" " + value
        if self.is_to_kill:
            self.is_to_kill = False
            payload = b"set " + key + b" " + value
            self._history.lethal.add(payload)
            self._history.is_bound_exceeded = True
        self._operation = Operation(self._client, self._number, payload, self._world.now_us)
        self._history.operations.append(self._operation)
        self._send()
        if draw.random() < 0.03:
            self._send()  # a client that repeats itself at once

    def _send(self) -> None:
        operation = self._operation
        if operation is None or self._client is None:
            return
        self._attempt += 1
        attempt = self._attempt
        server = self._server()
        submission = Submission(self._client, operation.number, operation.payload)
        self._world.after(self._world.random.randrange(50, 300), lambda: server.submit(self, submission))
        self._world.after(PATIENCE_US, lambda: self._maybe_repeat(attempt))

    def _maybe_repeat(self, attempt: int) -> None:
        if self._operation is not None and attempt == self._attempt:
            self._send()

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        """A reply came, perhaps for the second time."""
        operation = self._operation
        if operation is None or number != operation.number:
            return
        if outcome is Outcome.UNAVAILABLE:
            self._world.after(20_000, self._send)
            return
        if outcome is Outcome.SKIPPED and self._history.lethal:
            operation.is_skipped = True
            self._finish()
            return
        if outcome is Outcome.REPLY_LOST and self._history.events["cell_restarted"]:
            operation.is_lost = True
            self._finish()
            return
        assert outcome is Outcome.ANSWERED, f"client {self._name}: request {number} ended as {outcome.name}"
        operation.replied_us, operation.reply = self._world.now_us, reply
        self._finish()

    def _finish(self) -> None:
        self._operation = None
        self._world.after(self._world.random.randrange(0, self._think_us), self._next)
