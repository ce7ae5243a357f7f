"""Every message goes over the wire unchanged, and bytes that are no message are refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import Batch, Entry, ServerJoined, ServerLeft, WitnessReplaced, decode_batch, encode_batch
from agreement.errors import MalformedMessage
from agreement.identifiers import Ballot, MemberId
from agreement.messages import (
    Accept,
    Accepted,
    Announce,
    CatchUp,
    Decision,
    Forward,
    ForwardChange,
    Heartbeat,
    HeartbeatAck,
    LogPart,
    Message,
    Nack,
    Prepare,
    Promise,
    Release,
    Released,
    Resume,
    SnapshotPart,
    SnapshotPull,
    Starting,
    Superseded,
    VoteReport,
    decode_message,
    encode_message,
)
from tests.agreement.test_quorum import cell

BALLOT = Ballot(3, MemberId.server(1))
ENTRY = Entry(1, 2, 3, b"payload")
RAW = encode_batch(Batch((ENTRY,), ServerLeft(0, fenced=True)))
EXAMPLES: list[Message] = [
    Prepare(1, 2, BALLOT, 4, cell(2)),
    Promise(1, 2, BALLOT, 4, 0, 1, (VoteReport(5, BALLOT, RAW),)),
    Accept(1, 2, BALLOT, 0, 4, 3, RAW),
    Accept(1, 2, BALLOT, 0, 4, 3, RAW, cell(1), 2),
    Accepted(1, 2, BALLOT, 0, 4),
    Nack(1, 2, BALLOT, Ballot(9, MemberId.server(0))),
    Decision(1, 2, BALLOT, 4),
    Forward(1, 2, (ENTRY, ENTRY)),
    ForwardChange(1, 2, ServerJoined(1, 2, b"x")),
    ForwardChange(1, 2, WitnessReplaced(1, 2)),
    Heartbeat(1, 2, BALLOT, 4, 5),
    HeartbeatAck(1, 2, BALLOT, 5, 0, 4, 4, 3, 1),
    CatchUp(1, 2, 4),
    LogPart(1, 2, 4, (RAW, RAW), True, MemberId.server(0)),
    LogPart(1, 2, 4, (), True, None),
    SnapshotPart(1, 2, 77, 100, 0, 3, b"data"),
    SnapshotPull(1, 2, 77, 2),
    Superseded(1, 2, cell(1)),
    Release(2, 2, cell(1), 4),
    Released(2, 2, 4),
    Announce(1, 2),
    Starting(1, 2, 99, ((0, 5),)),
    Resume(1, 2, 99, ((0, 5), (1, 99))),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_goes_over_the_wire_unchanged(message: Message) -> None:
    """And keeps its kind: tags tell the kinds apart."""
    decoded = decode_message(encode_message(message))
    assert type(decoded) is type(message)
    assert decoded == message


def test_there_is_an_example_of_every_message() -> None:
    """A new message must be tried too."""
    assert {type(message) for message in EXAMPLES} == set(Message.__args__)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    """With the one error that says whose fault it is."""
    try:
        message = decode_message(data)
    except MalformedMessage:
        return
    assert decode_message(encode_message(message)) == message


@given(st.sampled_from(EXAMPLES), st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_message_is_refused_or_is_another_message(message: Message, index: int, value: int) -> None:
    """Never an error of another kind."""
    data = bytearray(encode_message(message))
    data[index % len(data)] = value
    for damaged in (bytes(data), bytes(data[: index % len(data)]), bytes(data) + b"\x00"):
        with contextlib.suppress(MalformedMessage):
            assert isinstance(decode_message(damaged), Message)


def test_a_batch_goes_over_the_wire_unchanged() -> None:
    """What is voted on is its bytes."""
    batch = Batch((ENTRY,), WitnessReplaced(0, 3))
    assert decode_batch(encode_batch(batch)) == batch
    with pytest.raises(MalformedMessage, match="cannot be read"):
        decode_batch(b"\xc1")
