"""Messages of every kind with any values, there and back; bytes that are almost a message."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import Batch, Entry, ServerJoined, ServerLeft, WitnessReplaced, decode_batch, encode_batch
from agreement.configuration import Configuration
from agreement.errors import MalformedMessage
from agreement.identifiers import Ballot, MemberId, MemberKind
from agreement.messages import Message, VoteReport, decode_message, encode_message

NUMBERS = st.integers(-1, (1 << 63) - 1)
BYTES = st.binary(max_size=40)
MEMBERS = st.builds(MemberId, st.sampled_from(MemberKind), NUMBERS)
BALLOTS = st.builds(Ballot, NUMBERS, MEMBERS)
SEATS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple)
CONFIGURATIONS = st.builds(Configuration, NUMBERS, SEATS, SEATS, SEATS)
ENTRIES = st.builds(Entry, NUMBERS, NUMBERS, NUMBERS, BYTES)
CHANGES = st.one_of(
    st.builds(ServerLeft, NUMBERS, st.booleans()),
    st.builds(ServerJoined, NUMBERS, NUMBERS, BYTES),
    st.builds(WitnessReplaced, NUMBERS, NUMBERS),
)
BATCHES = st.builds(Batch, st.lists(ENTRIES, max_size=3).map(tuple), st.none() | CHANGES)
REPORTS = st.builds(VoteReport, NUMBERS, BALLOTS, BYTES)

BY_TYPE: dict[object, st.SearchStrategy[object]] = {
    int: NUMBERS,
    bool: st.booleans(),
    bytes: BYTES,
    Ballot: BALLOTS,
    Configuration: CONFIGURATIONS,
    Configuration | None: st.none() | CONFIGURATIONS,
    MemberId | None: st.none() | MEMBERS,
    ServerLeft | ServerJoined | WitnessReplaced: CHANGES,
    tuple[VoteReport, ...]: st.lists(REPORTS, max_size=3).map(tuple),
    tuple[Entry, ...]: st.lists(ENTRIES, max_size=3).map(tuple),
    tuple[bytes, ...]: st.lists(BYTES, max_size=3).map(tuple),
    tuple[tuple[int, int], ...]: SEATS,
}
"""How a field of each type is drawn; a field of a type that is not here fails the tests, so that none is left out."""

KINDS: tuple[type[Message], ...] = get_args(Message)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of one kind with any values in all their fields."""
    fields = {field.name: BY_TYPE[field.type] for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


ALL_MESSAGES = st.sampled_from(KINDS).flatmap(messages_of)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_message_of_every_kind_comes_back_as_it_was_sent(kind: type[Message], data: st.DataObject) -> None:
    """Type and all fields; also out of a view on a larger buffer, as the transport hands it over."""
    message = data.draw(messages_of(kind))
    encoded = encode_message(message)
    for received in (encoded, memoryview(b"before" + encoded)[6:]):
        decoded = decode_message(received)
        assert type(decoded) is kind
        assert decoded == message
    assert encode_message(decoded) == encoded


@given(BATCHES)
def test_a_batch_comes_back_as_it_was_proposed(batch: Batch) -> None:
    """Every acceptor and learner reads the same entries out of the same bytes."""
    assert decode_batch(encode_batch(batch)) == batch


def test_every_kind_has_a_tag_of_its_own_between_1_and_39() -> None:
    """Tags from 40 on belong to the other users of the connection."""
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags)
    assert all(isinstance(tag, int) and 1 <= tag <= 39 for tag in tags)


@given(ALL_MESSAGES, st.data())
def test_a_damaged_message_is_a_message_or_a_malformed_one(message: Message, data: st.DataObject) -> None:
    """One byte changed anywhere: what still reads as a message can be sent on."""
    damaged = bytearray(encode_message(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_message(bytes(damaged))
    except MalformedMessage:
        return
    assert decode_message(encode_message(decoded)) == decoded


@given(ALL_MESSAGES)
def test_every_message_cut_short_anywhere_is_malformed(message: Message) -> None:
    """Byte by byte: no beginning of a message is taken for a whole one."""
    encoded = encode_message(message)
    for length in range(len(encoded)):
        with pytest.raises(MalformedMessage):
            decode_message(encoded[:length])


@given(ALL_MESSAGES, st.binary(min_size=1, max_size=5))
def test_a_message_with_bytes_behind_it_is_malformed(message: Message, more: bytes) -> None:
    """Frames hold one message each."""
    with pytest.raises(MalformedMessage):
        decode_message(encode_message(message) + more)


@given(ALL_MESSAGES)
def test_a_message_with_a_field_too_many_is_malformed(message: Message) -> None:
    """A peer of a later version is refused; half of what it means would be worse."""
    fields = msgspec.msgpack.decode(encode_message(message))
    with pytest.raises(MalformedMessage):
        decode_message(msgspec.msgpack.encode([*fields, 0]))


@pytest.mark.parametrize("tag", [-1, 0, 21, 39, 40, "Prepare", None])
def test_an_unknown_tag_is_malformed(tag: object) -> None:
    """Only the kinds of the union are read."""
    with pytest.raises(MalformedMessage):
        decode_message(msgspec.msgpack.encode([tag, 1, 1]))


def test_deep_nesting_is_malformed() -> None:
    """Bytes that open a thousand arrays end in the same error, not in an overflow of the stack."""
    with pytest.raises(MalformedMessage):
        decode_message(b"\x91" * 100_000)
