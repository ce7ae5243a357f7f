"""The HTTP client against a real server on loopback."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rubis_adapter.client_emulator.http_client import HttpClient
from rubis_adapter.client_emulator.replies import FailedRequest, Failure, Reply
from rubis_adapter.client_emulator.requests import HttpRequest
from tests.rubis_emulator.small_site import Answer, SeenRequest, SmallSite, http, page_for

PATIENT_S = 60.0
"""A time-out that no test waits for."""

Use = Callable[[SmallSite, HttpClient], Awaitable[None]]


def with_client(answer: Callable[[SeenRequest], Answer], use: Use, *, timeout_s: float = PATIENT_S) -> None:
    async def run() -> None:
        async with SmallSite(answer) as site:
            client = HttpClient(asyncio.get_running_loop(), [site.address], 0, timeout_s)
            try:
                await asyncio.wait_for(use(site, client), PATIENT_S)
            finally:
                client.close()

    asyncio.run(run())


async def fetch(client: HttpClient, target: str = "/x", body: bytes | None = None) -> Reply | FailedRequest:
    result: asyncio.Future[Reply | FailedRequest] = asyncio.get_running_loop().create_future()
    client.request(HttpRequest(target, body), result.set_result)
    assert not result.done()
    return await result


async def expect_failure(client: HttpClient, failure: Failure) -> str:
    result = await fetch(client)
    assert isinstance(result, FailedRequest)
    assert result.failure is failure
    return result.detail


def test_requests_share_one_connection() -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        for number in range(20):
            reply = await fetch(client, f"/page{number}?n={number}", b"a=1" if number % 2 else None)
            assert isinstance(reply, Reply)
            assert f'data-page="page{number}"'.encode() in reply.body
        assert site.connections == 1
        assert [seen.method for seen in site.seen] == ["GET", "POST"] * 10
        assert site.seen[1].body == b"a=1"
        assert site.seen[2].query == {"n": "2"}

    with_client(page_for, use)


def test_large_replies_arrive_whole() -> None:
    body = bytes(range(256)) * 8192

    async def use(_site: SmallSite, client: HttpClient) -> None:
        assert await fetch(client) == Reply(200, body, closes=False)

    with_client(lambda _: Answer(http(body)), use)


def test_a_server_that_closes_after_its_reply_gets_a_new_connection() -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        for _ in range(3):
            assert await fetch(client) == Reply(200, b"x", closes=True)
        assert site.connections == 3

    with_client(lambda _: Answer(http(b"x", "200 OK", "Connection: close"), closes=True), use)


def test_a_connection_lost_between_requests_is_no_failure() -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        assert isinstance(await fetch(client), Reply)
        site.drop_connections()
        while client.is_connected:
            await asyncio.sleep(0.001)
        assert isinstance(await fetch(client), Reply)
        assert site.connections == 2

    with_client(page_for, use)


def test_a_connection_lost_before_the_reply_is_a_failure_and_the_next_request_works() -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        await expect_failure(client, Failure.CONNECTION_LOST)
        assert len(site.seen) == 1, "a request is never sent twice"
        site.answer = page_for
        assert isinstance(await fetch(client), Reply)

    with_client(lambda _: Answer(b"", closes=True), use)


@pytest.mark.parametrize("end", [1, 20, -1])
def test_a_truncated_reply_is_a_failure(end: int) -> None:
    async def use(_site: SmallSite, client: HttpClient) -> None:
        await expect_failure(client, Failure.TRUNCATED)

    with_client(lambda _: Answer(http(b"a page")[:end], closes=True), use)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n", http(b"a page")[:-1]])
def test_a_reply_that_does_not_come_or_not_whole_is_a_timeout(data: bytes) -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        detail = await expect_failure(client, Failure.TIMEOUT)
        assert "waiting for the reply" in detail
        site.answer = page_for
        assert isinstance(await fetch(client), Reply)
        assert site.connections == 2, "the late reply must not be taken for the next one's"

    with_client(lambda _: Answer(data, hangs=True), use, timeout_s=0.8)


def test_each_request_has_the_whole_time_for_itself() -> None:
    """The timer of an earlier request must not end a later one early."""

    async def use(site: SmallSite, client: HttpClient) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        while loop.time() - begin_s < 1.4:
            assert isinstance(await fetch(client), Reply)
        site.answer = lambda _: Answer(b"", hangs=True)
        sent_s = loop.time()
        await expect_failure(client, Failure.TIMEOUT)
        assert loop.time() - sent_s >= 0.99

    with_client(page_for, use, timeout_s=1.0)


def test_what_is_no_http_is_a_failure() -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        assert "no status line" in await expect_failure(client, Failure.MALFORMED)
        site.answer = page_for
        assert isinstance(await fetch(client), Reply)

    with_client(lambda _: Answer(b"SSH-2.0-OpenSSH\r\n\r\n"), use)


def test_nobody_listening_is_a_failure() -> None:
    async def run() -> None:
        async with SmallSite() as site:
            free_address = site.address
        client = HttpClient(asyncio.get_running_loop(), [free_address], 0, PATIENT_S)
        detail = await expect_failure(client, Failure.CONNECT)
        assert f"127.0.0.1:{free_address[1]}" in detail
        client.close()

    asyncio.run(run())


def test_after_a_failure_the_next_address_is_used() -> None:
    async def run() -> None:
        async with SmallSite(lambda _: Answer(b"", closes=True)) as broken, SmallSite() as sound:
            client = HttpClient(asyncio.get_running_loop(), [broken.address, sound.address], 2, PATIENT_S)
            await expect_failure(client, Failure.CONNECTION_LOST)
            assert isinstance(await fetch(client), Reply)
            assert isinstance(await fetch(client), Reply)
            assert (broken.connections, sound.connections) == (1, 1)
            client.close()

    asyncio.run(run())


def test_an_address_where_nobody_listens_is_passed_over() -> None:
    """Nothing has been sent, so nothing can be executed twice."""

    async def run() -> None:
        async with SmallSite() as gone:
            free_address = gone.address
        async with SmallSite() as sound:
            client = HttpClient(asyncio.get_running_loop(), [free_address, sound.address], 0, PATIENT_S)
            assert isinstance(await fetch(client), Reply)
            client.close()

    asyncio.run(run())


def test_closing_forgets_the_request_under_way() -> None:
    async def use(site: SmallSite, client: HttpClient) -> None:
        results: list[Reply | FailedRequest] = []
        client.request(HttpRequest("/x"), results.append)
        while not site.seen:
            await asyncio.sleep(0.001)
        client.close()
        async with SmallSite() as other:
            unrelated = HttpClient(asyncio.get_running_loop(), [other.address], 0, PATIENT_S)
            assert isinstance(await fetch(unrelated), Reply)
            unrelated.close()
        assert results == []

    with_client(lambda _: Answer(b"", hangs=True), use)
