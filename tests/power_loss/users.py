"""Clients that append tokens to a cell until its power is cut, and ask afterwards what became of the last ones."""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from exec_wrapper.examples.key_value_commands import OK, decode_fields, encode_get, encode_scan
from replica_manager.client.framed_client import CellUnavailable, ConnectionLost, FramedClient
from replica_manager.config_addresses import Address
from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome
from tests.power_loss.tokens import Ledger, Token

PAUSE_S = 0.02
"""Before a request that the cell could not take is sent again."""
SCAN_ENTRIES = 1000
EXECUTED = (Outcome.ANSWERED, Outcome.REPLY_LOST)


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a client does not know the outcome of."""

    client: ClientId
    number: int
    token: Token


@dataclass
class Users:
    """The clients of one round."""

    addresses: Sequence[Address]
    ledger: Ledger
    round_number: int
    client_count: int
    seed: int
    reading_share: float
    """Of requests that read; 0 to 1."""
    open_requests: list[OpenRequest] = field(default_factory=list)
    acknowledged: int = 0
    failures: list[str] = field(default_factory=list)
    """What must not happen: the service refused a token."""
    _is_over: bool = False

    @contextmanager
    def at_work(self, in_place: Callable[[Callable[[], None]], None]) -> Iterator[None]:
        """Have all clients at work in a thread of their own, `in_place`; their connections break with the cell."""
        thread = threading.Thread(target=lambda: in_place(self._run), name="power-loss-users")
        thread.start()
        try:
            yield
        finally:
            self._is_over = True
            thread.join()

    def wait_for(self, acknowledged: int, limit_s: float) -> None:
        """Return when the cell has acknowledged so many tokens of this round.

        Raises:
            TimeoutError: it has not in time.
        """
        deadline_s = time.monotonic() + limit_s
        while self.acknowledged < acknowledged:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{self.acknowledged} of {acknowledged} tokens acknowledged in {limit_s:g} s")
            time.sleep(PAUSE_S)

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        tasks = [asyncio.create_task(self._user(index)) for index in range(self.client_count)]
        while not self._is_over:
            await asyncio.sleep(PAUSE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _user(self, index: int) -> None:
        """One client: with the connection its knowledge of the last token ends; then another one takes over."""
        chance = random.Random(f"{self.seed}/{self.round_number}/{index}")
        token = 0
        while not self._is_over:
            address = self.addresses[chance.randrange(len(self.addresses))]
            try:
                connection = await FramedClient.connect(address.host, address.port)
            except OSError:
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                client = await connection.open_client()
                token = await self._converse(connection, client, index, token, chance)
            except (ConnectionLost, CellUnavailable):
                token += 1
                await asyncio.sleep(PAUSE_S)
            finally:
                connection.close()

    async def _converse(
        self, connection: FramedClient, client: ClientId, index: int, first: int, chance: random.Random
    ) -> int:
        number, token = 0, first
        try:
            while not self._is_over:
                number += 1
                if chance.random() < self.reading_share:
                    await _ask(connection, client, number, encode_get(Token(self.round_number, index, token).key))
                    continue
                await self._append(connection, client, number, Token(self.round_number, index, token))
                token += 1
        except ConnectionLost:
            pass
        return token + 1

    async def _append(self, connection: FramedClient, client: ClientId, number: int, token: Token) -> None:
        self.ledger.send(token)
        try:
            outcome, reply = await _ask(connection, client, number, token.request)
        except (ConnectionLost, asyncio.CancelledError):
            self.open_requests.append(OpenRequest(client, number, token))
            raise
        if outcome in EXECUTED and (outcome is Outcome.REPLY_LOST or reply[:1] == OK):
            self.ledger.acknowledge(token)
            self.acknowledged += 1
        else:
            self.failures.append(f"{token}: {outcome.name} {reply[:40]!r}")


async def _ask(connection: FramedClient, client: ClientId, number: int, payload: bytes) -> tuple[Outcome, bytes]:
    """Ask until the cell takes the request."""
    while True:
        outcome, reply = await connection.request(client, number, payload)
        if outcome is not Outcome.UNAVAILABLE:
            return outcome, reply
        await asyncio.sleep(PAUSE_S)


async def _ask_any(connections: Sequence[FramedClient], request: OpenRequest) -> tuple[Outcome, bytes]:
    for connection in itertools.cycle(connections):
        outcome, reply = await connection.request(request.client, request.number, request.token.request)
        if outcome is not Outcome.UNAVAILABLE:
            return outcome, reply
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("there is a server")


def repeat_open(addresses: Sequence[Address], users: Users, limit_s: float) -> dict[str, int]:
    """Send the last request of every client once more; return how often the cell said what.

    Whoever is told "unavailable" asks the next of the servers: one that joined has no replies from before.

    Raises:
        TimeoutError: the cell does not answer.
    """
    said: dict[str, int] = {}

    async def repeat() -> None:
        connections = [await FramedClient.connect(address.host, address.port) for address in addresses]
        for request in users.open_requests:
            outcome, reply = await _ask_any(connections, request)
            said[outcome.name] = said.get(outcome.name, 0) + 1
            if outcome in EXECUTED:
                users.ledger.acknowledge(request.token)
            else:
                users.failures.append(f"{request.token} repeated: {outcome.name} {reply[:40]!r}")
        for connection in connections:
            connection.close()

    asyncio.run(asyncio.wait_for(repeat(), limit_s))
    users.open_requests.clear()
    return said


def read_everything(address: Address, limit_s: float) -> list[tuple[bytes, bytes]]:
    """Return every `(key, value)` that the cell has, in answers that were voted on.

    Raises:
        TimeoutError: the cell does not answer.
    """
    return asyncio.run(asyncio.wait_for(_scan(address), limit_s))


async def _scan(address: Address) -> list[tuple[bytes, bytes]]:
    connection = await FramedClient.connect(address.host, address.port)
    client = await connection.open_client()
    entries: list[tuple[bytes, bytes]] = []
    start, number = b"", 0
    while True:
        number += 1
        outcome, reply = await _ask(connection, client, number, encode_scan(start, SCAN_ENTRIES))
        assert (outcome, reply[:1]) == (Outcome.ANSWERED, OK), f"a scan was answered {outcome.name} {reply[:40]!r}"
        fields = decode_fields(reply, 1)
        if not fields:
            connection.close()
            return entries
        entries += zip(fields[::2], fields[1::2], strict=True)
        start = entries[-1][0] + b"\0"
