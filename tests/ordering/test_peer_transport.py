"""The peer port against wrong certificates, wrong protocols and floods; real sockets on loopback."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agreement.identifiers import MemberId
from replica_manager.network import keys
from replica_manager.network.key_files import identity_uri
from replica_manager.ordering import peer_transport
from replica_manager.ordering.errors import RefusalReason, TransportError
from replica_manager.ordering.peer_link import join_frames
from replica_manager.ordering.peer_port import PeerRefused, PeerUnreachable
from replica_manager.ordering.peer_transport import TlsPeerTransport
from tests.ordering.peers import (
    S0,
    S1,
    W0,
    Recorder,
    addresses,
    make_expired,
    make_keys,
    make_transport,
    tls_of,
    until,
)


def refusals(recorder: Recorder) -> list[tuple[MemberId | None, RefusalReason]]:
    """What the recorder's transport refused."""
    return [(event.member, event.reason) for event in recorder.events if isinstance(event, PeerRefused)]


def run_acceptor(
    tmp_path: Path, attack: Callable[[TlsPeerTransport, Recorder, tuple[str, int]], Awaitable[None]]
) -> Recorder:
    """Server 0 with good keys; `attack` does something to its port; afterwards server 1 must still get through."""
    directory = make_keys(tmp_path / "keys")
    members = addresses(S0, S1)
    recorder = Recorder()

    async def scenario() -> None:
        victim = make_transport(S0, members, directory, recorder, handshake_timeout_s=1.0)
        await victim.open()
        await attack(victim, recorder, members[S0])
        friend = make_transport(S1, members, directory, Recorder())
        await friend.open()
        await until(lambda: victim.is_up(S1) and friend.is_up(S0))
        friend.send(S0, b"still served")
        friend.flush()
        await until(lambda: recorder.frames.get(S1) == [b"still served"])
        await friend.close()
        await victim.close()

    asyncio.run(scenario())
    return recorder


async def talk(address: tuple[str, int], data: bytes, *, wait: bool = True) -> bytes:
    """Send bytes without TLS; return what came back before the end."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    answer = await reader.read() if wait else b""
    writer.close()
    return answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 100,
        b"\x16\x03\x01\xff\xff" + b"A" * 70_000,
        bytes(range(256)) * 10,
    ],
)
def test_plain_garbage_ends_the_connection_with_an_event(tmp_path: Path, garbage: bytes) -> None:
    async def attack(_: TlsPeerTransport, recorder: Recorder, address: tuple[str, int]) -> None:
        # The rest of the garbage may arrive at a socket that is closed already.
        with contextlib.suppress(ConnectionResetError):
            await talk(address, garbage)
        await until(lambda: len(refusals(recorder)) == 1)

    assert refusals(run_acceptor(tmp_path, attack)) == [(None, RefusalReason.TLS)]


def test_a_silent_connection_ends_after_the_handshake_timeout(tmp_path: Path) -> None:
    async def attack(_: TlsPeerTransport, recorder: Recorder, address: tuple[str, int]) -> None:
        assert await talk(address, b"") == b""
        await until(lambda: len(refusals(recorder)) == 1)

    assert refusals(run_acceptor(tmp_path, attack)) == [(None, RefusalReason.HANDSHAKE_TIMEOUT)]


def test_a_flood_of_silent_connections_is_bounded(tmp_path: Path) -> None:
    async def attack(victim: TlsPeerTransport, recorder: Recorder, address: tuple[str, int]) -> None:
        flood = [socket.create_connection(address) for _ in range(80)]
        await until(lambda: len(refusals(recorder)) >= 80 - peer_transport.HANDSHAKES_MAX)
        assert len(victim._handshakes) <= peer_transport.HANDSHAKES_MAX
        for connection in flood:
            connection.close()

    reasons = {reason for _, reason in refusals(run_acceptor(tmp_path, attack))}
    assert RefusalReason.TOO_MANY_HANDSHAKES in reasons


async def dial_with(context: ssl.SSLContext, address: tuple[str, int], plain: bytes) -> None:
    """Dial with TLS, send bytes, wait for the end."""
    reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="")
    try:
        writer.write(plain)
        await reader.read()
    except (ssl.SSLError, ConnectionError):
        # An alert or a reset: the refusal that the test is about.
        pass
    writer.close()


def attack_with(
    context: ssl.SSLContext, plain: bytes = b""
) -> Callable[[TlsPeerTransport, Recorder, tuple[str, int]], Awaitable[None]]:
    async def attack(_: TlsPeerTransport, recorder: Recorder, address: tuple[str, int]) -> None:
        # The handshake itself may be refused.
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await dial_with(context, address, plain)
        await until(lambda: len(refusals(recorder)) == 1)

    return attack


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    context = tls_of(make_keys(tmp_path / "other"), S1).context(is_dialer=True)
    context.verify_mode = ssl.CERT_NONE
    assert refusals(run_acceptor(tmp_path, attack_with(context))) == [(None, RefusalReason.TLS)]


def test_no_certificate_at_all_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert refusals(run_acceptor(tmp_path, attack_with(context))) == [(None, RefusalReason.TLS)]


def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refusals(run_acceptor(tmp_path, attack_with(context))) == [(None, RefusalReason.TLS)]


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    directory = make_keys(tmp_path / "keys")
    make_expired(directory, W0)
    context = tls_of(directory, W0).context(is_dialer=True)
    recorder = run_acceptor(tmp_path, attack_with(context))
    assert refusals(recorder) == [(None, RefusalReason.TLS)]
    assert "expired" in str(recorder.events)


@pytest.mark.parametrize(
    ("member", "words"),
    [(W0, "witness-0 is no member"), (MemberId.server(7), "server-7 is no member"), (S0, "does not dial this member")],
)
def test_a_good_certificate_of_the_wrong_member_is_refused(tmp_path: Path, member: MemberId, words: str) -> None:
    directory = make_keys(tmp_path / "keys", members=(S0, S1, W0, member))
    recorder = run_acceptor(tmp_path, attack_with(tls_of(directory, member).context(is_dialer=True)))
    assert refusals(recorder) == [(None, RefusalReason.IDENTITY)]
    assert words in str(recorder.events)


def test_a_member_of_another_cell_with_the_same_authority_key_is_refused(tmp_path: Path) -> None:
    """Whoever reuses an authority for two cells still cannot mix their members."""
    directory = make_keys(tmp_path / "keys")
    key, authority = keys._load_authority(directory, "shop")
    other = keys.ec.generate_private_key(keys.ec.SECP256R1())
    names = keys.subject_names("bank", S1, ())
    certificate = keys.member_certificate(S1, other, names, key, authority, keys._utc_now(), 1)
    (tmp_path / "x.key").write_bytes(keys._key_bytes(other))
    (tmp_path / "x.crt").write_bytes(keys._certificate_bytes(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(tmp_path / "x.crt", tmp_path / "x.key")
    recorder = run_acceptor(tmp_path, attack_with(context))
    assert refusals(recorder) == [(None, RefusalReason.IDENTITY)]
    assert identity_uri("bank", S1) in str(recorder.events)


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (join_frames([b"hello"]), RefusalReason.PROTOCOL),
        (join_frames([b"spare-peer 1"]) + b"\x7f\xff\xff\xff", RefusalReason.FRAME_TOO_LARGE),
        (join_frames([b"spare-peer 1"]) + b"\0\0\0\0", RefusalReason.FRAME_EMPTY),
    ],
)
def test_a_member_that_talks_nonsense_is_ended_with_an_event(
    tmp_path: Path, plain: bytes, reason: RefusalReason
) -> None:
    directory = make_keys(tmp_path / "keys")
    context = tls_of(directory, S1).context(is_dialer=True)
    assert refusals(run_acceptor(tmp_path, attack_with(context, plain))) == [(S1, reason)]


def test_a_dialer_refuses_another_member_at_the_wanted_address(tmp_path: Path) -> None:
    """Crossed cables, or addresses swapped in one configuration file."""
    directory = make_keys(tmp_path / "keys")
    members = addresses(S0, S1, W0)
    impostor, victim = Recorder(), Recorder()

    async def scenario() -> None:
        wrong = make_transport(S1, members, directory, impostor)
        await wrong.open()
        crossed = {**members, S0: members[S1], S1: members[S0]}
        dialer = make_transport(W0, crossed, directory, victim)
        await dialer.open()
        await until(lambda: (None, RefusalReason.IDENTITY) in refusals(victim))
        assert "server-1 answers at the address of s0" in str(victim.events)
        assert not dialer.is_up(S0)
        assert not victim.log
        await dialer.close()
        await wrong.close()

    asyncio.run(scenario())


def test_a_dialer_with_an_expired_certificate_never_comes_up(tmp_path: Path) -> None:
    """The acceptor refuses after the dialer's handshake is complete; without a greeting it must not count as up."""
    directory = make_keys(tmp_path / "keys")
    make_expired(directory, S1)
    members = addresses(S0, S1)
    first, second = Recorder(), Recorder()

    async def scenario() -> None:
        acceptor = make_transport(S0, members, directory, first)
        dialer = make_transport(S1, members, directory, second)
        await acceptor.open()
        await dialer.open()
        await until(lambda: len(refusals(first)) >= 2 and len(refusals(second)) >= 1)
        assert not first.log
        assert not second.log
        keys.issue(directory, "shop", S1, always=True)
        # The renewed files are picked up without a restart.
        await until(lambda: acceptor.is_up(S1) and dialer.is_up(S0))
        await dialer.close()
        await acceptor.close()

    asyncio.run(scenario())


def test_an_unreachable_member_is_reported_once(tmp_path: Path) -> None:
    directory = make_keys(tmp_path / "keys")
    members = addresses(S0, S1)
    recorder, other = Recorder(), Recorder()

    async def scenario() -> None:
        dialer = make_transport(S1, members, directory, recorder)
        await dialer.open()
        await until(lambda: bool(recorder.events))
        acceptor = make_transport(S0, members, directory, other)
        await acceptor.open()
        await until(lambda: dialer.is_up(S0))
        await acceptor.close()
        await dialer.close()

    asyncio.run(scenario())
    assert [type(event) for event in recorder.events] == [PeerUnreachable]


def test_an_address_in_use_is_an_error_with_the_address(tmp_path: Path) -> None:
    directory = make_keys(tmp_path / "keys")
    members = addresses(S0, S1)

    async def scenario() -> None:
        with socket.create_server(members[S0]):
            transport = make_transport(S0, members, directory, Recorder())
            with pytest.raises(TransportError, match=r"peer port 127\.0\.0\.1:\d+ cannot be opened"):
                await transport.open()
            await transport.close()

    asyncio.run(scenario())


def test_missing_keys_are_an_error_with_the_files(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"server-0\.crt"):
        tls_of(tmp_path, S0)


def test_all_frames_before_a_flush_leave_in_one_write(tmp_path: Path) -> None:
    directory = make_keys(tmp_path / "keys")
    members = addresses(S0, S1)
    recorder = Recorder()

    async def scenario() -> None:
        receiver = make_transport(S0, members, directory, recorder)
        sender = make_transport(S1, members, directory, Recorder())
        await receiver.open()
        await sender.open()
        await until(lambda: sender.is_up(S0))
        for number in range(50):
            sender.send(S0, bytes([number]) * 100)
        sender.flush()
        sender.flush()
        await until(lambda: len(recorder.frames.get(S1, [])) == 50)
        assert sender.counters.write_count == 1
        await sender.close()
        await receiver.close()

    asyncio.run(scenario())
