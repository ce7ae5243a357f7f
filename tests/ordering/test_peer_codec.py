"""Messages to frames and back."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement.identifiers import Ballot, MemberId
from agreement.messages import Accept, HeartbeatAck, Message, encode_message
from replica_manager.ordering.errors import LinkRefused, MessageTooLarge, RefusalReason
from replica_manager.ordering.peer_codec import PeerCodec


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=40):
    """A message of another room on the same channel."""

    digest: bytes


FRAME_BYTES_MAX = 1000
CODEC: PeerCodec[Message | Vote] = PeerCodec(Message | Vote, FRAME_BYTES_MAX)
BALLOT = Ballot(3, MemberId.server(1))


def test_messages_of_all_rooms_share_a_frame() -> None:
    messages = [Vote(b"d"), HeartbeatAck(1, 1, BALLOT, 5, 1, 0, 4, 1), Accept(1, 1, BALLOT, 0, 7, 6, b"batch")]
    (frame,) = CODEC.frames([CODEC.encode(message) for message in messages])
    assert CODEC.decode(frame) == messages


def test_a_frame_is_an_ordinary_msgpack_array() -> None:
    for count in (1, 15, 16, 100):
        (frame,) = CODEC.frames([CODEC.encode(Vote(bytes([index]))) for index in range(count)])
        assert msgspec.msgpack.decode(frame) == [[40, bytes([index])] for index in range(count)]


def test_no_messages_no_frame() -> None:
    assert CODEC.frames([]) == []


def test_a_message_over_the_limit_is_our_own_mistake() -> None:
    with pytest.raises(MessageTooLarge, match="Vote of 1005 bytes, limit 997"):
        CODEC.encode(Vote(b"x" * 1000))


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 980), max_size=200))
def test_many_messages_are_cut_to_frames_within_the_limit_in_order(sizes: list[int]) -> None:
    messages = [Vote(bytes([index % 256]) * size) for index, size in enumerate(sizes)]
    frames = CODEC.frames([CODEC.encode(message) for message in messages])
    assert all(len(frame) <= FRAME_BYTES_MAX for frame in frames)
    assert [message for frame in frames for message in CODEC.decode(frame)] == messages


def test_more_messages_than_one_array_header_counts() -> None:
    codec: PeerCodec[Vote] = PeerCodec(Vote, 16 * 1024 * 1024)
    frames = codec.frames([codec.encode(Vote(b""))] * 70_000)
    assert [len(codec.decode(frame)) for frame in frames] == [65_535, 4_465]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x90\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x92\x29\xc4\x00",
        b"\x91\x93\x28\xc4\x00\x01",
        b"\x91" * 5000,
        msgspec.msgpack.encode({"a": 1}),
        encode_message(Accept(1, 1, BALLOT, 0, 7, 6, b"batch")),
    ],
)
def test_what_is_no_array_of_known_messages_is_refused(frame: bytes) -> None:
    with pytest.raises(LinkRefused) as refusal:
        CODEC.decode(frame)
    assert refusal.value.reason is RefusalReason.MESSAGE


@settings(max_examples=300, deadline=None)
@given(frame=st.binary(max_size=200))
def test_hostile_bytes_give_messages_or_a_refusal_and_nothing_else(frame: bytes) -> None:
    try:
        messages = CODEC.decode(frame)
    except LinkRefused:
        return
    assert all(isinstance(message, msgspec.Struct) for message in messages)
