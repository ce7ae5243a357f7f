"""The live ports of a cell: how each is reached, what is thrown at it, and which throws a server must name."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agreement.identifiers import MemberId
from replica_manager.control.control_messages import GarbageRequest, decode_request
from replica_manager.intake.framed_messages import HEADER_BYTES_MAX, FramedError, FrameSplitter, decode_to_server
from replica_manager.intake.http_framing import HttpFramer, HttpRejected
from replica_manager.ordering.errors import LinkRefused
from replica_manager.ordering.peer_codec import PeerCodec
from replica_manager.ordering.peer_link import GREETING, GREETING_BYTES_MAX, PeerLink, join_frames, split_frames
from replica_manager.ordering.peer_transport import FRAME_BYTES_MAX
from replica_manager.peer_messages import PeerMessage
from replica_manager.server_settings import request_bytes_max
from tests.fuzz import corpus
from tests.fuzz.live_cell import CONNECTIONS_MAX, LiveCell

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ANSWER_TIMEOUT_S = 60.0
PIECE_BYTES = 64 * 1024
BEYOND = 30
"""Connections above the limit in a flood."""
LEFT_OUT = ("stop", "checkpoint")
"""Commands that a mutant of another one may become, and that would be obeyed."""
W0, S1 = MemberId.witness(0), MemberId.server(1)
_codec: PeerCodec[PeerMessage] = PeerCodec(PeerMessage, FRAME_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Port:
    """One kind of port."""

    name: str
    corpus: Sequence[bytes]
    connect: Callable[[int], Coroutine[Any, Any, Streams]]
    """To a server, by its number."""
    may_throw: Callable[[bytes], bool]
    """Whether a mutant is garbage: what a trusted member or an operator says in good form is obeyed."""
    count_named: Callable[[bytes, bytes], int]
    """How many refusals of this mutant, answered so, must be events."""
    kinds: tuple[str, ...]
    """Names of these events."""
    servers: tuple[int, ...] = (0, 1)
    """Whom it belongs to; thrown at in turn."""
    has_half_close: bool = True


def client_port(cell: LiveCell) -> Port:
    """Clients: framed or HTTP, as the cell speaks."""
    limit = request_bytes_max(cell.config)
    is_http = cell.config.service.listen == "http"

    def count_named(mutant: bytes, _answer: bytes) -> int:
        return _rejects_http(mutant, limit) if is_http else _rejects_framed(mutant, limit)

    samples = corpus.http_requests() if is_http else corpus.framed_requests()
    name = "client port, HTTP" if is_http else "client port, framed"
    return Port(name, samples, _to(cell.client_address), _anything, count_named, ("client_rejected",))


def control_port(cell: LiveCell) -> Port:
    """Operators: the control socket."""

    async def connect(server: int) -> Streams:
        return await asyncio.open_unix_connection(cell.control_socket(server))

    kinds = ("control_garbage", "control_refused")
    return Port("control socket", corpus.control_lines(), connect, _obeys_nobody, _count_refused_commands, kinds)


def admin_port(cell: LiveCell) -> Port:
    """Scrapers: the administration port."""

    def count_named(_mutant: bytes, answer: bytes) -> int:
        return int(answer.startswith(b"HTTP/1.1 4"))

    return Port(
        "administration port",
        corpus.admin_requests(),
        _to(cell.admin_address),
        _anything,
        count_named,
        ("admin_refused",),
    )


def peer_port(cell: LiveCell) -> Port:
    """Whoever reaches the private network, without a certificate."""
    acceptor = cell.tls_of(MemberId.server(0)).context(is_dialer=False)
    dialer = PeerLink(
        cell.tls_of(W0).context(is_dialer=True), is_dialer=True, accept=lambda _: W0, frame_bytes_max=FRAME_BYTES_MAX
    )
    dialer.start()
    hello = dialer.take_outgoing()

    def count_named(mutant: bytes, _answer: bytes) -> int:
        link = PeerLink(acceptor, is_dialer=False, accept=lambda _: W0, frame_bytes_max=FRAME_BYTES_MAX)
        link.start()
        try:
            link.receive(mutant)
        except LinkRefused:
            return 1
        return 0

    samples = [hello, hello, *corpus.peer_stream()]
    return Port("peer port, no certificate", samples, _to(cell.peer_address), _anything, count_named, ("peer_refused",))


def member_port(cell: LiveCell, member: MemberId) -> Port:
    """A member with a good certificate whose frames are garbage; server 1 reaches server 0 only."""
    context = cell.tls_of(member).context(is_dialer=True)

    async def connect(server: int) -> Streams:
        return await asyncio.open_connection(*cell.peer_address(server), ssl=context, server_hostname="member")

    samples = [join_frames([GREETING, frame]) for frame in corpus.peer_frames()]
    name = f"peer port, as {member}"
    servers = (0,) if member.is_server else (0, 1)
    return Port(name, samples, connect, _is_refused_at_once, _always, ("peer_refused",), servers, has_half_close=False)


def _to(address: Callable[[int], tuple[str, int]]) -> Callable[[int], Coroutine[Any, Any, Streams]]:
    async def connect(server: int) -> Streams:
        return await asyncio.open_connection(*address(server))

    return connect


def _anything(_mutant: bytes) -> bool:
    return True


def _always(_mutant: bytes, _answer: bytes) -> int:
    return 1


def _rejects_http(mutant: bytes, limit: int) -> int:
    try:
        HttpFramer(limit).feed(mutant)
    except HttpRejected:
        return 1
    return 0


def _rejects_framed(mutant: bytes, limit: int) -> int:
    try:
        bodies: Sequence[bytes] = FrameSplitter(limit + HEADER_BYTES_MAX).feed(mutant)
        for body in bodies:
            decode_to_server(body)
    except FramedError:
        return 1
    return 0


def _obeys_nobody(mutant: bytes) -> bool:
    for line in mutant.splitlines(keepends=True):
        try:
            if decode_request(line).method in LEFT_OUT:
                return False
        except GarbageRequest:
            continue
    return True


def _count_refused_commands(_mutant: bytes, answer: bytes) -> int:
    count = 0
    for line in answer.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            error = msgspec.json.decode(line, type=dict[str, Any]).get("error") or {}
            count += error.get("code") in ("bad_request", "not_found")
    return count


def _is_refused_at_once(stream: bytes) -> bool:
    """Whether the first thing in a stream that is complete is refused: anything before it would be believed."""
    buffer = bytearray(stream)
    try:
        for greeting in split_frames(buffer, GREETING_BYTES_MAX, count_max=1):
            if greeting != GREETING:
                return True
            for frame in split_frames(buffer, FRAME_BYTES_MAX, count_max=1):
                _codec.decode(frame)
    except LinkRefused:
        return True
    return False


async def throw(port: Port, server: int, mutant: bytes) -> int:
    """Throw one mutant, wait until the server has hung up; return how many refusals it must have named."""
    reader, writer = await port.connect(server)
    answer = b""
    try:
        writer.write(mutant)
        if port.has_half_close:
            writer.write_eof()
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while piece := await reader.read(PIECE_BYTES):
                answer += piece
    except (ConnectionError, ssl.SSLError):
        pass  # it hung up before it had read everything
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return port.count_named(mutant, answer)


async def flood(cell: LiveCell, server: int) -> int:
    """Take all client connections of a server, and some more; return how many it must have refused by name."""
    streams = [await asyncio.open_connection(*cell.client_address(server)) for _ in range(CONNECTIONS_MAX + BEYOND)]
    reads = [asyncio.ensure_future(reader.read(1)) for reader, _ in streams]
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while sum(read.done() for read in reads) < BEYOND:
                await asyncio.wait([read for read in reads if not read.done()], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for read, (_, writer) in zip(reads, streams, strict=True):
            read.cancel()
            writer.close()
        await asyncio.gather(*reads, *(writer.wait_closed() for _, writer in streams), return_exceptions=True)
    return BEYOND
