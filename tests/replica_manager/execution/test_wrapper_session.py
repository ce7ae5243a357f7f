"""The manager's half of the wrapper protocol: the echo found in stale bytes, limits, misbehaviour as a value."""

from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.framing import decode_to_wrapper, encode_frame
from exec_wrapper.layout import KIND_WRAPPER_HELLO
from exec_wrapper.wire import Applied, Executed, Failed, FromWrapper, Hello, Pong, StatePart, WrapperHello
from replica_manager.execution import wrapper_session
from replica_manager.execution.wrapper_session import MisbehaviourKind, WrapperLimits, WrapperSession
from tests.exec_wrapper.message_strategies import from_wrapper

EPOCH = bytes(range(100, 116))
ECHO = WrapperHello(EPOCH, 5, 1, False, "service", "version", "image")
LIMITS = WrapperLimits(frame_bytes_max=8192, state_part_bytes_max=300)


def session() -> WrapperSession:
    """Return a session before the echo."""
    return WrapperSession(EPOCH, LIMITS)


def frames(*messages: FromWrapper) -> bytes:
    """Return messages as bytes."""
    return b"".join(encode_frame(message) for message in messages)


def receive_in_pieces(receiver: WrapperSession, data: bytes, cuts: list[int]) -> list[FromWrapper]:
    """Return the messages of a stream that arrives cut at `cuts`."""
    edges = sorted({cut % (len(data) + 1) for cut in cuts})
    messages: list[FromWrapper] = []
    for begin, end in zip([0, *edges], [*edges, len(data)], strict=True):
        messages += receiver.receive(data[begin:end])
    return messages


def misbehaviour(receiver: WrapperSession) -> tuple[MisbehaviourKind, str]:
    """Return what the domain did."""
    assert receiver.misbehaviour is not None
    return receiver.misbehaviour.kind, receiver.misbehaviour.text


def test_the_opening_frame_carries_epoch_and_limits() -> None:
    """It is all that is sent before the echo."""
    assert decode_to_wrapper().feed(session().opening_frame()) == [Hello(EPOCH, 8192, 300, 1, bytes(16))]
    again = WrapperSession(bytes(16), LIMITS, former_epoch=EPOCH)
    assert decode_to_wrapper().feed(again.opening_frame()) == [Hello(bytes(16), 8192, 300, 1, EPOCH)]


def test_what_a_wrapper_says_after_it_failed_is_not_heard() -> None:
    """`Failed` is its last word, handed on like every message."""
    receiver = session()
    receiver.receive(frames(ECHO))
    assert receiver.receive(frames(Pong(1), Failed("broke"), Pong(2))) == [Pong(1), Failed("broke")]
    assert (receiver.failure, receiver.misbehaviour) == ("broke", None)
    assert receiver.receive(frames(Pong(3))) == []


@given(
    st.lists(from_wrapper, max_size=3),
    st.integers(0, 100),
    st.lists(st.integers(0, 1000), max_size=6),
    st.binary(max_size=50),
)
def test_the_echo_is_found_behind_frames_that_began_before_the_connection(
    former: list[FromWrapper], lost_bytes: int, cuts: list[int], garbage: bytes
) -> None:
    """A port delivers what was in flight, from the middle of a frame; nothing of it is believed."""
    stale = frames(*former)[lost_bytes:] + garbage
    receiver = session()
    data = stale + frames(ECHO, Executed(5, b"reply", b""), Applied(6))
    assert receive_in_pieces(receiver, data, cuts) == [Executed(5, b"reply", b""), Applied(6)]
    assert receiver.hello == ECHO
    assert receiver.misbehaviour is None
    assert receiver.discarded_bytes == len(stale)


def test_an_echo_of_another_epoch_is_stale() -> None:
    """It answered a former Hello."""
    receiver = session()
    assert receiver.receive(frames(ECHO._replace(epoch=bytes(16)), Applied(9))) == []
    assert receiver.hello is None
    assert receiver.receive(frames(ECHO)) == []
    assert receiver.hello == ECHO


def test_the_epoch_without_its_frame_is_not_enough() -> None:
    """The length field in front of it must be there too."""
    receiver = session()
    echo_alone = bytes((KIND_WRAPPER_HELLO,)) + EPOCH
    assert receiver.receive(echo_alone) == []
    assert receiver.receive(frames(ECHO, Pong(1))) == [Pong(1)]


def test_endless_bytes_without_an_echo_are_misbehaviour() -> None:
    """Nothing is kept of them meanwhile."""
    receiver = session()
    chunk = bytes(1 << 20)
    for _ in range(wrapper_session.STALE_BYTES_MAX // len(chunk)):
        assert receiver.receive(chunk) == []
        assert receiver.misbehaviour is None
    receiver.receive(chunk)
    assert misbehaviour(receiver) == (MisbehaviourKind.NO_ECHO, f"{receiver.discarded_bytes} bytes without an echo")


def test_an_echo_in_a_frame_that_is_too_long_is_misbehaviour() -> None:
    """Else a domain could have the manager wait for bytes that never come."""
    receiver = session()
    receiver.receive(b"\x7f\xff\xff\xff" + bytes((KIND_WRAPPER_HELLO,)) + EPOCH)
    assert misbehaviour(receiver) == (MisbehaviourKind.MALFORMED_FRAME, "a WrapperHello of 2147483647 bytes")


def test_another_protocol_is_named() -> None:
    """An operator sees which image is too old."""
    receiver = session()
    assert receiver.receive(frames(ECHO._replace(protocol=2))) == []
    assert misbehaviour(receiver) == (MisbehaviourKind.NO_ECHO, "protocol 2 instead of 1")
    assert receiver.hello is None


def test_messages_before_a_malformed_frame_are_handed_on_and_later_ones_are_not() -> None:
    """They were said correctly; what follows is nobody's word."""
    receiver = session()
    receiver.receive(frames(ECHO))
    assert receiver.receive(frames(Applied(7)) + b"\0\0\0\1\xaa" + frames(Applied(8))) == [Applied(7)]
    assert misbehaviour(receiver) == (MisbehaviourKind.MALFORMED_FRAME, "a frame of unknown kind 0xaa")
    assert str(receiver.misbehaviour) == "malformed_frame: a frame of unknown kind 0xaa"
    assert receiver.receive(frames(Applied(9))) == []


def test_a_frame_over_the_limit_is_misbehaviour() -> None:
    """Its header is enough."""
    receiver = session()
    receiver.receive(frames(ECHO) + b"\0\0\x20\x01\x43")
    assert misbehaviour(receiver) == (MisbehaviourKind.MALFORMED_FRAME, "a frame of 8193 bytes, allowed are 1 to 8192")


def test_a_second_hello_is_misbehaviour() -> None:
    """A wrapper says it once a connection."""
    receiver = session()
    receiver.receive(frames(ECHO))
    assert receiver.receive(frames(Pong(1), ECHO, Pong(2))) == [Pong(1)]
    assert misbehaviour(receiver) == (MisbehaviourKind.UNEXPECTED_FRAME, "a second WrapperHello")


def test_a_cursor_before_the_first_number_is_misbehaviour() -> None:
    """Sequence numbers begin at 1."""
    receiver = session()
    receiver.receive(frames(ECHO._replace(cursor=0)))
    assert misbehaviour(receiver) == (MisbehaviourKind.UNEXPECTED_FRAME, "a cursor of 0")


def test_a_state_part_over_its_limit_is_misbehaviour() -> None:
    """Parts have a limit of their own, below that of frames."""
    receiver = session()
    receiver.receive(frames(ECHO))
    at_the_limit = StatePart(3, 0, False, bytes(300))
    assert receiver.receive(frames(at_the_limit, StatePart(3, 1, True, bytes(301)))) == [at_the_limit]
    assert misbehaviour(receiver) == (MisbehaviourKind.UNEXPECTED_FRAME, "a state part of 301 bytes, allowed are 300")


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_hostile_bytes_after_the_echo_lead_to_the_same_end_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    """No exception, no dependence on read boundaries."""
    whole, cut = session(), session()
    whole.receive(frames(ECHO))
    cut.receive(frames(ECHO))
    assert receive_in_pieces(cut, data, cuts) == whole.receive(data)
    assert cut.misbehaviour == whole.misbehaviour
