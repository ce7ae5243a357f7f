"""Client ids of the proxy: one per connection at a time, used again, never two requests of one at once."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from replica_manager.client import proxy_port
from replica_manager.client.proxy_port import ProxyPort
from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId
from replica_manager.intake.port import Outcome, Submission


class Sender:
    """A `RequestSender` that answers when it is told to."""

    def __init__(self) -> None:
        self.issued = 0
        self.retired: set[ClientId] = set()
        self.opening: list[Callable[[ClientId | None], None]] = []
        self.deciding: dict[ClientId, Callable[[Outcome, bytes], None]] = {}

    def open_client(self, on_opened: Callable[[ClientId | None], None]) -> None:
        self.opening.append(on_opened)

    def submit(self, client: ClientId, payload: bytes, on_decided: Callable[[Outcome, bytes], None]) -> int:
        assert client not in self.deciding, "one request at a time"
        assert client not in self.retired
        self.deciding[client] = on_decided
        return 1

    def retire(self, client: ClientId) -> None:
        assert client not in self.deciding
        assert client not in self.retired
        self.retired.add(client)

    def issue(self, *, is_available: bool = True) -> None:
        """Answer the oldest opening."""
        client = ClientId(self.issued.to_bytes(CLIENT_ID_BYTES)) if is_available else None
        self.issued += 1
        self.opening.pop(0)(client)

    def decide(self, client: ClientId, outcome: Outcome) -> None:
        """Answer a request."""
        self.deciding.pop(client)(outcome, b"reply" if outcome is Outcome.ANSWERED else b"")


class Connection:
    """A sink that uses the port as `HttpConnection` does."""

    def __init__(self, port: ProxyPort) -> None:
        self.port = port
        self.client: ClientId | None = None
        self.number = 0
        self.is_asking = self.is_waiting = self.is_gone = False
        self.outcomes: list[Outcome | None] = []

    def ask(self) -> None:
        """Send a request, after an id."""
        if self.client is None:
            self.is_asking = True
            self.port.open_client(self, 0)
        else:
            self.is_waiting = True
            self.number += 1
            self.port.submit(self, Submission(self.client, self.number, b"payload"))

    def client_opened(self, token: int, client: ClientId | None) -> None:
        if self.is_gone:
            return
        assert self.is_asking
        self.is_asking, self.client, self.number = False, client, 0
        if client is None:
            self.outcomes.append(None)
        else:
            self.ask()

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        assert not self.is_gone
        assert self.is_waiting
        assert (client, number) == (self.client, self.number)
        self.is_waiting = False
        if outcome is Outcome.UNKNOWN_CLIENT:
            self.client = None
        self.outcomes.append(outcome)

    def leave(self) -> None:
        """The connection ends."""
        self.is_gone = True
        self.port.forget(self)


class Connections(RuleBasedStateMachine):
    """Connections come, ask and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.sender = Sender()
        self.later: list[Callable[[], None]] = []
        self.port = ProxyPort(self.sender, self.later.append)
        self.connections: list[Connection] = []

    @rule()
    def connect(self) -> None:
        self.connections.append(Connection(self.port))

    @rule(which=st.integers(0, 5))
    def ask(self, which: int) -> None:
        idle = [one for one in self.connections if not (one.is_asking or one.is_waiting)]
        if idle:
            idle[which % len(idle)].ask()

    @precondition(lambda self: self.connections)
    @rule(which=st.integers(0, 5))
    def leave(self, which: int) -> None:
        self.connections.pop(which % len(self.connections)).leave()

    @precondition(lambda self: self.sender.opening)
    @rule(is_available=st.booleans())
    def issue(self, is_available: bool) -> None:
        self.sender.issue(is_available=is_available)

    @precondition(lambda self: self.sender.deciding)
    @rule(which=st.integers(0, 5), outcome=st.sampled_from(Outcome))
    def decide(self, which: int, outcome: Outcome) -> None:
        clients = sorted(self.sender.deciding)
        self.sender.decide(clients[which % len(clients)], outcome)

    @precondition(lambda self: self.later)
    @rule()
    def turn(self) -> None:
        calls, self.later[:] = list(self.later), []
        for call in calls:
            call()

    @invariant()
    def every_id_is_used_by_one_connection(self) -> None:
        used = [one.client for one in self.connections if one.client is not None]
        assert len(set(used)) == len(used)
        assert not set(used) & self.sender.retired

    @invariant()
    def what_is_under_way_is_counted(self) -> None:
        assert self.port.open_count == len(self.sender.deciding) + len(self.sender.opening)


TestConnections = Connections.TestCase


def test_the_id_of_a_connection_that_left_serves_the_next_one() -> None:
    """Without another entry of the agreed order; the newest first."""
    sender, later = Sender(), []
    port = ProxyPort(sender, later.append)
    for _ in range(3):
        connection = Connection(port)
        connection.ask()
        if sender.opening:
            sender.issue()
        for call in later:
            call()
        later.clear()
        assert connection.client is not None
        sender.decide(connection.client, Outcome.ANSWERED)
        connection.leave()
    assert sender.issued == port.opened == 1


def test_an_id_whose_request_is_under_way_is_free_only_afterwards() -> None:
    """Its client hung up; two numbers must not be under way."""
    sender, later = Sender(), []
    port = ProxyPort(sender, later.append)
    first, second = Connection(port), Connection(port)
    first.ask()
    sender.issue()
    first.leave()
    second.ask()
    assert len(sender.opening) == 1
    sender.decide(ClientId(bytes(CLIENT_ID_BYTES)), Outcome.ANSWERED)
    assert first.outcomes == []


def test_idle_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of connections does not hold the cell's client table for ever."""
    monkeypatch.setattr(proxy_port, "IDLE_CLIENTS_MAX", 2)
    sender, later = Sender(), []
    port = ProxyPort(sender, later.append)
    connections = [Connection(port) for _ in range(5)]
    for connection in connections:
        connection.ask()
        sender.issue()
        assert connection.client is not None
        sender.decide(connection.client, Outcome.ANSWERED)
    for connection in connections:
        connection.leave()
    assert len(sender.retired) == 3


def test_after_an_eviction_the_next_id_is_a_new_one() -> None:
    """The idle ones were used earlier still; the listener tries only once more."""
    sender, later = Sender(), []
    port = ProxyPort(sender, later.append)
    connections = [Connection(port) for _ in range(3)]
    for connection in connections:
        connection.ask()
        sender.issue()
        assert connection.client is not None
        sender.decide(connection.client, Outcome.ANSWERED)
    for connection in connections[:2]:
        connection.leave()
    connections[2].ask()
    assert connections[2].client is not None
    sender.decide(connections[2].client, Outcome.UNKNOWN_CLIENT)
    assert len(sender.retired) == 3
    connections[2].ask()
    assert len(sender.opening) == 1
