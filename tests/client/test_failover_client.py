"""The client library on real sockets, before servers that are honest, silent, or hostile."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchmarks.loopback_ports import free_port
from replica_manager.client.errors import CellUnreachable, ClientClosed, SessionBusy
from replica_manager.client.failover_client import FailoverClient
from replica_manager.client.failover_values import FailoverSettings, Noted
from replica_manager.config_addresses import Address
from replica_manager.intake.framed_messages import ClientOpened, OpenClient, Reply, ToServer, encode
from replica_manager.intake.port import Outcome
from tests.client.false_server import Behaviour, FalseServer, Honest, Peer, never

PATIENCE_S = 60.0
QUICK = FailoverSettings(deadline_ms=20_000, attempt_ms=100, hangup_ms=300, connect_ms=500)


def run(behaviours: list[Behaviour], scenario: Callable[..., Coroutine[Any, Any, None]], **options: Any) -> list[Noted]:
    """Run `scenario(client, servers)` with a client of such servers; return what it noted."""
    notes: list[Noted] = []

    async def main() -> None:
        servers = [FalseServer(behaviour) for behaviour in behaviours]
        addresses = [await server.open() for server in servers]
        settings = options.get("settings", QUICK)
        client = FailoverClient(addresses, settings, generator=random.Random(1), on_note=notes.append)
        try:
            async with asyncio.timeout(PATIENCE_S), client:
                await scenario(client, servers)
        finally:
            for server in servers:
                await server.close()

    asyncio.run(main())
    return notes


async def ask(client: FailoverClient, count: int = 3) -> None:
    """Send a few requests, and require their answers."""
    session = await client.open_session()
    for _ in range(count):
        outcome, reply = await session.request(b"hello")
        assert (outcome, reply.endswith(b"5 bytes")) == (Outcome.ANSWERED, True)


def test_sessions_are_apart_and_number_their_requests() -> None:
    """Many over one connection per server."""

    async def scenario(client: FailoverClient, servers: list[FalseServer]) -> None:
        await asyncio.gather(*(ask(client) for _ in range(20)))
        assert [server.connections for server in servers] == [1, 1]

    honest = Honest()
    run([honest, honest], scenario)
    assert len(set(honest.executed)) == len(honest.executed) == 60


def test_a_session_has_one_request_at_a_time() -> None:
    """A second one is the caller's mistake; the first is seen through even if nobody waits any more."""
    released = asyncio.Event()
    honest = Honest()

    async def slow(peer: Peer, message: ToServer) -> None:
        if not isinstance(message, OpenClient):
            await released.wait()
        await honest(peer, message)

    async def scenario(client: FailoverClient, servers: list[FalseServer]) -> None:
        session = await client.open_session()
        first = asyncio.create_task(session.request(b"hello"))
        while not any(server.taken[1:] for server in servers):
            await asyncio.sleep(0.002)
        with pytest.raises(SessionBusy):
            await session.request(b"again")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        with pytest.raises(SessionBusy):
            await session.request(b"again")
        released.set()
        while client.core.open_count:
            await asyncio.sleep(0.002)
        assert (await session.request(b"hello"))[0] is Outcome.ANSWERED

    run([slow], scenario)


def test_a_server_that_hangs_up_with_every_request_is_left_for_the_other_one() -> None:
    """Requests are repeated there."""
    honest = Honest()

    async def mean(peer: Peer, message: ToServer) -> None:
        peer.hang_up()

    notes = run([mean, honest], lambda client, _: ask(client))
    assert "lost" in [note.kind for note in notes] or len(honest.executed) == 3


def test_a_server_that_listens_and_never_answers_is_left_too() -> None:
    """After `attempt_ms`."""
    run([never, Honest()], lambda client, _: ask(client))


def test_no_server_at_all_is_told_at_the_deadline() -> None:
    """As an error when an id was wanted."""

    async def main() -> None:
        address = Address("127.0.0.1", free_port())
        async with FailoverClient([address], FailoverSettings(deadline_ms=200)) as client:
            with pytest.raises(CellUnreachable):
                await client.open_session()

    asyncio.run(main())


def test_closing_tells_whoever_waits() -> None:
    """The outcome is unknown then."""

    async def main() -> None:
        server = FalseServer(never)
        client = FailoverClient([await server.open()])
        client.open()
        waiting = asyncio.create_task(client.open_session())
        while not server.taken:
            await asyncio.sleep(0.002)
        await client.close()
        with pytest.raises(ClientClosed):
            await waiting
        await server.close()

    asyncio.run(main())


HOSTILE = {
    "garbage": b"\x00\x00\x00\x05hello",
    "a frame of 4 GiB": b"\xff\xff\xff\xff",
    "an empty frame": bytes(4),
    "a request of its own": encode(OpenClient(1)),
    "an unknown outcome": encode(Reply(b"x" * 24, 1, 77, b"")),
    "the outcome that no server says": encode(Reply(b"x" * 24, 1, int(Outcome.UNDECIDED), b"")),
    "an id that is none": encode(ClientOpened(1, b"short")),
    "the answers of others": encode(Reply(b"x" * 24, 1, 0, b"")) * 1000,
    "a number too large": b"\x00\x00\x00\x0d\x93\x04\xa1x\xcf" + b"\xff" * 8,
    "half a frame, then nothing": b"\x00\x00\x10\x00half",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_hurts_nobody(name: str) -> None:
    """Its connection ends, and the honest one answers."""
    honest = Honest()

    async def hostile(peer: Peer, message: ToServer) -> None:
        peer.send(HOSTILE[name])

    async def scenario(client: FailoverClient, servers: list[FalseServer]) -> None:
        await asyncio.gather(*(ask(client) for _ in range(5)))

    run([hostile, honest, hostile], scenario)
    assert len(honest.executed) == 15


def test_a_server_that_gives_the_same_id_twice_is_not_believed() -> None:
    """Two sessions with one id would hear each other's replies."""
    honest = Honest()

    async def twin(peer: Peer, message: ToServer) -> None:
        if isinstance(message, OpenClient):
            peer.send(encode(ClientOpened(message.token, b"t" * 24)))
        else:
            await honest(peer, message)

    async def scenario(client: FailoverClient, servers: list[FalseServer]) -> None:
        sessions = [await client.open_session() for _ in range(3)]
        assert len({session.client_id for session in sessions}) == 3

    run([twin, honest], scenario)
