"""`/metrics` and `/healthz` answer scrapers, survive garbage, and tell when the replica manager hangs."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replica_manager.config_addresses import Address
from replica_manager.control.admin_http import CONNECTIONS_MAX, AdminServer
from replica_manager.control.errors import ProcessError
from tests.control.conftest import LoopThread


class Administered:
    """An administration port in front of a status that tests change."""

    def __init__(self, loop: LoopThread) -> None:
        self.loop = loop
        self.status: dict[str, Any] = {"cell": "shop", "server": 0, "state": "serving", "delivered": 3}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.server = AdminServer(
            Address("127.0.0.1", 0), lambda: self.status, 1.0, 0.5, lambda kind, data: self.events.append((kind, data))
        )
        loop.run(self.server.open())

    def request(self, method: str, target: str) -> tuple[int, bytes, str]:
        """Return status, body and content type of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            return response.status, response.read(), response.headers["Content-Type"]
        finally:
            connection.close()

    def raw(self) -> socket.socket:
        """Connect without HTTP's manners."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=30)


@pytest.fixture
def administered(loop_thread: LoopThread) -> Iterator[Administered]:
    """A listening administration port."""
    it = Administered(loop_thread)
    yield it
    loop_thread.run(it.server.close())


def test_metrics_are_a_scrape_of_the_status(administered: Administered) -> None:
    """In the text format that Prometheus reads."""
    status, body, content_type = administered.request("GET", "/metrics?x=1")
    assert status == 200
    assert b"spare_delivered_sequence 3.0" in body
    assert content_type.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("state", "code"), [("serving", 200), ("degraded", 200), ("starting", 503), ("not_serving", 503)]
)
def test_health_is_whether_clients_are_served(administered: Administered, state: str, code: int) -> None:
    """A degraded cell still serves; a load balancer must not take it out."""
    administered.status["state"] = state
    status, body, _ = administered.request("GET", "/healthz")
    assert status == code
    assert json.loads(body)["state"] == state
    assert json.loads(body)["server"] == 0


def test_health_of_a_hanging_replica_manager_is_told_and_does_not_hang(administered: Administered) -> None:
    """The port lives in another thread than the replica manager's loop."""
    release = threading.Event()
    administered.loop.loop.call_soon_threadsafe(release.wait)
    try:
        status, body, _ = administered.request("GET", "/healthz")
        assert (status, json.loads(body)["state"]) == (503, "not_answering")
        assert administered.request("GET", "/metrics")[0] == 503
    finally:
        release.set()
    assert administered.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("method", "target", "code"), [("GET", "/", 404), ("POST", "/metrics", 405), ("HEAD", "/healthz", 200)]
)
def test_other_requests_are_answered_properly(administered: Administered, method: str, target: str, code: int) -> None:
    """HEAD has no body; what there is not, is said."""
    status, body, _ = administered.request(method, target)
    assert status == code
    assert bool(body) == (method != "HEAD")


def test_every_refusal_is_a_named_event_of_the_server(administered: Administered) -> None:
    """Recorded by the loop that owns the events, not by the thread that answers."""
    administered.request("POST", "/metrics")
    administered.request("GET", "/etc/passwd")
    with administered.raw() as connection:
        connection.sendall(b"hello\r\n\r\n")
        connection.makefile("rb").read()
    administered.loop.run(asyncio.sleep(0))
    reasons = ["only GET and HEAD", "there are /metrics and /healthz", "not an HTTP/1.1 request"]
    assert administered.events == [("admin_refused", {"reason": reason}) for reason in reasons]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_others_are_served(administered: Administered, garbage: bytes) -> None:
    """Whatever comes is a 4xx or a hang-up."""
    with administered.raw() as connection:
        connection.sendall(garbage + b"\r\n\r\n")
        assert connection.makefile("rb").readline()[:10] in (b"", b"HTTP/1.1 4")
    assert administered.request("GET", "/healthz")[0] == 200


def test_a_head_without_end_is_refused_at_the_limit(administered: Administered) -> None:
    """No client fills the memory."""
    with administered.raw() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 9000)
        assert connection.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


def test_silent_clients_are_bounded_and_dropped_in_time(administered: Administered) -> None:
    """Connections above the limit are dropped; silent ones make room after the time limit."""
    silent = [administered.raw() for _ in range(CONNECTIONS_MAX + 1)]
    assert silent[-1].recv(1) == b""
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()
    while True:
        try:
            assert administered.request("GET", "/healthz")[0] == 200
            return
        except (ConnectionError, http.client.RemoteDisconnected):
            continue


def test_an_address_that_cannot_be_used_is_an_operating_error(loop_thread: LoopThread) -> None:
    """One sentence with the address, at the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = AdminServer(Address("127.0.0.1", taken.getsockname()[1]), dict)
        with pytest.raises(ProcessError, match="cannot be used"):
            loop_thread.run(server.open())
