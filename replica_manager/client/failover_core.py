"""Repeats requests safely until a server of the cell has answered: events in, actions out, time as an argument.  Pure.

A request keeps its client id, number and payload over all attempts; the cell's client table sees to it that it is
executed once.  What is told to the caller is exact: a refusal means "surely not executed" only while no earlier
attempt may have been taken by a server, otherwise the outcome is `UNDECIDED`.  A numbered list of what that needs:

1. An attempt whose connection broke, or that was given up for another server, may have been taken, for ever.
2. An attempt that was answered `UNAVAILABLE` was not, if it was the only one on its way; the next one is as the first.
3. `ANSWERED`, `SKIPPED` and `REPLY_LOST` are facts of the agreed order: it does not matter which attempt brings them.
4. Any other refusal counts only from the server that has the latest attempt: one that is late says nothing of the rest.

After `UNDECIDED` the id's next number may be submitted.  It fences the former one off: once it is recorded, the cell
refuses the lower number, so a request whose client has been told "unknown" is not executed behind its successor.

Source: design "Client table", "Server crash, leave, join".
"""

import heapq
import random

from replica_manager.client.failover_values import (
    Action,
    Decided,
    FailoverSettings,
    HangUp,
    Noted,
    Opened,
    Send,
)
from replica_manager.client.server_choice import ServerChoice
from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId
from replica_manager.intake.framed_messages import ClientOpened, OpenClient, Reply, Request, ToClient
from replica_manager.intake.port import Outcome

_FACTS = frozenset((Outcome.ANSWERED, Outcome.SKIPPED, Outcome.REPLY_LOST))
_OUTCOMES = frozenset(Outcome) - {Outcome.UNDECIDED}
"""What a server may say."""
_ATTEMPT_JITTER = 0.25

_Key = ClientId | int
"""Of a request: its client, who has one at a time; of an opening: its token."""


class _Errand:
    """A request or an opening that is not decided."""

    __slots__ = ("attempts", "deadline_ms", "due_ms", "key", "may_be_taken", "message", "payload_bytes", "server")

    def __init__(self, key: _Key, message: OpenClient | Request, payload_bytes: int, deadline_ms: float) -> None:
        self.key = key
        self.message = message
        self.payload_bytes = payload_bytes
        self.deadline_ms = deadline_ms
        self.attempts = 0
        self.server: int | None = None
        """Where the latest attempt is on its way; `None`: it waits for its time, or for a server."""
        self.may_be_taken = False
        """Whether an attempt before the latest one may have been taken by its server."""
        self.due_ms = deadline_ms
        """When something has to be done about it."""


class FailoverCore:
    """All requests of one process to one cell."""

    def __init__(self, server_count: int, settings: FailoverSettings, generator: random.Random, now_ms: float) -> None:
        """Talk to servers 0 to `server_count` - 1; the first `on_timer` connects."""
        self._settings = settings
        self._generator = generator
        self._choice = ServerChoice(server_count, settings, generator, now_ms)
        self._errands: dict[_Key, _Errand] = {}
        self._parked: dict[_Key, None] = {}
        """Errands that wait for any server, oldest first."""
        self._numbers: dict[ClientId, int] = {}
        self._timers: list[tuple[float, int, _Key]] = []
        """A heap of times, with a counter that keeps keys from being compared; an entry is stale unless its errand is
        due at exactly this time."""
        self._timer_count = 0
        self._output: list[Action] = []
        self._payload_bytes = 0
        self.repeated = 0
        """Attempts after the first one."""

    @property
    def open_count(self) -> int:
        """Requests and openings that are not decided."""
        return len(self._errands)

    @property
    def client_count(self) -> int:
        """Client ids in use."""
        return len(self._numbers)

    def has_open_request(self, client: ClientId) -> bool:
        """Whether a request of this id is not decided."""
        return client in self._errands

    def take_output(self) -> list[Action]:
        """Return what is to be done, in this order, and forget it."""
        output, self._output = self._output, []
        return output

    # -- the caller's side -------------------------------------------------------------------------------------

    def open_client(self, token: int, now_ms: float) -> None:
        """Ask for a client id; `Opened(token, …)` follows.

        Args:
            token: any number that is never used again.
            now_ms: monotonic time.
        """
        assert token not in self._errands, "a token is used once"
        if self._is_full(0):
            self._output.append(Opened(token, None))
            return
        self._begin(_Errand(token, OpenClient(token), 0, now_ms + self._settings.deadline_ms), now_ms)

    def submit(self, client: ClientId, payload: bytes, now_ms: float) -> int:
        """Send the next request of `client`; return its number.  `Decided(client, number, …)` follows.

        The id is one that `Opened` has given; its former request is decided.
        """
        assert client in self._numbers, "the id was not opened here, or is retired"
        assert client not in self._errands, "a client has one request at a time"
        number = self._numbers[client] = self._numbers[client] + 1
        if self._is_full(len(payload)):
            self._output.append(Decided(client, number, Outcome.UNAVAILABLE, b""))
            return number
        message = Request(client, number, payload)
        self._begin(_Errand(client, message, len(payload), now_ms + self._settings.deadline_ms), now_ms)
        return number

    def retire(self, client: ClientId) -> None:
        """The caller uses the id no more; its last request is decided."""
        assert client not in self._errands, "its request is under way"
        del self._numbers[client]

    def _is_full(self, payload_bytes: int) -> bool:
        is_over_bytes = self._payload_bytes + payload_bytes > self._settings.open_bytes_max
        return is_over_bytes or len(self._errands) >= self._settings.open_requests_max

    def _begin(self, errand: _Errand, now_ms: float) -> None:
        self._errands[errand.key] = errand
        self._payload_bytes += errand.payload_bytes
        self._attempt(errand, None, now_ms)

    # -- connections -------------------------------------------------------------------------------------------

    def on_connected(self, server: int, now_ms: float) -> bool:
        """The connection that `Connect` asked for is open; return whether it is still wanted."""
        if not self._choice.is_connecting(server):
            return False
        self._output.extend(self._choice.note_connected(server))
        parked = [self._errands[key] for key in self._parked]
        self._parked.clear()
        self._repeat_spread(parked, now_ms)
        return True

    def on_lost(self, server: int, reason: str, now_ms: float) -> None:
        """The connection has ended, or could not be opened."""
        if self._choice.is_up(server) or self._choice.is_connecting(server):
            kind = "lost" if self._choice.is_up(server) else "unreachable"
            self._lose(server, kind, reason, now_ms)

    def _lose(self, server: int, kind: str, reason: str, now_ms: float) -> None:
        self._output.append(Noted(kind, server, reason))
        self._output.extend(self._choice.note_lost(server, now_ms))
        stranded = [errand for errand in self._errands.values() if errand.server == server]
        for errand in stranded:
            errand.server, errand.may_be_taken = None, True
        self._repeat_spread(stranded, now_ms)

    def _hang_up(self, server: int, kind: str, reason: str, now_ms: float) -> None:
        self._output.append(HangUp(server))
        self._lose(server, kind, reason, now_ms)

    def _repeat_spread(self, errands: list[_Errand], now_ms: float) -> None:
        """Attempt each of them again, but not all in one moment."""
        settings = self._settings
        spread_ms = settings.spread_ms + settings.spread_ms_per_request * len(errands)
        for errand in errands:
            self._wait_until(errand, now_ms + self._generator.uniform(0, spread_ms))

    # -- attempts ----------------------------------------------------------------------------------------------

    def _attempt(self, errand: _Errand, avoid: int | None, now_ms: float) -> None:
        """Send it to a connected server, another one than `avoid` if possible; without any, wait for one."""
        server = self._choice.pick(avoid)
        if server is None:
            self._parked[errand.key] = None
            self._wait_until(errand, errand.deadline_ms)
            return
        if errand.attempts >= self._settings.attempts_max:
            self._give_up(errand)
            return
        self.repeated += errand.attempts > 0
        errand.attempts += 1
        errand.server = server
        self._choice.note_asked(server, now_ms)
        self._output.append(Send(server, errand.message))
        self._wait_until(errand, now_ms + self._patience_ms(errand.attempts))

    def _patience_ms(self, attempts: int) -> float:
        settings = self._settings
        longest = min(settings.attempt_ms_max, settings.attempt_ms << min(attempts - 1, 20))
        return longest * self._generator.uniform(1 - _ATTEMPT_JITTER, 1 + _ATTEMPT_JITTER)

    def _wait_until(self, errand: _Errand, time_ms: float) -> None:
        errand.due_ms = min(time_ms, errand.deadline_ms)
        self._timer_count += 1
        heapq.heappush(self._timers, (errand.due_ms, self._timer_count, errand.key))

    def _on_silence(self, errand: _Errand, server: int, now_ms: float) -> None:
        """No answer in time: repeat it elsewhere, or go on waiting if there is no elsewhere."""
        if self._choice.is_silent(server, now_ms):
            self._hang_up(server, "silent", f"nothing heard for {self._settings.hangup_ms} ms", now_ms)
            return
        self._output.extend(self._choice.blame(server, now_ms))
        if self._choice.pick(avoid=server) == server:
            # Sent again on the same connection it would only queue behind itself.
            self._wait_until(errand, now_ms + self._settings.attempt_ms)
            return
        errand.may_be_taken = True
        self._attempt(errand, server, now_ms)

    def _on_unavailable(self, errand: _Errand, server: int, now_ms: float) -> None:
        """This attempt was surely not taken: try another server after a pause."""
        self._output.append(Noted("refused", server, "unavailable"))
        self._output.extend(self._choice.blame(server, now_ms))
        errand.server = None
        self._wait_until(errand, now_ms + self._choice.pause_ms(errand.attempts - 1))

    def _give_up(self, errand: _Errand) -> None:
        is_unsure = errand.may_be_taken or errand.server is not None
        self._finish(errand, Outcome.UNDECIDED if is_unsure else Outcome.UNAVAILABLE)

    def _finish(self, errand: _Errand, outcome: Outcome, reply: bytes = b"") -> None:
        del self._errands[errand.key]
        self._parked.pop(errand.key, None)
        self._payload_bytes -= errand.payload_bytes
        message = errand.message
        if isinstance(message, OpenClient):
            self._output.append(Opened(message.token, ClientId(reply) if reply else None))
        else:
            self._output.append(Decided(ClientId(message.client), message.number, outcome, reply))

    # -- answers -----------------------------------------------------------------------------------------------

    def on_message(self, server: int, message: ToClient, now_ms: float) -> None:
        """A server said something over its open connection."""
        if not self._choice.is_up(server):
            return
        if isinstance(message, ClientOpened):
            fault = self._on_opened(server, message, now_ms)
        else:
            fault = self._on_reply(server, message, now_ms)
        if fault:
            self.on_misbehaviour(server, fault, now_ms)
        else:
            self._choice.note_heard(server)

    def on_misbehaviour(self, server: int, reason: str, now_ms: float) -> None:
        """What a server sent is no message of the protocol: end its connection."""
        if self._choice.is_up(server):
            self._hang_up(server, "misbehaved", reason, now_ms)

    def _on_opened(self, server: int, message: ClientOpened, now_ms: float) -> str:
        """Return what is wrong with the message, or an empty text."""
        errand = self._errands.get(message.token)
        if errand is None:
            return ""  # of an attempt that was given up; the id stays unused
        if not message.client:
            if errand.server == server:
                self._on_unavailable(errand, server, now_ms)
            return ""
        if len(message.client) != CLIENT_ID_BYTES or message.client in self._numbers:
            return "a client id that is none, or is in use"
        self._numbers[ClientId(message.client)] = 0
        self._finish(errand, Outcome.ANSWERED, message.client)
        return ""

    def _on_reply(self, server: int, message: Reply, now_ms: float) -> str:
        """Return what is wrong with the message, or an empty text."""
        if message.outcome not in _OUTCOMES:
            return f"outcome {message.outcome} is unknown"
        errand = self._errands.get(ClientId(message.client))
        if errand is None or not isinstance(errand.message, Request) or errand.message.number != message.number:
            return ""  # of an attempt that was given up
        outcome = Outcome(message.outcome)
        if outcome in _FACTS:
            self._finish(errand, outcome, message.payload if outcome is Outcome.ANSWERED else b"")
        elif errand.server == server:
            if outcome is Outcome.UNAVAILABLE:
                self._on_unavailable(errand, server, now_ms)
            else:
                self._finish(errand, Outcome.UNDECIDED if errand.may_be_taken else outcome)
        return ""

    # -- time --------------------------------------------------------------------------------------------------

    @property
    def next_timer_ms(self) -> float:
        """When `on_timer` should be called next; it may be called at any time."""
        return min(self._choice.due_ms, self._timers[0][0] if self._timers else float("inf"))

    def on_timer(self, now_ms: float) -> None:
        """Do what has become due."""
        while self._timers and self._timers[0][0] <= now_ms:
            due_ms, _, key = heapq.heappop(self._timers)
            errand = self._errands.get(key)
            if errand is not None and errand.due_ms == due_ms:
                self._on_due(errand, now_ms)
        self._output.extend(self._choice.on_timer(now_ms))

    def _on_due(self, errand: _Errand, now_ms: float) -> None:
        if now_ms >= errand.deadline_ms:
            self._give_up(errand)
        elif errand.server is not None:
            self._on_silence(errand, errand.server, now_ms)
        else:
            self._attempt(errand, None, now_ms)
