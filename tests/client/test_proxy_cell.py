"""`spare proxy` before a real cell of real processes: a server is killed, and no HTTP client notices."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from replica_manager.client.failover_client import FailoverClient
from replica_manager.client.framed_client import FramedClient
from replica_manager.config_addresses import Address
from replica_manager.control.errors import ControlError
from replica_manager.intake.port import Outcome
from tests.client.web_cell import PATIENCE_S, Proxy, WebCell, browse, restarted_server, spare_proxy, web_cell

pytestmark = pytest.mark.slow

BROWSERS = 20
CELL_STOPS_S_MAX = 30.0
"""A cell goes on without a server after its `crash_ms` (4 s); machines are shared and slow."""


@pytest.fixture
def cell() -> Iterator[WebCell]:
    with web_cell() as running:
        yield running


@pytest.fixture
def proxy(cell: WebCell) -> Iterator[Proxy]:
    with spare_proxy(cell.file, "--deadline-s", "60") as running:
        yield running


class Crowd:
    """Many browsers that send tokens all the time; half of them connect anew for each."""

    def __init__(self, address: Address) -> None:
        """Talk to `address`."""
        self._address = address
        self.sent: list[bytes] = []
        self.failures: list[object] = []
        self.slowest_s = 0.0
        self.answered = 0
        self.is_over = False

    async def run(self) -> None:
        """Go on until `is_over`."""
        await asyncio.gather(*(self._browse(name) for name in range(BROWSERS)))

    async def _browse(self, name: int) -> None:
        number = 0
        while not self.is_over:
            async with browse(self._address) as browser:
                for _ in range(1 if name % 2 else 50):
                    number += 1
                    await self._send(browser.ask, b"b%d-%d" % (name, number))
                    if self.is_over:
                        break

    async def _send(self, ask: object, token: bytes) -> None:
        self.sent.append(token)
        started_s = time.monotonic()
        try:
            status, body = await ask(b"POST", b"/" + token)  # type: ignore[operator]
            if status != 200 or not body.startswith(token + b" is token "):
                self.failures.append((token, status, body))
        except (OSError, EOFError, TimeoutError) as error:
            self.failures.append((token, repr(error)))
        self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)
        self.answered += 1

    async def answer_more(self, count: int) -> None:
        """Wait until so many more are answered."""
        wanted, deadline_s = self.answered + count, time.monotonic() + PATIENCE_S
        while self.answered < wanted:
            assert time.monotonic() < deadline_s, "the crowd is not answered any more"
            await asyncio.sleep(0.02)


async def tokens_of(address: Address) -> list[bytes]:
    async with browse(address) as browser:
        status, body = await browser.ask(b"GET", b"/")
        assert status == 200
        return body.split(b"\n")


async def until_told(proxy: Proxy, *words: str) -> None:
    """Wait until the proxy has said all these."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not all(word in proxy.lines for word in words):
        assert time.monotonic() < deadline_s, proxy.lines
        await asyncio.sleep(0.02)


async def kill_under_load(cell: WebCell, proxy: Proxy, victim: int, number: signal.Signals) -> Crowd:
    """Stop a server in the middle of many requests; return the crowd when it is served again."""
    crowd = Crowd(proxy.address)
    running = asyncio.create_task(crowd.run())
    await crowd.answer_more(300)
    os.kill(cell.manager_pid(victim), number)
    await crowd.answer_more(300)
    crowd.is_over = True
    await running
    assert crowd.failures == []
    assert crowd.slowest_s < CELL_STOPS_S_MAX
    return crowd


@pytest.mark.parametrize("victim", [0, 1])
def test_a_server_that_is_killed_under_load_is_noticed_by_no_client_and_nothing_is_executed_twice(
    cell: WebCell, proxy: Proxy, victim: int
) -> None:
    """Every token is there, once; the requests of that moment only take as long as the cell needs to go on."""

    async def scenario() -> None:
        crowd = await kill_under_load(cell, proxy, victim, signal.SIGKILL)
        counts = Counter(await tokens_of(proxy.address))
        assert counts == Counter(crowd.sent)
        assert set(counts.values()) == {1}

    asyncio.run(scenario())
    assert f"server {victim}: lost" in proxy.lines
    assert proxy.end() == 0
    assert "requests answered;" in proxy.lines.splitlines()[-1]
    assert "unavailable" not in proxy.lines


def test_both_servers_are_killed_in_turn_and_no_client_notices(cell: WebCell, proxy: Proxy) -> None:
    """As in a roll-out: the first one is back in the cell before the second one dies."""

    async def scenario() -> None:
        first = await kill_under_load(cell, proxy, 0, signal.SIGKILL)
        await until_state(cell, [1], "f_prime", 0)
        with restarted_server(cell, 0):
            await until_state(cell, [0, 1], "state", "serving")
            second = await kill_under_load(cell, proxy, 1, signal.SIGKILL)
            assert Counter(await tokens_of(proxy.address)) == Counter(first.sent) + Counter(second.sent)

    asyncio.run(scenario())


async def until_state(cell: WebCell, servers: list[int], key: str, value: object) -> None:
    """Wait until these servers say this of themselves."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            statuses = [await asyncio.to_thread(cell.status, server) for server in servers]
        except (ControlError, OSError):
            statuses = []  # it has only just started
        if [status[key] for status in statuses] == [value] * len(servers):
            return
        assert time.monotonic() < deadline_s, statuses
        await asyncio.sleep(0.1)


def test_a_server_that_is_frozen_under_load_is_noticed_by_no_client(cell: WebCell, proxy: Proxy) -> None:
    """Its sockets stay open: only its silence tells."""

    async def scenario() -> None:
        frozen = cell.manager_pid(0)
        try:
            crowd = await kill_under_load(cell, proxy, 0, signal.SIGSTOP)
        finally:
            os.kill(frozen, signal.SIGKILL)
        assert Counter(await tokens_of(proxy.address)) == Counter(crowd.sent)

    asyncio.run(scenario())


def test_both_paths_order_the_same_bytes(cell: WebCell, proxy: Proxy) -> None:
    """A page is the same from the proxy and from each server; what is no HTTP request is ordered by none."""

    async def scenario() -> None:
        async with browse(proxy.address) as browser:
            assert (await browser.ask(b"POST", b"/one"))[0] == 200
        pages = [await tokens_of(address) for address in (proxy.address, cell.http_address(0), cell.http_address(1))]
        assert pages == [[b"one"]] * 3
        connection = await FramedClient.connect(*cell.framed_address(1))
        me = await connection.open_client()
        two = post(b"two")
        assert (await connection.request(me, 1, two + two))[0] is Outcome.MALFORMED
        assert (await connection.request(me, 1, two))[0] is Outcome.ANSWERED
        assert await tokens_of(proxy.address) == [b"one", b"two"]
        connection.close()

    asyncio.run(scenario())


def test_connections_in_a_row_share_one_client_id(cell: WebCell, proxy: Proxy) -> None:
    """An id is an entry of the agreed order; a client without keep-alive must not double that."""

    async def scenario() -> None:
        for number in range(30):
            async with browse(proxy.address) as browser:
                status, _ = await browser.ask(b"POST", b"/t%d" % number, b"Connection: close\r\n")
                assert status == 200
        assert len(await tokens_of(proxy.address)) == 30

    asyncio.run(scenario())
    assert proxy.end(signal.SIGINT) == 0
    assert "31 requests answered" in proxy.lines
    assert int(proxy.lines.rsplit(" client ids", 1)[0].rsplit(" ", 1)[1]) <= 3


def test_a_cell_that_has_forgotten_all_ids_of_an_idle_proxy_serves_it_on() -> None:
    """Other clients have pushed them out; no client of the proxy is told."""

    async def burst(address: Address, name: bytes) -> None:
        async def one(number: int) -> None:
            async with browse(address) as browser:
                assert (await browser.ask(b"POST", b"/%s%d" % (name, number)))[0] == 200

        await asyncio.gather(*(one(number) for number in range(5)))

    async def scenario(proxy: Proxy, cell: WebCell) -> None:
        async with browse(proxy.address) as patient:
            assert (await patient.ask(b"POST", b"/first"))[0] == 200
            await burst(proxy.address, b"before")
            async with FailoverClient([cell.framed_address(0)]) as others:
                for _ in range(20):
                    await others.open_session()
            assert (await patient.ask(b"POST", b"/last"))[0] == 200
            await burst(proxy.address, b"after")
            tokens = await tokens_of(proxy.address)
        assert len(tokens) == len(set(tokens)) == 12

    with web_cell(clients_max=10) as cell, spare_proxy(cell.file) as proxy:
        asyncio.run(scenario(proxy, cell))


def test_a_cell_that_does_not_answer_gives_503_and_504_by_what_is_known(cell: WebCell) -> None:
    """Sent and silent is unknown; never sent is surely not executed."""

    async def scenario(proxy: Proxy) -> None:
        pids = [cell.manager_pid(server) for server in (0, 1)]
        async with browse(proxy.address) as browser:
            assert (await browser.ask(b"POST", b"/before"))[0] == 200
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            status, body = await browser.ask(b"POST", b"/frozen")
            assert (status, b"may have been executed" in body) == (504, True)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await until_told(proxy, "server 0: lost", "server 1: lost")
            status, body = await browser.ask(b"POST", b"/dead")
            assert (status, b"not executed" in body) == (503, True)

    with spare_proxy(cell.file, "--deadline-s", "3") as proxy:
        asyncio.run(scenario(proxy))
        assert proxy.end() == 0
        assert "1 undecided" in proxy.lines


def test_the_client_library_survives_the_death_of_a_server(cell: WebCell) -> None:
    """Framed, without a proxy; what it has been told stays true."""

    async def scenario() -> None:
        async with FailoverClient([cell.framed_address(server) for server in (0, 1)]) as client:
            session = await client.open_session()
            for number in range(200):
                if number == 100:
                    os.kill(cell.manager_pid(1), signal.SIGKILL)
                outcome, reply = await session.request(post(b"t%d" % number))
                assert (outcome, reply.endswith(b"t%d is token %d" % (number, number + 1))) == (Outcome.ANSWERED, True)

    asyncio.run(scenario())


def post(token: bytes) -> bytes:
    return b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % token
