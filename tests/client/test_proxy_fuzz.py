"""Hostile bytes at the proxy's port, hostile frames from a server: well-behaved clients are served on."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replica_manager.client.failover_client import FailoverClient
from replica_manager.client.failover_values import FailoverSettings
from replica_manager.client.proxy_port import ProxyPort
from replica_manager.config_addresses import Address
from replica_manager.intake.framed_messages import ToServer
from replica_manager.intake.http_listener import HttpListener
from tests.client.false_server import FalseServer, Honest, Peer
from tests.client.web_cell import browse
from tests.fuzz import corpus
from tests.fuzz.mutations import Mutator

PATIENCE_S = 60.0
REQUEST_BYTES_MAX = 10_000
CONNECTIONS_MAX = 100
SETTINGS = FailoverSettings(attempt_ms=100, hangup_ms=300, backoff_ms=1, backoff_ms_max=5)


async def proxied(
    servers: list[FalseServer], scenario: Callable[[Address, HttpListener], Coroutine[Any, Any, None]]
) -> None:
    """Run `scenario(address, listener)` with the parts of a proxy before these servers."""
    addresses = [await server.open() for server in servers]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE_S), FailoverClient(addresses, SETTINGS) as client:
            listener = HttpListener(
                ProxyPort(client, loop.call_soon),
                REQUEST_BYTES_MAX,
                CONNECTIONS_MAX,
                lambda reason: None,
                lambda: time.monotonic() * 1000,
            )
            server = await loop.create_server(listener.connection, "127.0.0.1", 0)
            await scenario(Address(*server.sockets[0].getsockname()[:2]), listener)
            server.close()
            listener.close()
            while listener.connections:
                await asyncio.sleep(0.001)
    finally:
        for false in servers:
            await false.close()


async def throw(address: Address, data: bytes) -> bytes:
    """Send bytes and no more; return everything that is answered."""
    reader, writer = await asyncio.open_connection(*address)
    answer = b""
    try:
        writer.write(data)
        writer.write_eof()
        while piece := await reader.read(65536):
            answer += piece
    except ConnectionError:
        pass  # it was hung up on
    finally:
        writer.close()
    return answer


async def require_served(address: Address) -> None:
    """A well-behaved client is answered."""
    async with browse(address) as browser:
        assert (await browser.ask(b"GET", b"/"))[0] == 200


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), anything=st.lists(st.binary(max_size=300), max_size=5))
def test_whatever_http_clients_send_the_proxy_answers_the_others(seed: int, anything: list[bytes]) -> None:
    """Only requests that pass the strict framing reach the cell, each as one payload."""
    mutator = Mutator(corpus.http_requests(), seed)
    honest = Honest()
    server = FalseServer(honest)

    async def scenario(address: Address, listener: HttpListener) -> None:
        for data in [*anything, *(mutator.mutant() for _ in range(10))]:
            for reply in (await throw(address, data)).split(b"HTTP/1.1 ")[1:]:
                assert reply[:3] in {b"200", b"100", b"400", b"413", b"417", b"431", b"501", b"503"}, reply
        await require_served(address)
        assert listener.held.byte_count == 0

    asyncio.run(proxied([server], scenario))
    assert len(set(honest.executed)) == len(honest.executed)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), anything=st.binary(max_size=300))
def test_whatever_a_false_server_sends_the_proxy_serves_its_clients_from_another_one(
    seed: int, anything: bytes
) -> None:
    """Mutants of true answers, and any bytes; the request is executed once by the honest server."""
    mutator = Mutator(corpus.framed_answers(), seed)
    honest = Honest()

    async def hostile(peer: Peer, message: ToServer) -> None:
        peer.send(anything + mutator.mutant() if len(anything) % 2 else mutator.mutant())

    async def scenario(address: Address, listener: HttpListener) -> None:
        for _ in range(5):
            await require_served(address)

    asyncio.run(proxied([FalseServer(hostile), FalseServer(honest)], scenario))
    assert len(set(honest.executed)) == len(honest.executed)
