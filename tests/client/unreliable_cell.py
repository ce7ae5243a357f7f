"""A cell as a failing-over client may meet it: the real client table behind connections that lose, delay and refuse."""

from collections import Counter

from replica_manager.cell.client_table import ClientTable
from replica_manager.client.failover_core import FailoverCore
from replica_manager.client.failover_values import Action, Connect, Decided, HangUp, Noted, Opened, Send
from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId
from replica_manager.intake.framed_messages import ClientOpened, OpenClient, Reply, ToClient, ToServer
from replica_manager.intake.port import Outcome

SURELY_NOT_EXECUTED = {Outcome.UNAVAILABLE, Outcome.UNKNOWN_CLIENT, Outcome.SUPERSEDED}
TABLE_ENTRIES_MAX = 1000


class UnreliableServer:
    """One server's connection, and what is on its way."""

    def __init__(self) -> None:
        """Not connected."""
        self.is_wanted = False
        """The client waits for the connection."""
        self.is_open = False
        self.connection = 0
        self.arriving: list[tuple[int, ToServer]] = []
        """What the server may still read, each with its connection; it may outlive that."""
        self.leaving: list[ToClient] = []
        """What the client may still read, in order."""


class UnreliableCell:
    """Carries a core's actions out, and checks each against what really happened."""

    def __init__(self, core: FailoverCore, server_count: int) -> None:
        """Watch `core`."""
        self.core = core
        self.now_ms = 0.0
        self.servers = [UnreliableServer() for _ in range(server_count)]
        self.table = ClientTable(TABLE_ENTRIES_MAX)
        self.sequence = 0
        self.executed: Counter[bytes] = Counter()
        self.payloads: dict[tuple[ClientId, int], bytes] = {}
        self.open_numbers: dict[ClientId, int] = {}
        self.open_tokens: set[int] = set()
        self.clients: list[ClientId] = []
        self.refused: set[bytes] = set()
        """Payloads whose clients were told "surely not executed"."""
        self.decided: list[Decided] = []
        self.notes: list[Noted] = []
        self.next_token = 1
        self.carry_out()

    # -- the caller --------------------------------------------------------------------------------------------

    def open_client(self) -> None:
        """Ask for an id."""
        self.open_tokens.add(self.next_token)
        self.core.open_client(self.next_token, self.now_ms)
        self.next_token += 1
        self.carry_out()

    def idle_clients(self) -> list[ClientId]:
        """Return the ids that may be used for a request."""
        return [client for client in self.clients if client not in self.open_numbers]

    def submit(self, client: ClientId) -> None:
        """Send a request that no other one equals."""
        payload = b"payload %d" % len(self.payloads)
        number = self.core.submit(client, payload, self.now_ms)
        assert (client, number) not in self.payloads, "a number is used once"
        self.payloads[client, number] = payload
        self.open_numbers[client] = number
        self.carry_out()

    # -- connections -------------------------------------------------------------------------------------------

    def connect(self, number: int) -> None:
        """The connection that the client waits for is open."""
        server = self.servers[number]
        server.is_wanted, server.is_open = False, True
        assert self.core.on_connected(number, self.now_ms)
        self.carry_out()

    def lose(self, number: int) -> None:
        """The connection, or the attempt to make one, ends; the server may have read what was sent."""
        self._cut(number)
        self.core.on_lost(number, "planned", self.now_ms)
        self.carry_out()

    def _cut(self, number: int) -> None:
        server = self.servers[number]
        server.is_wanted = server.is_open = False
        server.connection += 1
        server.leaving.clear()

    # -- the servers -------------------------------------------------------------------------------------------

    def process(self, number: int, *, is_kept: bool = True) -> None:
        """A server reads the next message, and the cell orders and executes what it asks for."""
        server = self.servers[number]
        connection, message = server.arriving.pop(0)
        answer = self._order(message, is_kept=is_kept)
        if server.is_open and connection == server.connection:
            server.leaving.append(answer)

    def refuse(self, number: int) -> None:
        """A server reads the next message and has no room for it."""
        server = self.servers[number]
        connection, message = server.arriving.pop(0)
        if not server.is_open or connection != server.connection:
            return
        if isinstance(message, OpenClient):
            server.leaving.append(ClientOpened(message.token, b""))
        else:
            server.leaving.append(Reply(message.client, message.number, Outcome.UNAVAILABLE, b""))

    def swallow(self, number: int) -> None:
        """A server dies with a message, or hangs for ever."""
        self.servers[number].arriving.pop(0)

    def forget_client(self) -> None:
        """The cell evicts the client that was silent longest."""
        self.table.load(b"".join(list(self.table.rows())[1:]))

    def _order(self, message: ToServer, *, is_kept: bool) -> ToClient:
        self.sequence += 1
        if isinstance(message, OpenClient):
            client = ClientId(self.sequence.to_bytes(CLIENT_ID_BYTES))
            self.table.open(client, self.sequence)
            return ClientOpened(message.token, client)
        verdict = self.table.judge(ClientId(message.client), message.number, message.payload, self.sequence)
        outcome = Outcome.ANSWERED
        if verdict.is_new:
            self.executed[message.payload] += 1
        elif verdict.is_unknown:
            outcome = Outcome.UNKNOWN_CLIENT
        elif verdict.is_superseded:
            outcome = Outcome.SUPERSEDED
        elif not is_kept:
            outcome = Outcome.REPLY_LOST
        reply = b"reply to " + message.payload if outcome is Outcome.ANSWERED else b""
        return Reply(message.client, message.number, outcome, reply)

    def deliver(self, number: int, *, is_repeated: bool = False) -> None:
        """The client reads the next answer; a fact may come twice, from attempts that were joined or not."""
        message = self.servers[number].leaving[0]
        is_fact = isinstance(message, Reply) and message.outcome == Outcome.ANSWERED
        if not (is_repeated and is_fact):
            self.servers[number].leaving.pop(0)
        self.core.on_message(number, message, self.now_ms)
        self.carry_out()

    # -- time --------------------------------------------------------------------------------------------------

    def advance(self, ms: float) -> None:
        """Let time pass, from timer to timer."""
        end_ms = self.now_ms + ms
        while self.core.next_timer_ms <= end_ms:
            self.now_ms = max(self.now_ms, self.core.next_timer_ms)
            self.core.on_timer(self.now_ms)
            self.carry_out()
        self.now_ms = end_ms

    def heal_for(self, ms: float) -> None:
        """From now on everything works."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms and self.core.open_count:
            for number, server in enumerate(self.servers):
                if server.is_wanted:
                    self.connect(number)
                while server.arriving:
                    self.process(number)
                while server.leaving:
                    self.deliver(number)
            self.advance(10)

    # -- what the core wants -----------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Do what the core wants done; check it."""
        for action in self.core.take_output():
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Connect(number):
                assert not self.servers[number].is_open
                assert not self.servers[number].is_wanted
                self.servers[number].is_wanted = True
            case HangUp(number):
                assert self.servers[number].is_open or self.servers[number].is_wanted
                self._cut(number)
            case Send(number, message):
                self._check_sent(message)
                assert self.servers[number].is_open
                self.servers[number].arriving.append((self.servers[number].connection, message))
            case Opened(token, client):
                self.open_tokens.remove(token)
                if client is not None:
                    assert client not in self.clients
                    self.clients.append(client)
            case Decided():
                self._check_decided(action)
            case Noted():
                self.notes.append(action)

    def _check_sent(self, message: ToServer) -> None:
        if isinstance(message, OpenClient):
            assert message.token in self.open_tokens
            return
        client = ClientId(message.client)
        assert message.number == self.open_numbers[client], "one number at a time"
        assert message.payload == self.payloads[client, message.number], "a number keeps its payload"

    def _check_decided(self, decided: Decided) -> None:
        assert self.open_numbers.pop(decided.client) == decided.number, "exactly one answer per request"
        payload = self.payloads[decided.client, decided.number]
        self.decided.append(decided)
        if decided.outcome in (Outcome.ANSWERED, Outcome.REPLY_LOST):
            assert self.executed[payload] == 1
        elif decided.outcome in SURELY_NOT_EXECUTED:
            self.refused.add(payload)
        assert decided.outcome is not Outcome.SUPERSEDED, "its numbers rise"
        assert decided.reply == (b"reply to " + payload if decided.outcome is Outcome.ANSWERED else b"")
        if decided.outcome is Outcome.UNKNOWN_CLIENT:
            self.core.retire(decided.client)
            self.clients.remove(decided.client)

    def check(self) -> None:
        """What holds at any time."""
        assert all(count == 1 for count in self.executed.values()), "executed twice"
        assert not any(self.executed[payload] for payload in self.refused), "executed, and its client was told: not"
        assert self.core.open_count == len(self.open_numbers) + len(self.open_tokens)
