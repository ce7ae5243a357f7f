"""Framed requests to an HTTP service: what the HTTP listener would refuse is not ordered on this way either."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_manager.identifiers import ClientId
from replica_manager.intake.http_payloads import HttpPayloads, is_one_request
from replica_manager.intake.port import Outcome, ReplySink, Submission
from tests.intake.test_http_listener import GET, post

REQUEST_BYTES_MAX = 1000
CLIENT = ClientId(b"c" * 24)


class Recorder:
    """A port and a sink that remember."""

    def __init__(self) -> None:
        self.submitted: list[Submission] = []
        self.replies: list[tuple[ClientId, int, Outcome, bytes]] = []
        self.calls: list[str] = []

    def open_client(self, sink: ReplySink, token: int) -> None:
        self.calls.append(f"open {token}")

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        self.submitted.append(submission)

    def forget(self, sink: ReplySink) -> None:
        self.calls.append("forget")

    def client_opened(self, token: int, client: ClientId | None) -> None:
        raise AssertionError("the real port says this")

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        self.replies.append((client, number, outcome, reply))


@pytest.mark.parametrize("payload", [GET, post(b"hello"), post(b"")])
def test_one_request_is_ordered_as_it_is(payload: bytes) -> None:
    """Both ways order the same bytes."""
    recorder = Recorder()
    HttpPayloads(recorder, REQUEST_BYTES_MAX).submit(recorder, Submission(CLIENT, 1, payload))
    assert recorder.submitted == [Submission(CLIENT, 1, payload)]
    assert recorder.replies == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        GET + GET,
        GET[:-1],
        b"\r\n" + GET,
        GET + b"x",
        GET.replace(b"\r\n", b"\n"),
        post(b"hello")[:-1],
        b"\x80" * 9,
    ],
)
def test_anything_else_is_refused_by_name(payload: bytes) -> None:
    """Two requests in one payload would be two replies of the web server behind it."""
    recorder = Recorder()
    HttpPayloads(recorder, REQUEST_BYTES_MAX).submit(recorder, Submission(CLIENT, 3, payload))
    assert recorder.submitted == []
    assert recorder.replies == [(CLIENT, 3, Outcome.MALFORMED, b"")]


def test_what_is_too_large_is_left_to_the_port_which_says_so() -> None:
    """`TOO_LARGE` is more precise."""
    recorder = Recorder()
    submission = Submission(CLIENT, 1, b"x" * (REQUEST_BYTES_MAX + 1))
    HttpPayloads(recorder, REQUEST_BYTES_MAX).submit(recorder, submission)
    assert recorder.submitted == [submission]


def test_openings_and_farewells_pass() -> None:
    """Only payloads are looked at."""
    recorder = Recorder()
    payloads = HttpPayloads(recorder, REQUEST_BYTES_MAX)
    payloads.open_client(recorder, 9)
    payloads.forget(recorder)
    assert recorder.calls == ["open 9", "forget"]


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(data: bytes) -> None:
    """No exception; what is accepted is accepted alone."""
    if is_one_request(data, REQUEST_BYTES_MAX):
        assert not is_one_request(data + data, REQUEST_BYTES_MAX)
