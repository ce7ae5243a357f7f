"""Users of a cell that speaks the framed protocol: each has a client id and sends one request after another."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from replica_manager.client.framed_client import FramedClient
from replica_manager.config_addresses import parse_address
from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome
from replica_manager.network import namespaces
from tests.vm.vm_cell import VmCell
from tests.vm.waiting import PATIENCE_S

Result = TypeVar("Result")
Answer = tuple[Outcome, bytes]


class FramedUsers:
    """An event loop on the clients' network with a connection to every server."""

    def __init__(self, cell: VmCell) -> None:
        """Connect."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=lambda: namespaces.call_in(cell.clients_place, self._loop.run_forever), name="framed-users"
        )
        self._thread.start()
        addresses = {server.id: parse_address(server.public_address) for server in cell.config.server}
        self._connections = {
            server: self.run(FramedClient.connect(address.host, address.port)) for server, address in addresses.items()
        }

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work` to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def enter(self, server: int) -> "User":
        """Return a new user of a server."""
        connection = self._connections[server]
        return User(self, connection, server, self.run(connection.open_client()))

    def start(self, work: Coroutine[Any, Any, Answer]) -> "Future[Answer]":
        """Run `work` beside the test."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Hang up; requests that still wait fail."""
        for connection in self._connections.values():
            self._loop.call_soon_threadsafe(connection.close)
        self.run(_let_others_run())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


async def _let_others_run() -> None:
    """Return when everything else has ended: connections, and the requests that waited on them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.sleep(0)
    await asyncio.gather(*others, return_exceptions=True)


@dataclass
class User:
    """One client id."""

    users: FramedUsers
    connection: FramedClient
    server: int
    client: ClientId
    number: int = 0

    def send(self, payload: bytes) -> "Future[Answer]":
        """Send the next request; its answer may never come."""
        self.number += 1
        return self.users.start(self.connection.request(self.client, self.number, payload))

    def ask(self, payload: bytes) -> bytes:
        """Send the next request and return the reply."""
        outcome, reply = self.send(payload).result(PATIENCE_S)
        assert outcome is Outcome.ANSWERED
        return reply


@contextmanager
def framed_users(cell: VmCell) -> Iterator[FramedUsers]:
    """Give users of `cell`."""
    users = FramedUsers(cell)
    try:
        yield users
    finally:
        users.close()
