"""The adapter's two connections to the upper tiers, against a web server and an update manager that misbehave."""

import selectors
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rubis_adapter.errors import ServiceFailed
from rubis_adapter.update_manager.channel import UpdateReceiver, UpdateSender
from rubis_adapter.update_manager.manager import UPDATE_BYTES_MAX
from rubis_adapter.web_client import BODY_BYTES_MAX, HEAD_BYTES_MAX, WebClient

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Spare-Update: 1\r\n\r\npage"
Answer = Callable[[socket.socket], None]


class Tiers:
    """A web server that answers as it is told, and the adapter's ends of both connections."""

    def __init__(self, directory: Path) -> None:
        self.update_path = directory / "updates.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "web.sock"))
        self._listener.listen(4)
        self._selector = selectors.DefaultSelector()
        self._receiver = UpdateReceiver(self.update_path, self._selector, 0, 0)
        self.client = WebClient(directory / "web.sock", self._selector, self._receiver, timeout_seconds=5.0)
        self._threads: list[threading.Thread] = []

    def answer(self, *answers: Answer) -> None:
        """Serves one connection: one request for each answer."""

        def serve() -> None:
            connection, _ = self._listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(65536)
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        self.client.close()
        self._receiver.close()
        self._selector.close()
        self._listener.close()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def tiers() -> Iterator[Tiers]:
    with tempfile.TemporaryDirectory(prefix="rubis-web-") as directory:
        made = Tiers(Path(directory))
        yield made
        made.close()


def sending(*pieces: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return answer


def test_a_reply_may_come_in_pieces_and_one_connection_serves_many_requests(tiers: Tiers) -> None:
    tiers.answer(sending(PAGE[:10], PAGE[10:60], PAGE[60:]), sending(PAGE))
    for _ in range(2):
        reply = tiers.client.exchange(REQUEST)
        assert (reply.status, reply.body, reply.headers["x-spare-update"]) == (200, b"page", "1")


def test_a_connection_that_is_closed_between_requests_is_replaced(tiers: Tiers) -> None:
    tiers.answer(sending(PAGE))
    assert tiers.client.exchange(REQUEST).body == b"page"
    tiers._threads[0].join(30)
    tiers.answer(sending(PAGE))
    assert tiers.client.exchange(REQUEST).body == b"page"


def test_a_server_that_announces_the_end_of_its_connection_is_left(tiers: Tiers) -> None:
    closing = PAGE.replace(b"X-Spare", b"Connection: close\r\nX-Spare")
    tiers.answer(sending(closing))
    tiers.answer(sending(closing))
    for _ in range(2):
        assert tiers.client.exchange(REQUEST).body == b"page"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        PAGE[:-1],
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"x" * (HEAD_BYTES_MAX + 1),
    ],
)
def test_a_broken_reply_is_a_failure(tiers: Tiers, reply: bytes) -> None:
    tiers.answer(sending(reply))
    with pytest.raises(ServiceFailed):
        tiers.client.exchange(REQUEST)


def test_nobody_at_the_other_end_is_a_failure() -> None:
    with tempfile.TemporaryDirectory(prefix="rubis-web-") as directory:
        tiers = Tiers(Path(directory))
        (Path(directory) / "web.sock").unlink()
        with pytest.raises(ServiceFailed, match=r"web\.sock"):
            tiers.client.exchange(REQUEST)
        tiers.close()


def test_an_update_larger_than_a_sockets_buffer_blocks_nobody(tiers: Tiers) -> None:
    """The application sends it before it answers."""
    update = bytes(UPDATE_BYTES_MAX)
    sender = UpdateSender(tiers.update_path)

    def answer(connection: socket.socket) -> None:
        sender.send(7, update)
        connection.sendall(PAGE)

    tiers.answer(answer)
    tiers.client.exchange(REQUEST)
    assert tiers.client.await_update(7) == update
    sender.close()


def test_an_update_of_another_request_is_not_taken_for_this_one(tiers: Tiers) -> None:
    """A request that failed half-way may have left one behind."""
    sender = UpdateSender(tiers.update_path)

    def answer(connection: socket.socket) -> None:
        sender.send(6, b"older")
        sender.send(7, b"wanted")
        connection.sendall(PAGE)

    tiers.answer(answer)
    tiers.client.exchange(REQUEST)
    assert tiers.client.await_update(7) == b"wanted"
    sender.close()


@pytest.mark.parametrize("length", [0, 7, 8 + UPDATE_BYTES_MAX + 1, 2**32 - 1])
def test_a_frame_of_impossible_length_is_a_failure(tiers: Tiers, length: int) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tiers.update_path))
        connection.sendall(struct.pack(">IQ", length, 7))
        with pytest.raises(ServiceFailed, match="frame"):
            tiers.client.await_update(7)


def test_a_sender_finds_a_receiver_that_was_restarted() -> None:
    with tempfile.TemporaryDirectory(prefix="rubis-web-") as directory:
        path = Path(directory) / "updates.sock"
        sender = UpdateSender(path)
        for sequence in (1, 2):
            selector = selectors.DefaultSelector()
            receiver = UpdateReceiver(path, selector, 0, 0)
            sender.send(sequence, b"update")
            while (update := receiver.take(sequence)) is None:
                for key, _ in selector.select(timeout=5):
                    assert isinstance(key.fileobj, socket.socket)
                    receiver.receive(key.fileobj)
            assert update == b"update"
            receiver.close()
            selector.close()
        sender.close()
