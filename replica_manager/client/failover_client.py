"""A client of a cell that fails over, for asyncio programs: the shell around `FailoverCore`.

Example:
    async with FailoverClient(addresses) as cell:
        session = await cell.open_session()
        outcome, reply = await session.request(b"…")
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from replica_manager.client.errors import CellUnreachable, ClientClosed, SessionBusy
from replica_manager.client.failover_core import FailoverCore
from replica_manager.client.failover_values import (
    Connect,
    Decided,
    FailoverSettings,
    HangUp,
    Noted,
    Opened,
    Send,
)
from replica_manager.client.server_line import ServerLine
from replica_manager.config_addresses import Address
from replica_manager.identifiers import ClientId
from replica_manager.intake.framed_messages import ToClient, ToServer
from replica_manager.intake.port import Outcome

ResultT = TypeVar("ResultT")
OnOpened = Callable[[ClientId | None], None]
OnDecided = Callable[[Outcome, bytes], None]


def monotonic_ms() -> float:
    """Return the monotonic clock in milliseconds."""
    return time.monotonic() * 1000


class FailoverClient:
    """Connections to all servers of a cell, and the requests under way."""

    def __init__(
        self,
        addresses: Sequence[Address],
        settings: FailoverSettings | None = None,
        *,
        generator: random.Random | None = None,
        on_note: Callable[[Noted], None] = lambda note: None,
    ) -> None:
        """Make a client; `open` (or `async with`) starts it.

        Args:
            addresses: where framed clients connect, one per server.
            settings: times and bounds.
            generator: draws pauses; clients must not share a seed.
            on_note: hears what happens to servers.
        """
        self._addresses = list(addresses)
        self._on_note = on_note
        self.core = FailoverCore(
            len(self._addresses), settings or FailoverSettings(), generator or random.Random(), monotonic_ms()
        )
        self._lines: dict[int, ServerLine] = {}
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._opening: dict[int, OnOpened] = {}
        self._deciding: dict[ClientId, OnDecided] = {}
        self._waiting: set[asyncio.Future[Any]] = set()
        self._next_token = 1
        self._timer: asyncio.TimerHandle | None = None
        self._pump_handle: asyncio.Handle | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Start."""
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def open(self) -> None:
        """Begin to connect; requests may be submitted at once and wait for a server."""
        self._loop = asyncio.get_running_loop()
        self._on_timer()

    async def close(self) -> None:
        """End all connections; who waits gets `ClientClosed`, callbacks are never called."""
        self._is_closed = True
        for handle in (self._timer, self._pump_handle):
            if handle is not None:
                handle.cancel()
        for line in self._lines.values():
            line.hang_up()
        tasks = list(self._connecting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in self._waiting:
            if not future.done():
                future.set_exception(ClientClosed("the client was closed; the outcome of the request is unknown"))

    # -- for programs with callbacks ---------------------------------------------------------------------------

    def open_client(self, on_opened: OnOpened) -> None:
        """Ask for a client id; `on_opened` gets it, or `None` if the cell issued none in time."""
        token = self._next_token
        self._next_token += 1
        self._opening[token] = on_opened
        self.core.open_client(token, monotonic_ms())
        self._touch()

    def submit(self, client: ClientId, payload: bytes, on_decided: OnDecided) -> int:
        """Send the next request of an id whose former one is decided; return its number.

        `on_decided` gets outcome and reply, exactly once and never before this returns.
        """
        number = self.core.submit(client, payload, monotonic_ms())
        self._deciding[client] = on_decided
        self._touch()
        return number

    def retire(self, client: ClientId) -> None:
        """Use an id no more; its last request is decided."""
        self.core.retire(client)

    # -- for programs with coroutines --------------------------------------------------------------------------

    async def open_session(self) -> "ClientSession":
        """Return a session with a client id of its own.

        Raises:
            CellUnreachable: no server issued one before the deadline.
            ClientClosed: the client was closed meanwhile.
        """
        future: asyncio.Future[ClientId | None] = self._loop.create_future()
        self.open_client(lambda client: _give(future, client))
        client = await self._awaited(future)
        if client is None:
            raise CellUnreachable("no server of the cell issued a client id in time")
        return ClientSession(self, client)

    async def decision(self, client: ClientId, payload: bytes) -> tuple[Outcome, bytes]:
        """Submit, and return outcome and reply; see `ClientSession.request`.

        Raises:
            ClientClosed: the client was closed meanwhile.
        """
        future: asyncio.Future[tuple[Outcome, bytes]] = self._loop.create_future()
        self.submit(client, payload, lambda outcome, reply: _give(future, (outcome, reply)))
        return await self._awaited(future)

    async def _awaited(self, future: "asyncio.Future[ResultT]") -> ResultT:
        self._waiting.add(future)
        try:
            return await future
        finally:
            self._waiting.discard(future)

    # -- doing what the core wants -----------------------------------------------------------------------------

    def _touch(self) -> None:
        if self._pump_handle is None and not self._is_closed:
            self._pump_handle = self._loop.call_soon(self._pump)

    def _on_timer(self) -> None:
        self._timer = None
        self.core.on_timer(monotonic_ms())
        self._touch()

    def _pump(self) -> None:
        self._pump_handle = None
        for action in self.core.take_output():
            match action:
                case Send(server, message):
                    self._send(server, message)
                case Decided(client, _, outcome, reply):
                    self._deciding.pop(client)(outcome, reply)
                case Opened(token, client):
                    self._opening.pop(token)(client)
                case Connect(server):
                    self._connecting[server] = self._loop.create_task(self._connect(server))
                case HangUp(server):
                    self._hang_up(server)
                case Noted():
                    self._on_note(action)
        self._arm()

    def _send(self, server: int, message: ToServer) -> None:
        line = self._lines.get(server)
        # None: it has ended since; the core knows by now and has counted the attempt as one that may have been taken.
        if line is not None:
            line.send(message)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self.core.next_timer_ms
        if due_ms != float("inf") and not self._is_closed:
            self._timer = self._loop.call_at(
                self._loop.time() + max(0.0, due_ms - monotonic_ms()) / 1000, self._on_timer
            )

    async def _connect(self, server: int) -> None:
        line = ServerLine(
            on_message=lambda message: self._on_message(server, message),
            on_garbage=lambda reason: self._on_garbage(server, reason),
            on_end=lambda reason: self._on_end(server, line, reason),
        )
        try:
            await self._loop.create_connection(lambda: line, *self._addresses[server])
        except OSError as error:
            self._forget_task(server)
            self.core.on_lost(server, error.strerror or str(error), monotonic_ms())
            self._touch()
        except asyncio.CancelledError:
            line.hang_up()
            raise
        else:
            self._forget_task(server)
            self._keep(server, line)

    def _forget_task(self, server: int) -> None:
        if self._connecting.get(server) is asyncio.current_task():
            del self._connecting[server]

    def _keep(self, server: int, line: ServerLine) -> None:
        if not self.core.on_connected(server, monotonic_ms()):
            line.hang_up()
            return
        self._lines[server] = line
        if line.has_ended:
            # Accepted and dropped before this task went on.
            self._on_end(server, line, "the server closed the connection")
        self._touch()

    def _hang_up(self, server: int) -> None:
        task = self._connecting.pop(server, None)
        if task is not None:
            task.cancel()
        line = self._lines.pop(server, None)
        if line is not None:
            line.hang_up()

    def _on_message(self, server: int, message: ToClient) -> None:
        self.core.on_message(server, message, monotonic_ms())
        self._touch()

    def _on_garbage(self, server: int, reason: str) -> None:
        self.core.on_misbehaviour(server, reason, monotonic_ms())
        self._touch()

    def _on_end(self, server: int, line: ServerLine, reason: str) -> None:
        if self._lines.get(server) is not line:
            return
        del self._lines[server]
        self.core.on_lost(server, reason, monotonic_ms())
        self._touch()


class ClientSession:
    """One client id: one request at a time, each executed at most once however often it is repeated."""

    def __init__(self, client: FailoverClient, client_id: ClientId) -> None:
        """Use `FailoverClient.open_session` instead."""
        self._client = client
        self.client_id = client_id

    async def request(self, payload: bytes) -> tuple[Outcome, bytes]:
        """Return what became of a request, and the stable reply.

        `UNKNOWN_CLIENT` ends the session: open another one.  After `UNDECIDED` the next request fences this one off.
        When the awaiting task is cancelled the request goes on, and the session stays busy until it is decided.

        Raises:
            SessionBusy: the former request is not decided.
            ClientClosed: the client was closed meanwhile.
        """
        if self._client.core.has_open_request(self.client_id):
            raise SessionBusy("the session's former request is not decided yet")
        return await self._client.decision(self.client_id, payload)


def _give(future: "asyncio.Future[ResultT]", result: ResultT) -> None:
    if not future.done():
        future.set_result(result)
