"""Clients that keep the rules while others do not: every answer must be right, and must come."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from exec_wrapper.examples.key_value_commands import OK, decode_reply, encode_get, encode_set
from replica_manager.client.framed_client import FramedClient
from replica_manager.config_addresses import Address
from replica_manager.intake.port import Outcome

PATIENCE_S = 60.0
"""For one answer, on a machine that attacker and cell share."""
PAUSE_S = 0.005


class CorrectClient:
    """One connection that is used without pause."""

    def __init__(self, address: Address) -> None:
        """Talk to one server."""
        self.address = address
        self.answered = 0
        self.slowest_s = 0.0

    async def run(self) -> None:
        """Ask until cancelled.

        Raises:
            AssertionError: an answer was wrong.
            OSError, TimeoutError: the connection was ended, or an answer did not come.
        """
        raise NotImplementedError

    async def timed(self, answer: Coroutine[Any, Any, Any]) -> Any:
        """Await an answer and note how long it took."""
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            result = await answer
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.answered += 1
        await asyncio.sleep(PAUSE_S)
        return result


class KeyValueClient(CorrectClient):
    """Writes values and reads them back over the framed protocol."""

    async def run(self) -> None:
        """See `CorrectClient`."""
        connection = await FramedClient.connect(*self.address)
        try:
            me, number = await connection.open_client(), 0
            while True:
                key, value = b"%s %d" % (me, number % 50), b"value %d" % number
                for request, expected in ((encode_set(key, value), []), (encode_get(key), [value])):
                    number += 1
                    outcome, reply = await self.timed(connection.request(me, number, request))
                    assert outcome is Outcome.ANSWERED, outcome
                    assert decode_reply(reply) == (OK, expected), reply
        finally:
            connection.close()


class WebClient(CorrectClient):
    """Fetches pages over one HTTP connection."""

    async def run(self) -> None:
        """See `CorrectClient`."""
        reader, writer = await asyncio.open_connection(*self.address)
        number = 0
        try:
            while True:
                number += 1
                target = b"/page/%d" % number
                method = b"POST" if number % 10 == 0 else b"GET"
                writer.write(b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, target))
                status, body = await self.timed(_reply(reader))
                assert status == 200, status
                assert body.startswith(target + b" "), body
        finally:
            writer.close()


async def _reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


@asynccontextmanager
async def kept_busy(
    make: Callable[[Address], CorrectClient], addresses: list[Address]
) -> AsyncIterator[list[CorrectClient]]:
    """Have one client per address ask all the time; one that fails ends the block with its error."""
    clients = [make(address) for address in addresses]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        yield clients
        for task in tasks:
            task.cancel()
