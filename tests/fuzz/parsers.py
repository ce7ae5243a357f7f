"""Every parser of bytes that others send, as a function of these bytes, with the errors that it documents.

Where a stream is cut must change nothing: stream parsers get each mutant whole and in two pieces, and the results are
compared.
"""

import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agreement.changes import decode_batch
from agreement.errors import MalformedMessage
from agreement.identifiers import MemberId
from agreement.messages import Accept, LogPart, Promise, decode_message
from exec_wrapper.errors import LinkClosed, WrapperError
from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.framing import FrameDecoder, decode_from_wrapper, decode_to_wrapper
from exec_wrapper.service_adapter import RequestContext
from exec_wrapper.session import Session
from exec_wrapper.wire import WireError
from replica_manager.cell.entries import EntryError, decode_entry
from replica_manager.control.admin_http import read_request_line
from replica_manager.control.control_messages import GarbageRequest, decode_request
from replica_manager.control.errors import RequestRefused
from replica_manager.control.event_log import EventLog
from replica_manager.control.event_stream import events_handler
from replica_manager.execution.wrapper_session import WrapperLimits, WrapperSession
from replica_manager.intake.framed_messages import FramedError, FrameSplitter, decode_to_client, decode_to_server
from replica_manager.intake.http_framing import HttpFramer, HttpRejected
from replica_manager.ordering.errors import LinkRefused
from replica_manager.ordering.peer_link import GREETING_BYTES_MAX, PeerLink, split_frames
from replica_manager.state_files.errors import StateFileError
from replica_manager.state_files.state_file import read_state_file
from tests.fuzz import corpus
from tests.fuzz.corpus import EPOCH, FRAME_BYTES_MAX
from tests.ordering.peers import S0, S1, make_keys, tls_of
from tests.state_files.memory_file import Bytes

Parse = Callable[[bytes], None]
STATE_PART_BYTES_MAX = 1024
CONTEXT = RequestContext(1, 1_700_000_000_000_000, bytes(32))


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser under test."""

    name: str
    corpus: Sequence[bytes]
    parse: Parse
    """Raises one of `refusals`, or takes the bytes; anything else is a finding."""
    refusals: tuple[type[Exception], ...]


def parse_http(data: bytes) -> None:
    """The intake's message boundaries."""
    whole, rejected = _frame_http([data])
    middle = len(data) // 2
    cut = _frame_http([data[:middle], data[middle:]])
    assert cut[0] == whole, "boundaries depend on how the bytes arrive"
    assert (cut[1] is None) == (rejected is None), "whether a request is refused depends on how the bytes arrive"
    assert all(raw in data for raw in whole), "bytes were altered"
    if rejected is not None:
        raise rejected


def _frame_http(pieces: Sequence[bytes]) -> tuple[list[bytes], HttpRejected | None]:
    framer, raws = HttpFramer(FRAME_BYTES_MAX), []
    for piece in pieces:
        try:
            raws += [request.raw for request in framer.feed(piece)]
        except HttpRejected as rejected:
            return raws + [request.raw for request in rejected.requests], rejected
    return raws, None


def _framed(decode: Callable[[bytes], Any]) -> Parse:
    def parse(data: bytes) -> None:
        whole, error = _split_framed([data])
        middle = len(data) // 2
        cut = _split_framed([data[:middle], data[middle:]])
        assert cut[0] == whole, "frames depend on how the bytes arrive"
        assert (cut[1] is None) == (error is None), "whether a frame is refused depends on how the bytes arrive"
        for body in whole:
            decode(body)
        if error is not None:
            raise error

    return parse


def _split_framed(pieces: Sequence[bytes]) -> tuple[list[bytes], FramedError | None]:
    splitter, bodies = FrameSplitter(FRAME_BYTES_MAX), []
    for piece in pieces:
        try:
            bodies += splitter.feed(piece)
        except FramedError as error:
            return bodies + list(error.bodies), error
    return bodies, None


def _peer_frame() -> Parse:
    codec = corpus.peer_codec()

    def parse(data: bytes) -> None:
        for message in codec.decode(data):
            _read_batches(message)

    return parse


def _read_batches(message: Any) -> None:
    match message:
        case Accept(batch=batch):
            raws: Sequence[bytes] = (batch,)
        case LogPart(batches=batches):
            raws = batches
        case Promise(votes=votes):
            raws = [vote.batch for vote in votes]
        case _:
            return
    for raw in raws:
        for entry in decode_batch(raw).entries:
            decode_entry(entry.payload)


def parse_peer_stream(data: bytes) -> None:
    """What is inside a link, behind TLS: a greeting, then frames."""
    buffer = bytearray(data)
    split_frames(buffer, GREETING_BYTES_MAX, count_max=1)
    split_frames(buffer, FRAME_BYTES_MAX)
    assert len(buffer) <= FRAME_BYTES_MAX + 4, "more than one frame is held"


def _tls_link(context: ssl.SSLContext) -> Parse:
    def accept(_identity: str) -> MemberId:
        return S1

    def parse(data: bytes) -> None:
        link = PeerLink(context, is_dialer=False, accept=accept, frame_bytes_max=FRAME_BYTES_MAX)
        link.start()
        assert link.receive(data) == [], "frames of somebody who has not proved who it is"

    return parse


def _agreement_message(data: bytes) -> None:
    _read_batches(decode_message(data))


def parse_batch(data: bytes) -> None:
    """A slot's value, down to the entries of the replica managers."""
    for entry in decode_batch(data).entries:
        decode_entry(entry.payload)


def parse_entry(data: bytes) -> None:
    """An agreed entry."""
    decode_entry(data)


def _wrapper_frames(make: Callable[[int], FrameDecoder[Any]]) -> Parse:
    def parse(data: bytes) -> None:
        whole, error = _decode_frames(make, [data])
        middle = len(data) // 2
        cut = _decode_frames(make, [data[:middle], data[middle:]])
        assert cut[0] == whole, "messages depend on how the bytes arrive"
        assert (cut[1] is None) == (error is None), "whether a frame is refused depends on how the bytes arrive"
        if error is not None:
            raise error

    return parse


def _decode_frames(
    make: Callable[[int], FrameDecoder[Any]], pieces: Sequence[bytes]
) -> tuple[list[object], WireError | None]:
    decoder, messages = make(FRAME_BYTES_MAX), []
    for piece in pieces:
        try:
            messages += decoder.feed(piece)
        except WireError as error:
            return messages + list(error.messages), error
    return messages, None


def parse_wrapper_channel(data: bytes) -> None:
    """A domain's bytes at the manager: it never raises, and names what is wrong."""
    whole, session = _receive([data])
    middle = len(data) // 2
    cut, other = _receive([data[:middle], data[middle:]])
    assert cut == whole, "messages depend on how the bytes arrive"
    # Of several misdeeds in one piece any may be named.
    assert _is_ended(session) == _is_ended(other), "whether the connection ends depends on how the bytes arrive"
    if _is_ended(session):
        raise WireError(str(session.misbehaviour or session.failure))


def _is_ended(session: WrapperSession) -> bool:
    return session.misbehaviour is not None or session.failure is not None


def _receive(pieces: Sequence[bytes]) -> tuple[list[object], WrapperSession]:
    session = WrapperSession(EPOCH, WrapperLimits(FRAME_BYTES_MAX, STATE_PART_BYTES_MAX))
    return [message for piece in pieces for message in session.receive(piece)], session


def parse_in_the_wrapper(data: bytes) -> None:
    """A manager's bytes at the wrapper, with a service behind it."""

    def no_more_input() -> None:
        raise LinkClosed("the end")

    session = Session(KeyValueAdapter(snapshot="blocking"), "image", no_more_input, None)
    session.feed(data)
    while session.step():
        pass


def parse_service_request(data: bytes) -> None:
    """A client's bytes at the service: an exception would end every domain of the cell at the same request."""
    KeyValueAdapter().execute(data, CONTEXT)


def _control_line() -> Parse:
    log = EventLog(0, lambda: 0)
    for number in range(20):
        log.record("peer_up", number=number)
    ask_events = events_handler(log)

    def parse(data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            request = decode_request(line)
            if request.method == "events":
                ask_events(request.params)

    return parse


def parse_admin(data: bytes) -> None:
    """The head of a scraper's request."""
    read_request_line(data)


def make_parsers(stack: ExitStack) -> list[Parser]:
    """Return all parsers; keys live in a directory that `stack` removes."""
    directory = make_keys(Path(stack.enter_context(TemporaryDirectory())), members=(S0, S1))
    hellos = [_client_hello(tls_of(directory, S1).context(is_dialer=True)) for _ in range(3)]
    acceptor = tls_of(directory, S0).context(is_dialer=False)
    frames = corpus.peer_frames()
    alone = [raw for raw in (_only_message(frame) for frame in frames) if raw]
    return [
        Parser("http", corpus.http_requests(), parse_http, (HttpRejected,)),
        Parser("framed-requests", corpus.framed_requests(), _framed(decode_to_server), (FramedError,)),
        Parser("framed-answers", corpus.framed_answers(), _framed(decode_to_client), (FramedError,)),
        Parser("service-requests", corpus.service_requests(), parse_service_request, ()),
        Parser("peer-frames", frames, _peer_frame(), (LinkRefused, MalformedMessage, EntryError)),
        Parser("peer-stream", corpus.peer_stream(), parse_peer_stream, (LinkRefused,)),
        Parser("peer-tls", hellos, _tls_link(acceptor), (LinkRefused,)),
        Parser("agreement-messages", alone, _agreement_message, (MalformedMessage, EntryError)),
        Parser("agreement-batches", corpus.batches(), parse_batch, (MalformedMessage, EntryError)),
        Parser("cell-entries", corpus.cell_entries(), parse_entry, (EntryError,)),
        Parser("to-wrapper-frames", corpus.to_wrapper_stream(), _wrapper_frames(decode_to_wrapper), (WireError,)),
        Parser("from-wrapper-frames", corpus.from_wrapper_stream(), _wrapper_frames(decode_from_wrapper), (WireError,)),
        Parser("wrapper-channel", corpus.from_wrapper_stream(), parse_wrapper_channel, (WireError,)),
        Parser("wrapper", corpus.to_wrapper_stream(), parse_in_the_wrapper, (WrapperError, ValueError)),
        Parser("control-lines", corpus.control_lines(), _control_line(), (GarbageRequest, RequestRefused)),
        Parser("admin-requests", corpus.admin_requests(), parse_admin, ()),
        Parser("state-files", corpus.state_files(), parse_state_file, (StateFileError,)),
    ]


def parse_state_file(data: bytes) -> None:
    """A file that comes from anywhere."""
    state = read_state_file(Bytes(data), "f")
    assert state.part_count == len([state.part(index) for index in range(state.part_count)])


def _only_message(frame: bytes) -> bytes:
    """Return the message of a frame that has one; its array header is one byte."""
    return frame[1:] if frame[:1] == b"\x91" else b""


def _client_hello(context: ssl.SSLContext) -> bytes:
    link = PeerLink(context, is_dialer=True, accept=lambda _: S0, frame_bytes_max=FRAME_BYTES_MAX)
    link.start()
    return link.take_outgoing()
