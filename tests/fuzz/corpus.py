"""The traffic that is mutated, channel by channel: real bytes of real encoders, made at the start."""

from collections.abc import Sequence

import msgspec

from agreement.changes import Batch, Entry, ServerJoined, ServerLeft, encode_batch
from agreement.messages import Message
from exec_wrapper.encoding import encode_frame
from exec_wrapper.examples import key_value_commands as commands
from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.session import Session
from exec_wrapper.wire import (
    ApplyUpdates,
    CancelState,
    Execute,
    Failed,
    Hello,
    NextPart,
    Ping,
    SetPart,
    SetState,
    Sync,
    TakeState,
    ToWrapper,
)
from replica_manager.cell import entries
from replica_manager.control import control_messages
from replica_manager.intake import framed_messages
from replica_manager.ordering.peer_codec import PeerCodec
from replica_manager.ordering.peer_link import GREETING, join_frames
from replica_manager.peer_messages import (
    FetchPart,
    FetchResult,
    Part,
    PeerMessage,
    Position,
    Presence,
    Relay,
    Result,
    StableNotice,
    StateDigests,
    Votes,
)
from tests.fuzz.recorded_agreement import rare_messages, record_agreement
from tests.state_files.memory_file import file_of

FRAME_BYTES_MAX = 8 * 1024
"""Limit of the parsers under test: small, so that mutants of a few kilobytes cross it."""
EPOCH = b"0123456789abcdef"
CLIENT = (17).to_bytes(8) + bytes(range(16))


def service_requests() -> list[bytes]:
    """What clients of the key-value service ask."""
    return [
        commands.encode_set(b"key", b"value"),
        commands.encode_get(b"key"),
        commands.encode_append(b"key", b"more" * 30),
        commands.encode_delete(b"key"),
        commands.encode_compare_and_set(b"key", b"new", b"value"),
        commands.encode_compare_and_set(b"key", b"new", None),
        commands.encode_scan(b"", 100),
        commands.encode_echo(b"x" * 100),
        commands.encode_stamp(b"when"),
    ]


def http_requests() -> list[bytes]:
    """What HTTP clients send, alone and in a row."""
    get = b"GET /items?id=1&x=%20 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: a/1\r\nAccept: */*\r\n\r\n"
    post = (
        b"POST /bid HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 27\r\nConnection: keep-alive\r\n\r\nitem=17&bid=100&user=alice1"
    )
    chunked = (
        b"POST /sell HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\nwiki\r\n5;a=b\r\npedia\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    )
    old = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    asking = b"PUT /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    last = b"HEAD /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: a=b; c=d\r\n\r\n"
    return [get, post, chunked, old, asking, last, b"\r\n" + get, get + post, post + chunked + get]


def framed_requests() -> list[bytes]:
    """What clients of the framed protocol send."""
    opening = framed_messages.encode(framed_messages.OpenClient(1 << 40))
    requests = [
        framed_messages.encode(framed_messages.Request(CLIENT, number + 1, payload))
        for number, payload in enumerate(service_requests())
    ]
    return [opening, *requests, opening + requests[0], b"".join(requests[:4])]


def framed_answers() -> list[bytes]:
    """What a server sends to its clients."""
    opened = framed_messages.encode(framed_messages.ClientOpened(1 << 40, CLIENT))
    refused = framed_messages.encode(framed_messages.ClientOpened(2, b""))
    replies = [
        framed_messages.encode(framed_messages.Reply(CLIENT, 3, outcome, b"reply" * outcome)) for outcome in range(7)
    ]
    return [opened, refused, *replies, opened + replies[0]]


def cell_entries() -> list[bytes]:
    """What managers have ordered."""
    made: list[entries.CellEntry] = [
        entries.OpenClient(bytes(range(16)), 5),
        *(entries.Request(CLIENT, 1, 1_700_000_000_000_000, bytes(16), payload) for payload in service_requests()[:3]),
        entries.Stopped("s0.g1", "its channel ended: link_closed", 17),
        entries.Offer("s1.g2", 3, 18),
        entries.Progress(1000, 990, 950, 0, b""),
        entries.Progress(3000, 2990, 2950, 2048, bytes(range(32))),
        entries.RecoveryPoint("checkpoint", 44, 1 << 50),
        entries.PointClosed(45, [("s0.g1", bytes(32)), ("s1.g1", bytes(32))]),
        entries.Stalled(17, 18, ["s0.g1"], 1, True),
        entries.Convicted("s1.g1", 17, "its vote on 17 differs", 18),
        entries.Suspected("s1.g1", "no vote on 17 in time", 18),
        entries.Promote("s1.g2", 19),
        entries.Demote("s1.g2", 20),
        entries.RepairPoint(["s1.g3"], 0, 21),
        entries.DomainReady("s1.g3", 22, 30),
        entries.Resolve(17, "skip", 1 << 50),
        entries.Consent(17, True, True),
        entries.RestartBegun(31),
        entries.Restarted("s1.g3", 30, 31, 1_700_000_000_000_000),
        entries.RecoveryPoint("recovery", 40, 2),
        entries.RecoveryBegun("resilient", 2, 1 << 50),
        entries.NextBooted("s1.g4", 2),
        entries.Switch("s1.g4", 41),
        entries.RecoveryAborted(2, "states do not come in time"),
    ]
    return [entries.encode_entry(entry) for entry in made]


def batches() -> list[bytes]:
    """What slots hold."""
    agreed = tuple(Entry(number % 2, 1, number + 1, raw) for number, raw in enumerate(cell_entries()))
    return [
        encode_batch(Batch(agreed)),
        encode_batch(Batch(agreed[:2], ServerLeft(1, False))),
        encode_batch(Batch((), ServerJoined(1, 9, b"s1.g3 s1.g4"))),
        encode_batch(Batch()),
    ]


def peer_messages() -> list[PeerMessage]:
    """Every kind of message between members, recorded or with all fields set."""
    payloads = cell_entries()
    digest = bytes(range(32))
    agreement: list[Message] = record_agreement(payloads) + rare_messages(payloads)
    return [
        *agreement,
        Votes("s1.g1", [17, 18, 20], digest * 3),
        StableNotice([17, 18], digest * 2),
        FetchResult(17, digest),
        Result(17, b"reply" * 20, b"update"),
        StateDigests("s1.g2", 100, 3, [digest] * 4, True, digest),
        Position(1000, 998),
        FetchPart(100, "s1.g2", 3),
        Part(100, "s1.g2", 3, b"part of a state"),
        Presence("learning", 1000),
        Relay(payloads[0]),
    ]


def peer_codec() -> PeerCodec[PeerMessage]:
    """The codec of the peer channel, with the limit of this corpus."""
    return PeerCodec(PeerMessage, FRAME_BYTES_MAX)


def peer_frames() -> list[bytes]:
    """Frames between members: each message alone, and many together."""
    codec = peer_codec()
    encoded = [codec.encode(message) for message in peer_messages()]
    return [*(frame for one in encoded for frame in codec.frames([one])), *codec.frames(encoded[-40:])]


def peer_stream() -> list[bytes]:
    """Frames as they follow each other inside a link."""
    frames = peer_frames()
    return [
        join_frames([GREETING, *frames[:2]]),
        *(join_frames(frames[index : index + 3]) for index in range(0, 60, 3)),
    ]


def _conversation() -> list[ToWrapper]:
    payloads = service_requests()
    executes = [
        Execute(number, number + 1, 1_700_000_000_000_000 + number, bytes(32), payload)
        for number, payload in enumerate(payloads)
    ]
    count = len(executes)
    update = b"P" + commands.encode_field(b"key") + commands.encode_field(b"value")
    applied = ApplyUpdates(count, count + 3, ((count + 1, update), (count + 3, update)))
    state = b"".join(commands.encode_field(field) for field in (b"key", b"value"))
    return [
        Ping(7),
        *executes,
        applied,
        Sync(),
        TakeState(count + 3, count + 4, 1),
        NextPart(4),
        CancelState(count + 4),
        SetState(count + 4, 1),
        SetPart(0, False, state[:9]),
        SetPart(1, True, state[9:]),
    ]


def to_wrapper_stream() -> list[bytes]:
    """What a manager sends to a wrapper: each frame behind a Hello, and a whole conversation."""
    hello = encode_frame(Hello(EPOCH, FRAME_BYTES_MAX, 1024))
    frames = [encode_frame(message) for message in _conversation()]
    return [hello, *frames, *(hello + frame for frame in frames[:3]), hello + b"".join(frames)]


def from_wrapper_stream() -> list[bytes]:
    """What a real wrapper answered to that conversation; the echo of `EPOCH` first."""
    session = Session(KeyValueAdapter(snapshot="blocking"), "image-1", _no_more_input, None)
    session.feed(encode_frame(Hello(EPOCH, FRAME_BYTES_MAX, 1024)))
    for message in _conversation():
        session.feed(encode_frame(message))
    answers: list[bytes] = []
    while session.step():
        answers.append(session.take_output())
    answers = [answer for answer in answers if answer]
    failed = encode_frame(Failed("the service broke"))
    hello = answers[0]
    return [*answers, *(hello + answer for answer in answers[1:]), hello + b"".join(answers[1:]), hello + failed]


def _no_more_input() -> None:
    raise AssertionError("the whole state was fed")


def control_lines() -> list[bytes]:
    """What operators' commands send."""
    asked: Sequence[tuple[str, dict[str, object]]] = [
        ("status", {}),
        ("explain", {"sequence": 17}),
        ("events", {"since_id": 3, "limit": 50, "kinds": ["peer_up", "client_rejected"], "follow": False}),
        ("events", {"limit": 10}),
        ("nonsense", {"a": [1, 2.5, None, True, {"b": "c"}]}),
    ]
    lines = [
        control_messages.encode(control_messages.Request(number, method, dict(params)))
        for number, (method, params) in enumerate(asked)
    ]
    return [*lines, b"".join(lines), msgspec.json.encode({"id": 1, "method": "status"}) + b"\n"]


def admin_requests() -> list[bytes]:
    """What scrapers and load balancers send."""
    return [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /metrics?a=b HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nUser-Agent: Prometheus\r\n\r\n",
        b"HEAD /healthz HTTP/1.0\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ]


def state_files() -> list[bytes]:
    """Whole ones, of one and of many parts."""
    return [file_of([b""]), file_of([b"row %d" % number for number in range(40)]), file_of([bytes(4096), b"end"])]
