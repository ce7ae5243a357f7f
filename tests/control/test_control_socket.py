"""Commands get their answer over the control socket; nothing else that arrives there does harm."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replica_manager.control.control_client import ControlClient
from replica_manager.control.control_messages import REQUEST_BYTES_MAX
from replica_manager.control.control_socket import CONNECTIONS_MAX, ControlSocket
from replica_manager.control.errors import AlreadyRuns, ControlTimeout, ControlUnavailable, RequestRefused
from replica_manager.control.event_log import EventLog
from replica_manager.control.event_stream import events_handler
from tests.control.conftest import LoopThread


class Served:
    """A control socket with handlers of every sort."""

    def __init__(self, directory: Path, loop: LoopThread) -> None:
        self.path = directory / "run" / "control.sock"
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.log = EventLog(0, lambda: 0)
        self.loop = loop
        self.stopped_streams = threading.Event()
        handlers = {
            "echo": lambda params: params,
            "later": self._later,
            "never": self._never,
            "refuse": self._refuse,
            "break": lambda params: params["missing"],
            "big": lambda _params: "x" * 20_000_000,
            "count": self._count,
            "events": events_handler(self.log),
        }
        self.socket = ControlSocket(self.path, handlers, lambda kind, data: self.events.append((kind, data)))
        loop.run(self.socket.open())

    async def _later(self, params: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return params

    async def _never(self, _params: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    def _refuse(self, _params: dict[str, Any]) -> Any:
        raise RequestRefused("not_ready", "still starting", "try again")

    async def _count(self, params: dict[str, Any]) -> AsyncIterator[int]:
        try:
            for number in range(params["to"]):
                yield number
            if params.get("refuse"):
                raise RequestRefused("not_ready", "no more")
            if params.get("wait"):
                await asyncio.Event().wait()
        finally:
            self.stopped_streams.set()

    def raw(self) -> socket.socket:
        """Connect without the client's manners."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(30)
        connection.connect(str(self.path))
        return connection


@pytest.fixture
def served(tmp_path: Path, loop_thread: LoopThread) -> Iterator[Served]:
    """A listening control socket."""
    it = Served(tmp_path, loop_thread)
    yield it
    loop_thread.run(it.socket.close())


def test_socket_and_its_directory_are_private(served: Served) -> None:
    """Who may connect is the operator; nobody else."""
    assert served.path.stat().st_mode & 0o777 == 0o600
    assert served.path.parent.stat().st_mode & 0o777 == 0o700


def test_answers_come_from_plain_and_asynchronous_handlers(served: Served) -> None:
    """One connection carries any number of requests."""
    with ControlClient(served.path) as client:
        assert client.call("echo", a=1) == {"a": 1}
        assert client.call("later", b=[2]) == {"b": [2]}
        assert client.call("echo") == {}


def test_refusals_and_failures_are_answers(served: Served) -> None:
    """A handler that breaks is a named event and ends neither the connection nor the server."""
    with ControlClient(served.path) as client:
        with pytest.raises(RequestRefused, match="still starting") as refused:
            client.call("refuse")
        assert (refused.value.code, refused.value.hint) == ("not_ready", "try again")
        with pytest.raises(RequestRefused, match="KeyError") as failed:
            client.call("break")
        assert failed.value.code == "internal"
        with pytest.raises(RequestRefused, match="unknown method 'echoo'") as unknown:
            client.call("echoo")
        assert "echo" in unknown.value.hint
        with pytest.raises(RequestRefused, match="more than 16777216"):
            client.call("big")
        assert client.call("echo", still="there") == {"still": "there"}
    assert [kind for kind, _ in served.events] == ["control_handler_failed", "control_refused"]


def test_a_process_that_hangs_is_a_timeout_and_one_that_is_gone_is_unavailable(served: Served, tmp_path: Path) -> None:
    """The two have different exit codes."""
    with ControlClient(served.path, timeout_s=0.05) as client, pytest.raises(ControlTimeout):
        client.call("never")
    with pytest.raises(ControlUnavailable, match="nobody answers"):
        ControlClient(tmp_path / "none.sock")
    with ControlClient(served.path) as client:
        client.call("echo")
        served.loop.run(served.socket.close())
        with pytest.raises(ControlUnavailable, match="hung up"):
            client.call("echo")
    assert not served.path.exists()


def test_streams_end_by_themselves_by_refusal_or_by_hanging_up(served: Served) -> None:
    """The generator is always closed, so that nothing watches for a client that is gone."""
    with ControlClient(served.path) as client:
        assert list(client.stream("count", to=3)) == [0, 1, 2]
        with pytest.raises(RequestRefused, match="no more"):
            list(client.stream("count", to=1, refuse=True))
        assert client.call("echo") == {}
        served.stopped_streams.clear()
        stream = client.stream("count", to=1, wait=True)
        assert next(stream) == 0
    assert served.stopped_streams.wait(30)


def test_a_stream_ends_with_the_socket_even_while_nothing_comes(served: Served) -> None:
    """Who rejoins goes on in the same process: what an export has begun must be removed before."""
    with ControlClient(served.path, 5.0) as client:
        items = client.stream("count", to=1, wait=True)
        assert next(items) == 0
        served.loop.run(served.socket.close())
        assert served.stopped_streams.is_set()
        with pytest.raises(ControlUnavailable):
            next(items)


def test_followed_events_are_the_newest_and_then_every_new_one(served: Served) -> None:
    """`spare events -f` shows what was just there first."""
    for number in range(5):
        served.log.record("tick" if number != 3 else "tock", number=number)
    with ControlClient(served.path) as client:
        assert [event["id"] for event in client.call("events", since_id=1, limit=2)] == [2, 3]
        stream = client.stream("events", limit=2, kinds=["tick"], follow=True)
        assert [next(stream)["id"] for _ in range(2)] == [3, 5]
        served.loop.loop.call_soon_threadsafe(lambda: [served.log.record("tock"), served.log.record("tick")])
        assert next(stream)["id"] == 7
    with ControlClient(served.path) as client:
        with pytest.raises(RequestRefused, match="limit 0"):
            client.call("events", limit=0)
        with pytest.raises(RequestRefused, match="unknown field `limitt`"):
            client.call("events", limitt=0)


def test_a_second_process_of_the_same_member_is_refused_and_a_dead_socket_replaced(
    served: Served, tmp_path: Path, loop_thread: LoopThread
) -> None:
    """A socket left by `kill -9` is in nobody's way; a living one is not taken over."""
    with pytest.raises(AlreadyRuns):
        loop_thread.run(ControlSocket(served.path, {}).open())
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(dead))
    again = ControlSocket(dead, {"echo": lambda params: params})
    loop_thread.run(again.open())
    with ControlClient(dead) as client:
        assert client.call("echo") == {}
    loop_thread.run(again.close())


def test_connections_are_bounded(served: Served) -> None:
    """The one above the limit is dropped; when one leaves there is room again."""
    held = [served.raw() for _ in range(CONNECTIONS_MAX)]
    for connection in held:
        connection.sendall(b'{"id":1,"method":"echo"}\n')
        assert connection.recv(100)
    with pytest.raises((ControlUnavailable, BrokenPipeError)), ControlClient(served.path) as client:
        client.call("echo")
    for connection in held:
        connection.close()
    while True:
        try:
            with ControlClient(served.path) as client:
                assert client.call("echo") == {}
            break
        except ControlUnavailable:
            continue
    assert ("control_full", {"connections": CONNECTIONS_MAX}) in served.events


def test_a_request_without_an_end_is_refused_at_the_limit(served: Served) -> None:
    """Nobody makes the server buffer without bound."""
    with served.raw() as connection:
        connection.sendall(b"x" * (REQUEST_BYTES_MAX + 1))
        answer = json.loads(connection.makefile("rb").readline())
    assert answer["error"]["code"] == "bad_request"
    assert "65536" in answer["error"]["message"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=300), st.recursive(st.integers() | st.text(max_size=5), st.lists).map(json.dumps)))
def test_garbage_ends_its_own_connection_only(served: Served, garbage: bytes | str) -> None:
    """Whole or not a request: the answer is an error or a hang-up, and others are served."""
    content = garbage if isinstance(garbage, bytes) else garbage.encode()
    with served.raw() as connection:
        connection.sendall(content + b"\n")
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    assert not answer or "error" in json.loads(answer)
    with ControlClient(served.path) as client:
        assert client.call("echo", ok=True) == {"ok": True}


def test_deep_nesting_is_garbage_too(served: Served) -> None:
    """A parser's recursion limit is not the server's end."""
    with served.raw() as connection:
        connection.sendall(b"[" * 60_000 + b"\n")
        assert b"bad_request" in connection.makefile("rb").readline()
