"""Clients of a cell for programs without an event loop: one connection per server, one request after another."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

from benchmarks.fault_cell import FaultCell
from replica_manager.client.framed_client import FramedClient
from replica_manager.config_addresses import Address
from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome

PATIENCE_S = 120.0
ResultT = TypeVar("ResultT")


class Answer(NamedTuple):
    """A reply and when it came."""

    reply: bytes
    sent_us: int
    """Wall clock, microseconds since 1970: the clock of the servers' events, on one machine."""
    replied_us: int

    @property
    def latency_ms(self) -> float:
        """From sending to the reply."""
        return (self.replied_us - self.sent_us) / 1000


class RequestFailed(Exception):
    """Raised when a request was not answered: no measurement is worth anything then."""


@dataclass(slots=True)
class _Line:
    connection: FramedClient
    client: ClientId
    number: int = 0
    """Of the newest request."""


class Pending:
    """A request on its way."""

    def __init__(self, future: "Future[Answer]") -> None:
        """Wait for this."""
        self._future = future

    def result(self, timeout_s: float = PATIENCE_S) -> Answer:
        """Wait for the reply.

        Raises:
            RequestFailed: it does not come, or says that the request was not executed.
        """
        try:
            return self._future.result(timeout_s)
        except TimeoutError as error:
            raise RequestFailed(f"no reply within {timeout_s:.0f} s") from error


class CellClients:
    """A client of every server, on the clients' network; a context manager."""

    def __init__(self, cell: FaultCell) -> None:
        """Nothing is connected before `with`."""
        self._cell = cell
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=lambda: cell.among_clients(self._loop.run_forever), name="clients", daemon=True
        )
        self._lines: dict[int, _Line] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        for server, address in enumerate(self._cell.client_addresses):
            self._lines[server] = self._run(_open(address))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def ask(self, server: int, payload: bytes, timeout_s: float = PATIENCE_S) -> Answer:
        """Send one request and wait for its reply.

        Raises:
            RequestFailed: the reply does not come, or says that the request was not executed.
        """
        return self.begin(server, payload).result(timeout_s)

    def ask_all(self, server: int, payloads: Sequence[bytes]) -> None:
        """Send requests one after another."""
        for payload in payloads:
            self.ask(server, payload)

    def begin(self, server: int, payload: bytes) -> "Pending":
        """Send one request; other things may be done until its reply is asked for."""
        line = self._lines[server]
        line.number += 1
        return Pending(asyncio.run_coroutine_threadsafe(_ask(line, line.number, payload), self._loop))

    async def _hang_up(self) -> None:
        for line in self._lines.values():
            line.connection.close()
        await asyncio.sleep(0)  # the transports end in the loop's next turn

    def _run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


async def _open(address: Address) -> _Line:
    connection = await FramedClient.connect(address.host, address.port)
    return _Line(connection, await connection.open_client())


async def _ask(line: _Line, number: int, payload: bytes) -> Answer:
    sent_us = _now_us()
    outcome, reply = await line.connection.request(line.client, number, payload)
    replied_us = _now_us()
    if outcome is not Outcome.ANSWERED:
        raise RequestFailed(f"request {number} was not answered: {outcome.name.lower()}")
    return Answer(reply, sent_us, replied_us)


def _now_us() -> int:
    return time.time_ns() // 1000
