"""Frames: from messages to bytes and back, in pieces of any size, and what hostile bytes do."""

import itertools
import struct
import timeit
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.framing import (
    FrameDecoder,
    bounded_text,
    decode_from_wrapper,
    decode_to_wrapper,
    encode_execute,
    encode_executed,
    encode_frame,
)
from exec_wrapper.layout import HEADER_BYTES, KIND_EXECUTE, KIND_EXECUTED
from exec_wrapper.wire import (
    TEXT_BYTES_MAX,
    Applied,
    ApplyUpdates,
    Execute,
    Executed,
    Failed,
    FromWrapper,
    Hello,
    Ping,
    Pong,
    SetPart,
    StatePart,
    ToWrapper,
    WireError,
    WrapperHello,
)
from tests.exec_wrapper.message_strategies import from_wrapper, to_wrapper

FRAME_BYTES_MAX = 4096
AnyDecoder = FrameDecoder[ToWrapper] | FrameDecoder[FromWrapper]
BOTH_DECODERS = pytest.mark.parametrize("make_decoder", [decode_to_wrapper, decode_from_wrapper])
CODING_US_MAX = 12.0
"""Several times what is wanted (2 to 3 µs), because test machines are busy; a quadratic slip takes far longer."""


def decode_in_pieces(decoder: AnyDecoder, data: bytes, cuts: list[int]) -> tuple[list[object], str]:
    """Return the messages and the error text of a stream that arrives cut at `cuts`."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    messages: list[object] = []
    for begin, end in itertools.pairwise(edges):
        try:
            messages += decoder.feed(data[begin:end])
        except WireError as error:
            return [*messages, *error.messages], str(error)
    return messages, ""


@given(st.lists(to_wrapper, max_size=6), st.lists(st.integers(0, 5000), max_size=8))
def test_what_a_manager_sends_arrives_however_it_is_cut(messages: list[ToWrapper], cuts: list[int]) -> None:
    """Decoding is the inverse of encoding and knows no read boundaries."""
    data = b"".join(encode_frame(message) for message in messages)
    assert decode_in_pieces(decode_to_wrapper(), data, cuts) == (messages, "")


@given(st.lists(from_wrapper, max_size=6), st.lists(st.integers(0, 5000), max_size=8))
def test_what_a_wrapper_sends_arrives_however_it_is_cut(messages: list[FromWrapper], cuts: list[int]) -> None:
    """The same in the other direction."""
    data = b"".join(encode_frame(message) for message in messages)
    assert decode_in_pieces(decode_from_wrapper(), data, cuts) == (messages, "")


@given(st.lists(from_wrapper, min_size=1, max_size=3))
def test_byte_by_byte_every_message_comes_with_its_last_byte(messages: list[FromWrapper]) -> None:
    """Nothing is held back, nothing comes early."""
    decoder = decode_from_wrapper()
    for message in messages:
        frame = encode_frame(message)
        for position in range(len(frame) - 1):
            assert decoder.feed(frame[position : position + 1]) == []
        assert decoder.pending_bytes == len(frame) - 1
        assert decoder.feed(frame[-1:]) == [message]


@BOTH_DECODERS
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_garbage_gives_messages_or_a_wire_error_and_nothing_else(
    make_decoder: Callable[[int], AnyDecoder], data: bytes, cuts: list[int]
) -> None:
    """Hostile bytes end in `WireError`, at the same place however they are cut."""
    whole = decode_in_pieces(make_decoder(FRAME_BYTES_MAX), data, [])
    assert decode_in_pieces(make_decoder(FRAME_BYTES_MAX), data, cuts) == whole


@given(
    st.one_of(from_wrapper, to_wrapper),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_damaged_frame_gives_messages_or_a_wire_error(
    message: ToWrapper | FromWrapper, damages: list[tuple[int, int]]
) -> None:
    """Nearly right bytes reach deeper into the decoders than garbage does."""
    data = bytearray(encode_frame(message))
    for position, value in damages:
        data[position % len(data)] = value
    for make_decoder in (decode_to_wrapper, decode_from_wrapper):
        whole = decode_in_pieces(make_decoder(FRAME_BYTES_MAX), bytes(data), [])
        assert decode_in_pieces(make_decoder(FRAME_BYTES_MAX), bytes(data), list(range(len(data)))) == whole


@given(from_wrapper)
def test_a_reflected_frame_is_not_understood(message: FromWrapper) -> None:
    """The kinds of both directions are disjoint."""
    with pytest.raises(WireError, match="unknown kind"):
        decode_to_wrapper().feed(encode_frame(message))


def test_a_frame_over_the_limit_is_refused_by_its_header_alone() -> None:
    """Memory is bounded by the limit, whatever a header announces."""
    decoder = decode_from_wrapper(100)
    with pytest.raises(WireError, match="a frame of 101 bytes, allowed are 1 to 100"):
        decoder.feed(struct.pack(">IB", 101, KIND_EXECUTED))
    assert decoder.pending_bytes == 0


def test_a_frame_at_the_limit_is_taken() -> None:
    """The limit itself is allowed; `length` counts kind and body."""
    message = Executed(1, b"r" * 40, b"u" * 47)
    frame = encode_frame(message)
    assert len(frame) == 104
    assert decode_from_wrapper(100).feed(frame) == [message]


def test_messages_before_an_error_are_kept_and_later_bytes_are_not() -> None:
    """What came before the offending bytes was said correctly; a broken stream stays broken."""
    decoder = decode_from_wrapper()
    with pytest.raises(WireError) as caught:
        decoder.feed(encode_frame(Applied(7)) + b"\0\0\0\1\x99")
    assert caught.value.messages == (Applied(7),)
    with pytest.raises(WireError, match="unknown kind 0x99"):
        decoder.feed(encode_frame(Applied(8)))


def frame_of(kind: int, body: bytes) -> bytes:
    """Return a frame of any kind and body."""
    return struct.pack(">IB", 1 + len(body), kind) + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">IB", 0, 0x44) + bytes(8), "allowed are 1 to"),
        (frame_of(0x44, bytes(7)), "Applied frame cannot have a body of 7 bytes"),
        (frame_of(0x44, bytes(9)), "Applied frame cannot have a body of 9 bytes"),
        (frame_of(0x43, bytes(11)), "Executed frame cannot have"),
        (frame_of(0x43, bytes(8) + b"\0\0\0\2x"), "ends within its reply"),
        (frame_of(0x46, bytes(12) + b"\2"), "a flag is 0 or 1"),
        (frame_of(0x46, bytes(12)), "StatePart frame cannot have"),
        (frame_of(0x48, b"\xff"), "not UTF-8"),
        (frame_of(0x48, b"x" * (TEXT_BYTES_MAX + 1)), "Failed frame cannot have"),
        (frame_of(0x41, bytes(30)), "WrapperHello frame cannot have"),
        (frame_of(0x41, bytes(31)), "ends within a text"),
        (frame_of(0x41, bytes(31) + b"\0\5abc"), "a text of 5 bytes"),
        (frame_of(0x41, bytes(31) + bytes(7)), "goes on after its last text"),
    ],
)
def test_a_malformed_frame_of_a_wrapper_is_named(data: bytes, reason: str) -> None:
    """Each rule of a layout has its own words."""
    with pytest.raises(WireError, match=reason):
        decode_from_wrapper().feed(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame_of(0x01, bytes(50)), "without its magic bytes"),
        (frame_of(0x01, bytes(49)), "Hello frame cannot have"),
        (frame_of(0x03, bytes(55)), "Execute frame cannot have"),
        (frame_of(0x04, bytes(19)), "ApplyUpdates frame cannot have"),
        (frame_of(0x04, bytes(16) + b"\xff\xff\xff\xff"), "announces 4294967295 updates in 0 bytes"),
        (frame_of(0x04, bytes(16) + b"\0\0\0\1" + bytes(8) + b"\0\0\0\1"), "ends within an update"),
        (frame_of(0x04, bytes(16) + b"\0\0\0\0" + b"x"), "goes on after its last update"),
        (frame_of(0x04, bytes(16) + b"\0\0\0\2" + (bytes(8) + b"\0\0\0\4abcd") + bytes(8)), "ends within an update"),
        (frame_of(0x09, bytes(4)), "SetPart frame cannot have"),
        (frame_of(0x0A, bytes(1)), "Sync frame cannot have"),
    ],
)
def test_a_malformed_frame_of_a_manager_is_named(data: bytes, reason: str) -> None:
    """The same for the other direction."""
    with pytest.raises(WireError, match=reason):
        decode_to_wrapper().feed(data)


def test_a_field_of_the_wrong_length_is_not_encoded() -> None:
    """`struct` would pad or cut it silently."""
    with pytest.raises(ValueError, match="a seed has 32 bytes, not 31"):
        encode_execute(0, 1, 0, bytes(31), b"")
    with pytest.raises(ValueError, match="an epoch has 16 bytes, not 17"):
        encode_frame(Hello(bytes(17), 1, 1))
    with pytest.raises(ValueError, match="a text has at most 1024 bytes"):
        encode_frame(WrapperHello(bytes(16), 1, 1, True, "s" * 1025, "", ""))
    with pytest.raises(struct.error):
        encode_frame(Ping(2**64))


@given(st.text(alphabet="aä漢🙂\udc80", max_size=2000))
def test_a_failure_text_is_cut_between_characters(text: str) -> None:
    """`Failed` carries whatever an exception said, bounded, as valid UTF-8."""
    cut = bounded_text(text)
    assert len(cut.encode()) <= TEXT_BYTES_MAX
    assert decode_from_wrapper().feed(encode_frame(Failed(text))) == [Failed(cut)]


@pytest.mark.parametrize("message", [SetPart(0, True, b"x" * 100), Execute(1, 2, 3, bytes(32), b"p")])
def test_a_header_is_five_bytes(message: ToWrapper) -> None:
    """`length` counts everything after itself."""
    frame = encode_frame(message)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert HEADER_BYTES == 5


def microseconds_per_frame(action: Callable[[], object], frames: int) -> float:
    """Return the best time of many."""
    return min(timeit.repeat(action, number=50, repeat=20)) / 50 / frames * 1e6


def test_coding_the_frequent_frames_is_cheap() -> None:
    """Both are done once a request and domain; see `CODING_US_MAX`."""
    payload, seed = b"x" * 128, bytes(32)
    execute, executed = encode_execute(1, 2, 3, seed, payload), encode_executed(2, payload, payload)
    assert execute[4] == KIND_EXECUTE
    to_decoder, from_decoder = decode_to_wrapper(), decode_from_wrapper()
    assert microseconds_per_frame(lambda: encode_execute(1, 2, 3, seed, payload), 1) < CODING_US_MAX
    assert microseconds_per_frame(lambda: encode_executed(2, payload, payload), 1) < CODING_US_MAX
    assert microseconds_per_frame(lambda: to_decoder.feed(execute * 16), 16) < CODING_US_MAX
    assert microseconds_per_frame(lambda: from_decoder.feed(executed * 16), 16) < CODING_US_MAX


def test_a_long_frame_in_short_reads_takes_linear_time() -> None:
    """16 MiB in reads of 4 KiB, as a virtio port delivers them, are joined once."""
    frame = encode_frame(StatePart(1, 0, True, bytes(8 * 1024 * 1024)))
    decoder = decode_from_wrapper()
    pieces = [frame[begin : begin + 4096] for begin in range(0, len(frame), 4096)]
    messages = [message for piece in pieces for message in decoder.feed(piece)]
    assert len(messages) == 1
    assert decoder.pending_bytes == 0


def test_a_value_survives_the_generic_and_the_direct_encoder_alike() -> None:
    """The direct encoders are the same frames without the value in between."""
    assert encode_frame(Execute(1, 2, 3, bytes(32), b"p")) == encode_execute(1, 2, 3, bytes(32), b"p")
    assert encode_frame(Executed(2, b"r", b"u")) == encode_executed(2, b"r", b"u")
    assert encode_frame(Pong(1)) != encode_frame(Ping(1))
    assert encode_frame(ApplyUpdates(1, 2, ())) == struct.pack(">IBQQI", 21, 4, 1, 2, 0)
