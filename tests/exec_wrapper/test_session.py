"""The wrapper's session: echo, gaps, requests, updates; bytes in, bytes out."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.errors import AdapterError, ProtocolError
from exec_wrapper.framing import encode_frame
from exec_wrapper.wire import (
    Applied,
    ApplyUpdates,
    CancelState,
    Executed,
    Failed,
    FromWrapper,
    Hello,
    Ping,
    Pong,
    Sync,
    Synced,
    TakeState,
    ToWrapper,
    WrapperHello,
)
from tests.exec_wrapper.conversation import EPOCH, HELLO, SEED, Conversation, execute, greeted
from tests.exec_wrapper.recording_adapter import RecordingAdapter, ServiceBroke

# ── the beginning ──


def test_hello_is_answered_with_epoch_cursor_and_names() -> None:
    """The echo tells the manager where to go on."""
    conversation = Conversation(RecordingAdapter(cursor=42))
    expected = WrapperHello(EPOCH, 42, 3, False, "recording", "7", "image-1")
    assert conversation.say(HELLO) == [expected]


@given(st.binary(max_size=100), st.lists(st.integers(0, 200), max_size=4))
def test_everything_before_hello_is_discarded_however_it_is_cut(stale: bytes, cuts: list[int]) -> None:
    """Bytes of a former connection may come first, from the middle of a frame."""
    conversation = Conversation(RecordingAdapter())
    data = stale + encode_frame(execute(1))[7:] + encode_frame(HELLO) + encode_frame(execute(1))
    edges = sorted({cut % len(data) for cut in cuts})
    answers: list[FromWrapper] = []
    for begin, end in zip([0, *edges], [*edges, len(data)], strict=True):
        answers += conversation.say_bytes(data[begin:end])
    assert [type(answer) for answer in answers] == [WrapperHello, Executed]
    assert len(conversation.adapter.contexts) == 1


def test_a_second_hello_begins_a_new_connection_at_the_same_cursor() -> None:
    """A manager may connect again; what it was told before is not repeated."""
    conversation = greeted()
    conversation.say(execute(1), execute(2))
    answers = conversation.say(HELLO._replace(epoch=b"e" * 16), execute(3))
    assert isinstance(answers[0], WrapperHello)
    assert (answers[0].epoch, answers[0].cursor) == (b"e" * 16, 3)
    assert isinstance(answers[1], Executed)


@given(st.integers(0, 400), st.booleans(), st.lists(st.integers(0, 500), max_size=5), st.integers(0, 26))
def test_a_hello_within_half_a_frame_is_found_by_the_former_epoch(
    sent_bytes: int, has_whole_frame: bool, cuts: list[int], late_bytes: int
) -> None:
    """The end of a connection over a port may pass unnoticed; the half frame has no effect, whatever completes it."""
    conversation = greeted()
    fake = encode_frame(Hello(b"f" * 16, 1 << 20, 1 << 16, former_epoch=b"guess" + bytes(11)))
    half = encode_frame(execute(2, b"half" + fake + bytes(300)))[: sent_bytes + 1]
    again = encode_frame(Hello(b"e" * 16, 1 << 20, 1 << 16, former_epoch=EPOCH))
    former = (encode_frame(execute(1)) if has_whole_frame else b"") + half
    first, late = again[: len(again) - late_bytes], again[len(again) - late_bytes :]
    edges = sorted({cut % (len(former) + 1) for cut in cuts})
    answers: list[FromWrapper] = []
    data = former + first
    for begin, end in zip([0, *edges], [*edges, len(data)], strict=True):
        answers += conversation.say_bytes(data[begin:end])
    hello = [*answers, *conversation.say_bytes(late)][-1]
    assert isinstance(hello, WrapperHello)
    assert hello.epoch == b"e" * 16
    assert hello.cursor == conversation.adapter.cursor() <= 2
    assert conversation.adapter.effects == [b"w"] * (hello.cursor - 1)
    request = execute(hello.cursor, b"next")
    assert conversation.say(request) == [Executed(hello.cursor, b"reply to next", b"next")]


def test_a_hello_in_a_payload_is_a_payload() -> None:
    """A client cannot know the epoch of the connection."""
    conversation = greeted()
    fake = encode_frame(Hello(b"f" * 16, 1 << 20, 1 << 16))
    for number in range(1, 4):
        payload = bytes(number) + fake
        assert conversation.say(execute(number, payload)) == [Executed(number, b"reply to " + payload, payload)]


def test_another_protocol_is_answered_and_ended() -> None:
    """The echo names our protocol, so that the manager can say what does not fit."""
    conversation = Conversation(RecordingAdapter())
    with pytest.raises(ProtocolError, match="protocol 9 is not spoken here, only 1"):
        conversation.say(HELLO._replace(protocol=9))
    hello, failed = conversation.answers()
    assert isinstance(hello, WrapperHello)
    assert isinstance(failed, Failed)


def test_a_ping_is_answered() -> None:
    """The token comes back."""
    assert greeted().say(Ping(99)) == [Pong(99)]


# ── the feed ──


def test_requests_are_executed_in_order_with_their_context() -> None:
    """The service gets sequence number, agreed time and seed, nothing else."""
    conversation = greeted()
    answers = conversation.say(execute(1, b"a"), execute(2, b"r"))
    assert answers == [Executed(1, b"reply to a", b"a"), Executed(2, b"reply to r", b"")]
    assert conversation.adapter.contexts == [(1, 1001, SEED), (2, 1002, SEED)]


def test_numbers_without_effect_are_passed_by_naming_the_number_before() -> None:
    """Commands of the cell take numbers that no domain sees."""
    conversation = greeted()
    assert conversation.say(execute(1), execute(5, previous=1), ApplyUpdates(5, 9, ((7, b"x"),))) == [
        Executed(1, b"reply to w", b"w"),
        Executed(5, b"reply to w", b"w"),
        Applied(9),
    ]
    assert conversation.adapter.batches == [(((7, b"x"),), 9)]


def test_one_step_handles_one_message() -> None:
    """So a reply can leave before the next request is executed."""
    conversation = greeted()
    conversation.session.feed(encode_frame(execute(1)) + encode_frame(execute(2)))
    assert conversation.session.step()
    assert [type(answer) for answer in conversation.answers()] == [Executed]
    assert len(conversation.adapter.contexts) == 1


@pytest.mark.parametrize(
    "frame",
    [
        execute(4, previous=3),
        execute(3, previous=1),
        execute(2, previous=2),
        execute(1, previous=2),
        ApplyUpdates(3, 5, ()),
        ApplyUpdates(2, 1, ()),
        ApplyUpdates(2, 5, ((2, b"x"),)),
        ApplyUpdates(2, 5, ((6, b"x"),)),
        ApplyUpdates(2, 5, ((4, b"x"), (3, b"y"))),
        ApplyUpdates(2, 5, ((4, b"x"), (4, b"y"))),
        TakeState(1, 3, 3),
        TakeState(2, 2, 3),
    ],
)
def test_a_gap_ends_the_connection_before_anything_is_done(frame: ToWrapper) -> None:
    """A domain that missed something must not go on as if it had not; the service stays as it was."""
    conversation = greeted()
    conversation.say(execute(1), execute(2, b"r"))
    with pytest.raises(ProtocolError, match="does not follow 2"):
        conversation.say(Ping(1), frame, execute(3))
    assert [type(answer) for answer in conversation.answers()] == [Pong, Failed]
    assert conversation.adapter.effects == [b"w"]
    assert conversation.adapter.batches == []
    answer = conversation.say(HELLO)[0]
    assert isinstance(answer, WrapperHello)
    assert answer.cursor == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["execute", "apply", "state"]), st.integers(-2, 3), st.integers(-1, 4)), max_size=12
    )
)
def test_the_session_goes_on_exactly_as_long_as_there_is_no_gap(
    steps: Sequence[tuple[str, int, int]],
) -> None:
    """Model: a feed frame is taken if it names the last covered number, and covers a later one."""
    conversation = greeted(RecordingAdapter())
    covered = 0
    for kind, previous_error, advance in steps:
        previous = max(0, covered + (previous_error if previous_error in (-1, 1) else 0))
        last = previous + advance
        if last < 1:
            continue
        frames: dict[str, ToWrapper] = {
            "execute": execute(last, previous=previous),
            "apply": ApplyUpdates(previous, last, ((last, b"u"),) if advance > 0 else ()),
            "state": TakeState(previous, last + 1, 3),
        }
        is_allowed = previous == covered and advance >= (1 if kind == "execute" else 0)
        if not is_allowed:
            with pytest.raises(ProtocolError):
                conversation.say(frames[kind])
            return
        conversation.say(frames[kind], CancelState(last + 1))
        covered = last
        assert conversation.adapter.cursor() == covered + 1


def test_an_empty_batch_moves_the_cursor() -> None:
    """So a passive domain can confirm a stretch without updates."""
    conversation = greeted()
    assert conversation.say(ApplyUpdates(0, 4, ()), ApplyUpdates(4, 4, ())) == [Applied(4), Applied(4)]
    assert conversation.adapter.cursor() == 5


def test_sync_is_answered_with_the_durable_cursor() -> None:
    """What the adapter says is passed on."""
    conversation = greeted()
    assert conversation.say(execute(1), Sync())[1] == Synced(2)
    assert conversation.adapter.syncs == 1


def test_bytes_that_are_no_frame_end_the_connection_after_what_came_before() -> None:
    """The request before the garbage was asked for correctly."""
    conversation = greeted()
    with pytest.raises(ProtocolError, match="unknown kind 0xee"):
        conversation.say_bytes(encode_frame(execute(1)) + b"\0\0\0\1\xee")
    executed, failed = conversation.answers()
    assert isinstance(executed, Executed)
    assert failed == Failed("a frame of unknown kind 0xee")


def test_a_frame_over_the_announced_limit_ends_the_connection() -> None:
    """The limit of `Hello` holds for what follows it."""
    conversation = Conversation(RecordingAdapter())
    conversation.say(HELLO._replace(frame_bytes_max=200))
    with pytest.raises(ProtocolError, match="allowed are 1 to 200"):
        conversation.say(execute(1, bytes(200)))


def test_an_oversized_outcome_is_the_adapters_fault() -> None:
    """It cannot be sent, and cutting it would be a wrong answer."""
    conversation = Conversation(RecordingAdapter())
    conversation.say(HELLO._replace(frame_bytes_max=200))
    conversation.adapter.reply_bytes = 200
    with pytest.raises(AdapterError, match="request 1: reply of 210 and update of 1 bytes, a frame has at most 200"):
        conversation.say(execute(1))


def test_an_exception_of_the_service_is_passed_on() -> None:
    """Whoever runs the session ends the wrapper."""
    with pytest.raises(ServiceBroke):
        greeted().say(execute(1, b"break"))


def test_an_adapter_whose_cursor_does_not_follow_is_noticed() -> None:
    """A wrong cursor would be found only after the next crash."""
    conversation = greeted()
    conversation.adapter.apply_updates = lambda updates, up_to: None  # type: ignore[method-assign]
    with pytest.raises(AdapterError, match="after apply_updates the cursor is 1 instead of 4"):
        conversation.say(ApplyUpdates(0, 3, ()))
