"""Clients of the framed protocol on real sockets."""

import asyncio

import pytest

from replica_manager.intake.arrival import PARTIAL_MS_MAX
from replica_manager.intake.framed_listener import WRITE_BYTES_MAX, FramedListener
from replica_manager.intake.framed_messages import (
    HEADER_BYTES_MAX,
    ClientOpened,
    OpenClient,
    Reply,
    Request,
    ToClient,
    decode_to_client,
    encode,
)
from replica_manager.intake.port import Outcome, Submission
from tests.intake.served_port import CONNECTIONS_MAX, REQUEST_BYTES_MAX, Client, Served, serve, until


def upper(submission: Submission) -> tuple[Outcome, bytes]:
    return Outcome.ANSWERED, submission.payload.upper()


async def message(client: Client) -> ToClient:
    return decode_to_client(await client.receive(int.from_bytes(await client.receive(4))))


async def opened(client: Client, token: int = 7) -> bytes:
    client.send(encode(OpenClient(token)))
    answer = await message(client)
    assert isinstance(answer, ClientOpened)
    assert answer.token == token
    return answer.client


def test_a_connection_carries_many_clients_and_requests_at_once() -> None:
    """Answers come by client and number."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        one, two = await opened(client), await opened(client, 8)
        client.send(encode(Request(one, 1, b"a")) + encode(Request(two, 1, b"b")) + encode(Request(one, 2, b"c")))
        answers = [await message(client) for _ in range(3)]
        assert answers == [Reply(one, 1, 0, b"A"), Reply(two, 1, 0, b"B"), Reply(one, 2, 0, b"C")]

    serve(FramedListener, scenario, upper)


def test_bytes_may_come_one_by_one() -> None:
    """Message boundaries are the protocol's, not the network's."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        me = await opened(client)
        for letter in encode(Request(me, 1, b"slow")):
            client.send(bytes((letter,)))
            await client.writer.drain()
        assert await message(client) == Reply(me, 1, 0, b"SLOW")

    serve(FramedListener, scenario, upper)


def test_while_the_cell_issues_no_ids_the_answer_is_an_empty_one() -> None:
    """The connection stays for the next attempt."""

    async def scenario(served: Served) -> None:
        served.port.is_available = False
        client = await served.connect()
        assert await opened(client) == b""
        served.port.is_available = True
        assert await opened(client) != b""

    serve(FramedListener, scenario, upper)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.ANSWERED])
def test_every_outcome_reaches_the_client_as_it_is(outcome: Outcome) -> None:
    """The client library decides what to do about it."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(encode(Request(b"c" * 24, 1, b"a")))
        assert await message(client) == Reply(b"c" * 24, 1, outcome, b"")

    serve(FramedListener, scenario, lambda _: (outcome, b""))


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "bytes, at most"),
        ((REQUEST_BYTES_MAX + HEADER_BYTES_MAX + 1).to_bytes(4), "bytes, at most"),
        (b"\x00\x00\x00\x00", "truncated"),
        (b"\x00\x00\x00\x01\xc1", ""),
        (b"\x00\x00\x00\x02\x91\x09", "Invalid value 9"),
        (encode(ClientOpened(1, b"")), "Invalid value 3"),
    ],
)
def test_what_is_no_message_ends_the_connection_by_name(garbage: bytes, reason: str) -> None:
    """Messages before it are handled; whoever else is connected notices nothing."""

    async def scenario(served: Served) -> None:
        other, client = await served.connect(), await served.connect()
        me = await opened(client)
        client.send(encode(Request(me, 1, b"before")) + garbage + encode(Request(me, 2, b"behind")))
        await client.rest()
        assert len(served.rejected) == 1
        assert reason in served.rejected[0]
        assert [submission.payload for submission in served.port.submissions] == [b"before"]
        assert await opened(other) != b""

    serve(FramedListener, scenario, upper)


def test_one_connection_too_many_is_refused_by_name() -> None:
    """The others are served on, and a place that becomes free is given away again."""

    async def scenario(served: Served) -> None:
        clients = [await served.connect() for _ in range(CONNECTIONS_MAX)]
        for client in clients:
            await opened(client)
        assert await (await served.connect()).rest() == b""
        assert served.rejected == [f"more than {CONNECTIONS_MAX} connections"]
        await clients[0].close()
        await until(lambda: len(served.listener.connections) < CONNECTIONS_MAX)
        assert await opened(await served.connect()) != b""

    serve(FramedListener, scenario, upper)


def test_a_request_in_drops_is_swept_away() -> None:
    """Counted from its first byte."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        me = await opened(client)
        client.send(encode(Request(me, 1, b"slow"))[:-1])
        await until(lambda: served.listener.held.byte_count > 0)
        served.sweep_after(PARTIAL_MS_MAX)
        assert served.rejected == []
        served.sweep_after(1)
        assert served.rejected == ["a request was not completed in time"]
        assert await client.rest() == b""
        assert served.listener.held.byte_count == 0

    serve(FramedListener, scenario, upper)


def test_a_client_may_be_silent_between_requests() -> None:
    """A connection of the client library serves many clients, also seldom ones."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        me = await opened(client)
        served.sweep_after(1000 * PARTIAL_MS_MAX)
        client.send(encode(Request(me, 1, b"still here")))
        assert await message(client) == Reply(me, 1, 0, b"STILL HERE")

    serve(FramedListener, scenario, upper)


def test_bytes_of_incomplete_requests_are_bounded_over_all_connections() -> None:
    """A limit per connection alone would allow its product with the number of connections."""

    async def scenario(served: Served) -> None:
        served.listener.held.bytes_max = 1000
        first, second = await served.connect(), await served.connect()
        request = encode(Request(b"c" * 24, 1, b"a" * 900))
        first.send(request[:-1])
        await until(lambda: served.listener.held.byte_count > 900)
        second.send(request[:-1])
        assert await second.rest() == b""
        assert served.rejected == ["more than 1000 bytes of incomplete requests"]
        first.send(request[-1:])
        assert await message(first) == Reply(b"c" * 24, 1, 0, b"A" * 900)

    serve(FramedListener, scenario, upper)


def test_a_client_that_does_not_read_its_replies_is_cut_off() -> None:
    """Bounded memory: when more comes, or after a while."""

    async def scenario(served: Served) -> None:
        for is_patient in (False, True):
            served.rejected.clear()
            client = await served.connect()
            client.writer.transport.pause_reading()
            for number in range(1, 5):
                client.send(encode(Request(b"c" * 24, number, b"a")))
            while not served.rejected:
                if is_patient:
                    served.sweep_after(1)
                else:
                    client.send(encode(Request(b"c" * 24, 5, b"a")))
                await asyncio.sleep(0.002)
            assert served.rejected == [f"more than {WRITE_BYTES_MAX} bytes of replies not read"]
            client.writer.transport.resume_reading()

    serve(FramedListener, scenario, lambda _: (Outcome.ANSWERED, bytes(WRITE_BYTES_MAX)))


def test_a_burst_of_replies_that_is_larger_than_the_limit_is_no_fault_of_the_client() -> None:
    """What counts is what was not read when more came."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(encode(Request(b"c" * 24, 1, b"a")) + encode(Request(b"d" * 24, 1, b"a")))
        for _ in range(2):
            assert len((await message(client)).payload) == WRITE_BYTES_MAX
        assert served.rejected == []

    serve(FramedListener, scenario, lambda _: (Outcome.ANSWERED, bytes(WRITE_BYTES_MAX)))


def test_a_client_that_sends_no_more_ends_its_connection() -> None:
    """Unlike HTTP's, this protocol has no half-closed state: what is under way is repeated on another connection."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        await opened(client)
        client.writer.write_eof()
        assert await client.rest() == b""
        await until(lambda: served.port.forgotten == 1)

    serve(FramedListener, scenario, upper)


def test_a_reply_to_a_client_that_has_gone_is_lost_and_harms_nobody() -> None:
    """The request was ordered; its reply is kept for a repetition elsewhere."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        me = await opened(client)
        served.port.held = []
        client.send(encode(Request(me, 1, b"a")))
        await until(lambda: bool(served.port.held))
        await client.close()
        await until(lambda: not served.listener.connections)
        served.port.let_go()
        assert await opened(await served.connect()) != b""

    serve(FramedListener, scenario, upper)
