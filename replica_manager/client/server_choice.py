"""Which server to talk to: the one that was good so far, and another one when it is not.  Pure.

All servers are kept connected, so that a failover costs no connection.  Lost ones are tried again with growing,
random pauses: many clients of a dead server do not come back in step.
"""

import random
from collections.abc import Iterator
from enum import Enum

from replica_manager.client.failover_values import Action, Connect, FailoverSettings, HangUp, Noted


class Line(Enum):
    """State of the connection to a server."""

    DOWN = 0
    CONNECTING = 1
    UP = 2


class _Server:
    """What is known of one server."""

    __slots__ = ("asked_ms", "blamed_ms", "due_ms", "failures", "line")

    def __init__(self, now_ms: float) -> None:
        self.line = Line.DOWN
        self.due_ms = now_ms
        """`DOWN`: when to connect; `CONNECTING`: when that has failed."""
        self.failures = 0
        """Connections in a row that failed or ended before any message."""
        self.asked_ms: float | None = None
        """When it was asked the oldest thing since it last said something."""
        self.blamed_ms = float("-inf")
        """When it last let a request down."""


class ServerChoice:
    """The servers of a cell as one client sees them."""

    def __init__(self, count: int, settings: FailoverSettings, generator: random.Random, now_ms: float) -> None:
        """Know `count` servers, none connected yet; clients begin with different ones."""
        self._settings = settings
        self._generator = generator
        self._servers = [_Server(now_ms) for _ in range(count)]
        self._preferred = generator.randrange(count)

    # -- choosing ----------------------------------------------------------------------------------------------

    @property
    def preferred(self) -> int:
        """The server that is used as long as it is good."""
        return self._preferred

    def pick(self, avoid: int | None = None) -> int | None:
        """Return a connected server, another one than `avoid` if there is one; `None`: none is connected."""
        up = [number for number, server in enumerate(self._servers) if server.line is Line.UP]
        if self._preferred in up and self._preferred != avoid:
            return self._preferred
        others = [number for number in up if number != avoid] or up
        if not others:
            return None
        # Whom nobody had to blame for the longest time; equals in the order after the preferred one.
        count = len(self._servers)
        return min(others, key=lambda one: (self._servers[one].blamed_ms, (one - self._preferred) % count))

    def settle(self) -> Iterator[Action]:
        """Prefer a connected server from now on, if the preferred one is not."""
        if self._servers[self._preferred].line is not Line.UP and (other := self.pick()) is not None:
            yield from self._move(other)

    def blame(self, number: int, now_ms: float) -> Iterator[Action]:
        """Server `number` let a request down: prefer another one, if there is one."""
        self._servers[number].blamed_ms = now_ms
        if number == self._preferred and (other := self.pick(avoid=number)) not in (None, number):
            assert other is not None
            yield from self._move(other)

    def _move(self, other: int) -> Iterator[Action]:
        former, self._preferred = self._preferred, other
        yield Noted("moved", other, f"instead of server {former}")

    def is_up(self, number: int) -> bool:
        """Whether a server is connected."""
        return self._servers[number].line is Line.UP

    def is_connecting(self, number: int) -> bool:
        """Whether a connection to it is being opened."""
        return self._servers[number].line is Line.CONNECTING

    # -- what happens to connections ---------------------------------------------------------------------------

    def note_connected(self, number: int) -> Iterator[Action]:
        """The connection is open."""
        server = self._servers[number]
        server.line, server.asked_ms = Line.UP, None
        yield Noted("connected", number, "")
        yield from self.settle()

    def note_asked(self, number: int, now_ms: float) -> None:
        """Something was sent that it has to answer."""
        server = self._servers[number]
        server.asked_ms = now_ms if server.asked_ms is None else server.asked_ms

    def note_heard(self, number: int) -> None:
        """The server said something that keeps the rules."""
        server = self._servers[number]
        server.asked_ms, server.failures = None, 0

    def is_silent(self, number: int, now_ms: float) -> bool:
        """Whether it was asked so long ago, and has said nothing since, that its connection may be dead."""
        asked_ms = self._servers[number].asked_ms
        return asked_ms is not None and now_ms - asked_ms >= self._settings.hangup_ms

    def note_lost(self, number: int, now_ms: float) -> Iterator[Action]:
        """The connection ended, or could not be opened."""
        server = self._servers[number]
        server.line, server.blamed_ms = Line.DOWN, now_ms
        server.due_ms = now_ms + self.pause_ms(server.failures)
        server.failures += 1
        yield from self.settle()

    def pause_ms(self, failures: int) -> float:
        """Return a random pause that doubles with every failure, up to its bound."""
        longest = min(self._settings.backoff_ms_max, self._settings.backoff_ms << min(failures, 20))
        return self._generator.uniform(longest / 2, longest)

    # -- time --------------------------------------------------------------------------------------------------

    @property
    def due_ms(self) -> float:
        """When `on_timer` has something to do."""
        return min((one.due_ms for one in self._servers if one.line is not Line.UP), default=float("inf"))

    def on_timer(self, now_ms: float) -> Iterator[Action]:
        """Connect to what is due; give up what takes too long."""
        for number, server in enumerate(self._servers):
            if server.line is Line.UP or server.due_ms > now_ms:
                continue
            if server.line is Line.CONNECTING:
                yield HangUp(number)
                yield Noted("unreachable", number, f"no connection in {self._settings.connect_ms} ms")
                yield from self.note_lost(number, now_ms)
            else:
                server.line, server.due_ms = Line.CONNECTING, now_ms + self._settings.connect_ms
                yield Connect(number)
