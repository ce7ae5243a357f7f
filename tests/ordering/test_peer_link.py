"""The core of a link: two of them, joined in memory, and hostile bytes."""

import contextlib
import ssl
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import LinkRefused, RefusalReason
from replica_manager.ordering.peer_link import PeerLink, join_frames, split_frames
from tests.ordering.peers import S0, S1, make_keys, tls_of

FRAME_BYTES_MAX = 100_000


@lru_cache(maxsize=1)
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of server 1 (dials) and server 0 (accepts); made once, keys are slow."""
    with TemporaryDirectory() as directory:
        path = make_keys(Path(directory), members=(S0, S1))
        return tls_of(path, S1).context(is_dialer=True), tls_of(path, S0).context(is_dialer=False)


def accept(identity: str) -> MemberId:
    return {"spare://shop/server-0": S0, "spare://shop/server-1": S1}[identity]


def make_pair() -> tuple[PeerLink, PeerLink]:
    dialer, acceptor = contexts()
    return (
        PeerLink(dialer, is_dialer=True, accept=accept, frame_bytes_max=FRAME_BYTES_MAX),
        PeerLink(acceptor, is_dialer=False, accept=accept, frame_bytes_max=FRAME_BYTES_MAX),
    )


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def single_bytes(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def pump(first: PeerLink, second: PeerLink, cut: Callable[[bytes], Iterator[bytes]] = whole) -> list[list[bytes]]:
    """Carry bytes both ways until none are left; return what either end received."""
    received: list[list[bytes]] = [[], []]
    while True:
        outgoing = [first.take_outgoing(), second.take_outgoing()]
        if not any(outgoing):
            return received
        for index, link in ((1, second), (0, first)):
            for piece in cut(outgoing[1 - index]):
                received[index] += link.receive(piece)


def open_pair(cut: Callable[[bytes], Iterator[bytes]] = whole) -> tuple[PeerLink, PeerLink]:
    dialer, acceptor = make_pair()
    dialer.start()
    acceptor.start()
    pump(dialer, acceptor, cut)
    return dialer, acceptor


@pytest.mark.parametrize("cut", [whole, single_bytes])
def test_both_ends_open_and_know_each_other(cut: Callable[[bytes], Iterator[bytes]]) -> None:
    dialer, acceptor = open_pair(cut)
    assert (dialer.is_open, dialer.member, acceptor.is_open, acceptor.member) == (True, S0, True, S1)


def test_a_dialer_is_not_open_before_the_acceptor_has_greeted() -> None:
    """In TLS 1.3 its handshake is complete before its certificate was looked at."""
    dialer, acceptor = make_pair()
    dialer.start()
    acceptor.receive(dialer.take_outgoing())
    dialer.receive(acceptor.take_outgoing())
    assert dialer.member == S0
    assert not dialer.is_open
    acceptor.receive(dialer.take_outgoing())
    assert acceptor.is_open
    dialer.receive(acceptor.take_outgoing())
    assert dialer.is_open


@settings(max_examples=50, deadline=None)
@given(frames=st.lists(st.binary(min_size=1, max_size=40_000), max_size=8), sizes=st.lists(st.integers(1, 9000)))
def test_frames_survive_any_cutting(frames: list[bytes], sizes: list[int]) -> None:
    def cut(data: bytes) -> Iterator[bytes]:
        position = 0
        for size in sizes:
            yield data[position : position + size]
            position += size
        yield data[position:]

    dialer, acceptor = open_pair()
    if frames:
        dialer.send(frames)
    assert pump(dialer, acceptor, cut)[1] == frames


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(min_size=1, max_size=400), is_dialer=st.booleans(), is_whole=st.booleans())
def test_garbage_instead_of_a_handshake_is_refused_or_waits(garbage: bytes, is_dialer: bool, is_whole: bool) -> None:
    """Nothing but `LinkRefused` ever comes out, and the link never opens."""
    link = make_pair()[0 if is_dialer else 1]
    link.start()
    reasons = set()
    for piece in [garbage] if is_whole else single_bytes(garbage):
        try:
            assert link.receive(piece) == []
        except LinkRefused as refusal:
            reasons.add(refusal.reason)
            break
    assert reasons <= {RefusalReason.TLS}
    assert not link.is_open


@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(min_size=1, max_size=400), position=st.integers(0, 2000))
def test_garbage_inside_the_stream_ends_the_link(garbage: bytes, position: int) -> None:
    """TLS notices every changed byte: no frame that was not sent ever comes out."""
    dialer, acceptor = open_pair()
    dialer.send([b"a" * 700, b"b" * 700])
    stream = dialer.take_outgoing()
    position = min(position, len(stream))
    received: list[bytes] = []
    with contextlib.suppress(LinkRefused):
        received = acceptor.receive(stream[:position] + garbage + stream[position:])
    assert received in ([], [b"a" * 700, b"b" * 700])


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (b"\0\0\0\0", RefusalReason.FRAME_EMPTY),
        (struct.pack(">I", FRAME_BYTES_MAX + 1), RefusalReason.FRAME_TOO_LARGE),
        (b"\xff" * 4, RefusalReason.FRAME_TOO_LARGE),
    ],
)
def test_a_bad_length_is_refused_before_its_bytes_come(plain: bytes, reason: RefusalReason) -> None:
    dialer, acceptor = open_pair()
    dialer._tls.write(plain)
    with pytest.raises(LinkRefused) as refusal:
        acceptor.receive(dialer.take_outgoing())
    assert refusal.value.reason is reason


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"spare-peer 2", RefusalReason.PROTOCOL),
        (b"x", RefusalReason.PROTOCOL),
        (b"y" * 65, RefusalReason.FRAME_TOO_LARGE),
    ],
)
def test_another_greeting_is_refused(greeting: bytes, reason: RefusalReason) -> None:
    dialer, acceptor = make_pair()
    dialer.start()
    acceptor.receive(dialer.take_outgoing())
    dialer._incoming.write(acceptor.take_outgoing())
    dialer._tls.do_handshake()
    dialer._tls.write(join_frames([greeting]))
    with pytest.raises(LinkRefused) as refusal:
        acceptor.receive(dialer.take_outgoing())
    assert refusal.value.reason is reason


def test_frames_right_behind_the_greeting_are_kept() -> None:
    dialer, acceptor = make_pair()
    dialer.start()
    acceptor.receive(dialer.take_outgoing())
    dialer.receive(acceptor.take_outgoing())
    dialer._tls.write(join_frames([b"early" * 20, b"bird"]))
    assert acceptor.receive(dialer.take_outgoing()) == [b"early" * 20, b"bird"]


def test_a_good_end_is_noticed() -> None:
    dialer, acceptor = open_pair()
    dialer.send([b"last"])
    with pytest.raises(ssl.SSLWantReadError):
        dialer._tls.unwrap()
    assert acceptor.receive(dialer.take_outgoing()) == [b"last"]
    assert acceptor.is_ended


def test_split_stops_at_the_count() -> None:
    buffer = bytearray(join_frames([b"a", b"bb", b"ccc"]) + b"\0\0")
    assert split_frames(buffer, 10, count_max=1) == [b"a"]
    assert split_frames(buffer, 10) == [b"bb", b"ccc"]
    assert buffer == b"\0\0"
