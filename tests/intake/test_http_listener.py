"""HTTP clients on real sockets: one answer per request, in order; whoever breaks the rules is told, and named."""

import pytest

from replica_manager.intake.arrival import PARTIAL_MS_MAX
from replica_manager.intake.http_framing import HEAD_BYTES_MAX
from replica_manager.intake.http_listener import IDLE_MS_MAX, PIPELINED_MAX, WRITE_BYTES_MAX, HttpListener
from replica_manager.intake.port import Outcome, Submission
from tests.intake.served_port import CONNECTIONS_MAX, REQUEST_BYTES_MAX, Served, http_echo, serve, until

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(body: bytes, extra: bytes = b"") -> bytes:
    return b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n" % (len(body), extra) + body


def test_pipelined_requests_are_ordered_one_after_another_under_one_identity() -> None:
    """Each connection is a client; its requests are numbered from 1."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET + post(b"hello") + GET)
        sizes = [(await client.reply())[2] for _ in range(3)]
        assert sizes == [b"%d bytes" % len(raw) for raw in (GET, post(b"hello"), GET)]
        numbers = [submission.number for submission in served.port.submissions]
        assert (numbers, len(served.port.opened)) == ([1, 2, 3], 1)
        assert [submission.payload for submission in served.port.submissions] == [GET, post(b"hello"), GET]

    serve(HttpListener, scenario)


def test_a_client_that_pipelines_more_than_may_wait_is_read_again_when_they_are_answered() -> None:
    """Reading pauses above `PIPELINED_MAX`, and nothing is lost."""

    async def scenario(served: Served) -> None:
        served.port.held = []
        client = await served.connect()
        client.send(GET * (PIPELINED_MAX + 10))
        await until(lambda: bool(served.port.held))
        client.send(GET * 20)
        served.port.let_go()
        for _ in range(PIPELINED_MAX + 30):
            assert (await client.reply())[0] == 200

    serve(HttpListener, scenario)


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    """RFC 9110 section 10.1.1."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        request = post(b"hello", b"Expect: 100-continue\r\n")
        client.send(request[:-5])
        assert await client.line() == b"HTTP/1.1 100 Continue"
        assert await client.line() == b""
        client.send(request[-5:])
        assert (await client.reply())[0] == 200
        assert served.port.submissions[0].payload == request

    serve(HttpListener, scenario)


def test_it_is_told_so_only_after_the_replies_to_what_it_sent_before() -> None:
    """A `100` is an answer to the oldest open request."""

    async def scenario(served: Served) -> None:
        served.port.held = []
        client = await served.connect()
        request = post(b"hello", b"Expect: 100-continue\r\n")
        client.send(GET + request[:-5])
        await until(lambda: bool(served.port.held))
        served.port.let_go()
        assert (await client.reply())[0] == 200
        assert await client.line() == b"HTTP/1.1 100 Continue"
        assert await client.line() == b""
        client.send(request[-5:])
        assert (await client.reply())[0] == 200

    serve(HttpListener, scenario)


def test_the_connection_ends_after_the_reply_to_its_last_request() -> None:
    """`Connection: close`; what comes behind it is not executed."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(LAST + GET)
        assert (await client.reply())[0] == 200
        assert await client.rest() == b""
        assert len(served.port.submissions) == 1
        await until(lambda: served.port.forgotten == 1)

    serve(HttpListener, scenario)


def test_a_client_that_sends_no_more_still_gets_its_answers() -> None:
    """Half-close: `nc` and shell scripts do this."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET + GET)
        client.writer.write_eof()
        assert (await client.reply())[0] == 200
        assert (await client.reply())[0] == 200
        assert await client.rest() == b""

    serve(HttpListener, scenario)


def test_a_client_that_hangs_up_in_a_request_leaves_nothing_behind() -> None:
    """Nothing was executed; its bytes are not counted any more."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(post(b"hello")[:-2])
        await until(lambda: served.listener.held.byte_count > 0)
        await client.close()
        await until(lambda: not served.listener.connections)
        assert (served.listener.held.byte_count, served.port.submissions) == (0, [])

    serve(HttpListener, scenario)


def test_one_connection_too_many_is_told_to_come_back() -> None:
    """503 with `Retry-After`; the others are served on."""

    async def scenario(served: Served) -> None:
        clients = [await served.connect() for _ in range(CONNECTIONS_MAX)]
        await until(lambda: len(served.listener.connections) == CONNECTIONS_MAX)
        status, headers, _ = await (await served.connect()).reply()
        assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
        assert served.rejected == [f"more than {CONNECTIONS_MAX} connections"]
        clients[0].send(GET)
        assert (await clients[0].reply())[0] == 200

    serve(HttpListener, scenario)


def test_a_request_in_drops_is_swept_away_however_steadily_it_drips() -> None:
    """A request must be complete a while after its first byte, not after its latest."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        for letter in b"GET /a HT":
            client.send(bytes((letter,)))
            before = served.listener.held.byte_count
            await until(lambda: served.listener.held.byte_count > before)  # noqa: B023  (awaited at once)
            served.sweep_after(PARTIAL_MS_MAX / 10)
        assert served.rejected == []
        served.sweep_after(PARTIAL_MS_MAX / 5)
        assert served.rejected == ["a request was not completed in time"]
        assert await client.rest() == b""

    serve(HttpListener, scenario)


def test_each_request_has_its_own_time() -> None:
    """Many requests in a row are not one slow one."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        for _ in range(5):
            client.send(GET + GET[:10])
            assert (await client.reply())[0] == 200
            await until(lambda: served.listener.held.byte_count == 10)
            served.sweep_after(PARTIAL_MS_MAX * 0.9)
            client.send(GET[10:])
            assert (await client.reply())[0] == 200
        assert served.rejected == []

    serve(HttpListener, scenario)


def test_a_client_that_is_silent_for_long_is_hung_up_on() -> None:
    """Without a fault: connections are a limited good."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET)
        await client.reply()
        served.sweep_after(IDLE_MS_MAX - 1)
        assert served.listener.connections
        served.sweep_after(2)
        assert await client.rest() == b""
        assert served.rejected == []

    serve(HttpListener, scenario)


def test_a_client_that_waits_for_the_cell_is_not_silent() -> None:
    """While its request is under way, time is not held against it."""

    async def scenario(served: Served) -> None:
        served.port.held = []
        client = await served.connect()
        client.send(GET)
        await until(lambda: bool(served.port.held))
        served.sweep_after(2 * IDLE_MS_MAX)
        served.port.let_go()
        assert (await client.reply())[0] == 200

    serve(HttpListener, scenario)


def test_an_identity_that_was_evicted_is_renewed_once_without_the_client_noticing() -> None:
    """`UNKNOWN_CLIENT` means surely not executed."""

    def answer(submission: Submission) -> tuple[Outcome, bytes]:
        is_first = submission.client == bytes(len(submission.client))
        return (Outcome.UNKNOWN_CLIENT, b"") if is_first else http_echo(submission)

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET)
        assert (await client.reply())[0] == 200
        assert [submission.number for submission in served.port.submissions] == [1, 1]
        assert len(served.port.opened) == 2

    serve(HttpListener, scenario, answer)


def test_an_identity_that_is_never_known_is_no_endless_loop() -> None:
    """The second time it is answered 503."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET)
        assert (await client.reply())[0] == 503
        assert len(served.port.submissions) == 2

    serve(HttpListener, scenario, lambda _: (Outcome.UNKNOWN_CLIENT, b""))


def test_while_the_cell_takes_nothing_clients_are_told_to_come_back() -> None:
    """503 with `Retry-After`, and the connection stays for the next attempt."""

    async def scenario(served: Served) -> None:
        served.port.is_available = False
        client = await served.connect()
        client.send(GET)
        status, headers, _ = await client.reply()
        assert (status, headers[b"retry-after"]) == (503, b"1")
        served.port.is_available = True
        client.send(GET)
        assert (await client.reply())[0] == 200

    serve(HttpListener, scenario)


def test_an_identity_that_is_refused_again_is_not_used_again() -> None:
    """503, and the next request begins with another one."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        for _ in range(2):
            client.send(GET)
            assert (await client.reply())[0] == 503
        assert len(served.port.opened) == 4
        assert len({submission.client for submission in served.port.submissions}) == 4

    serve(HttpListener, scenario, lambda _: (Outcome.UNKNOWN_CLIENT, b""))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.UNAVAILABLE, 503),
        (Outcome.TOO_LARGE, 413),
        (Outcome.SKIPPED, 500),
        (Outcome.SUPERSEDED, 503),
        (Outcome.REPLY_LOST, 502),
        (Outcome.MALFORMED, 400),
        (Outcome.UNDECIDED, 504),
    ],
)
def test_every_outcome_without_a_reply_has_a_status_and_the_connection_goes_on(outcome: Outcome, status: int) -> None:
    """The client learns whether trying again makes sense."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET + GET)
        answers = [await client.reply() for _ in range(2)]
        assert [answer[0] for answer in answers] == [status, status]
        assert all((b"retry-after" in answer[1]) == (status == 503) for answer in answers)

    serve(HttpListener, scenario, lambda _: (outcome, b""))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"x" * (REQUEST_BYTES_MAX + 1)), 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * REQUEST_BYTES_MAX, 413),
        (b"GET /" + b"a" * HEAD_BYTES_MAX, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417),
        (b"\x16\x03\x01\x02\x00\x01\x00\n\n", 400),
    ],
)
def test_what_is_no_request_is_answered_named_and_the_connection_ends(data: bytes, status: int) -> None:
    """Behind the replies to what came before it."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET + data)
        assert (await client.reply())[0] == 200
        code, headers, _ = await client.reply()
        assert (code, headers[b"connection"]) == (status, b"close")
        assert await client.rest() == b""
        assert len(served.rejected) == 1
        assert len(served.port.submissions) == 1

    serve(HttpListener, scenario)


def test_a_client_that_does_not_read_its_replies_is_cut_off() -> None:
    """Bounded memory; the others are served on."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WRITE_BYTES_MAX + bytes(WRITE_BYTES_MAX)

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.writer.transport.pause_reading()
        client.send(GET * 8)
        await until(lambda: bool(served.rejected))
        assert served.rejected == [f"more than {WRITE_BYTES_MAX} bytes of replies not read"]
        await until(lambda: not served.listener.connections)
        client.writer.transport.resume_reading()

    serve(HttpListener, scenario, lambda _: (Outcome.ANSWERED, large))


def test_bytes_of_incomplete_requests_are_bounded_over_all_connections() -> None:
    """A limit per connection alone would allow its product with the number of connections."""

    async def scenario(served: Served) -> None:
        served.listener.held.bytes_max = 1000
        first, second = await served.connect(), await served.connect()
        first.send(post(b"a" * 900)[:-1])
        await until(lambda: served.listener.held.byte_count > 900)
        second.send(post(b"b" * 900)[:-1])
        assert (await second.reply())[0] == 503
        assert served.rejected == ["more than 1000 bytes of incomplete requests"]
        await second.close()
        first.send(b"a")
        assert (await first.reply())[0] == 200
        await until(lambda: served.listener.held.byte_count == 0)

    serve(HttpListener, scenario)


def test_a_listener_that_closes_ends_its_connections() -> None:
    """The server stops."""

    async def scenario(served: Served) -> None:
        client = await served.connect()
        client.send(GET)
        await client.reply()
        served.listener.close()
        assert await client.rest() == b""

    serve(HttpListener, scenario)
