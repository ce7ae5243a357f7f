"""The wrapper's session: echo, gaps, updates, state streams; bytes in, bytes out."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.errors import AdapterError, LinkClosed, ProtocolError, StateInterrupted
from exec_wrapper.framing import decode_from_wrapper, encode_frame
from exec_wrapper.session import HELD_FRAMES_MAX, Session
from exec_wrapper.state_stream import PartReader, StateStream
from exec_wrapper.wire import (
    Applied,
    ApplyUpdates,
    CancelState,
    Execute,
    Executed,
    Failed,
    FromWrapper,
    Hello,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    Sync,
    Synced,
    TakeState,
    ToWrapper,
    WrapperHello,
)
from tests.exec_wrapper.recording_adapter import RecordingAdapter, ServiceBroke

EPOCH = b"0123456789abcdef"
SEED = bytes(range(32))
HELLO = Hello(EPOCH, 1 << 20, 1 << 16)


class Conversation:
    """A session and the manager's view of it."""

    def __init__(self, adapter: RecordingAdapter, start_stream: Callable[[PartReader], StateStream] | None = None):
        self.adapter = adapter
        self.later: list[bytes] = []
        """What arrives only when the session waits for it."""
        self.session = Session(adapter, "image-1", self._wait, start_stream)
        self._decoder = decode_from_wrapper()

    def _wait(self) -> None:
        if not self.later:
            raise LinkClosed("nothing more comes")
        self.session.feed(self.later.pop(0))

    def say(self, *messages: ToWrapper) -> list[FromWrapper]:
        """Send messages; return the answers."""
        return self.say_bytes(b"".join(encode_frame(message) for message in messages))

    def say_bytes(self, data: bytes) -> list[FromWrapper]:
        """Send bytes; return the answers."""
        self.session.feed(data)
        while self.session.step():
            pass
        return self.answers()

    def answers(self) -> list[FromWrapper]:
        """Return what the session has to say."""
        return self._decoder.feed(self.session.take_output())


def greeted(adapter: RecordingAdapter | None = None) -> Conversation:
    """Return a conversation after Hello."""
    conversation = Conversation(adapter or RecordingAdapter())
    assert len(conversation.say(HELLO)) == 1
    return conversation


def execute(sequence: int, payload: bytes = b"w", previous: int | None = None) -> Execute:
    """Return a request that follows the number before it."""
    return Execute(sequence - 1 if previous is None else previous, sequence, 1000 + sequence, SEED, payload)


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


# ── the state, outwards ──


def with_effects(*effects: bytes) -> Conversation:
    """Return a conversation whose service has these effects."""
    conversation = greeted()
    conversation.say(*(execute(number, effect) for number, effect in enumerate(effects, 1)))
    return conversation


def test_parts_come_by_credit_and_the_last_one_says_so() -> None:
    """The manager decides how much is on its way."""
    conversation = with_effects(b"a", b"b", b"c")
    assert conversation.say(TakeState(3, 4, 3)) == []
    assert conversation.say(NextPart(1)) == [StatePart(4, 0, False, b"a")]
    assert conversation.say(NextPart(5)) == [StatePart(4, 1, False, b"b"), StatePart(4, 2, True, b"c")]
    assert conversation.say(NextPart(1)) == []
    assert conversation.adapter.closed_snapshots == 1


def test_an_empty_state_has_one_empty_part() -> None:
    """Its end is voted on like any other part."""
    conversation = greeted()
    assert conversation.say(TakeState(0, 1, 3), NextPart(1)) == [StatePart(1, 0, True, b"")]


def test_a_point_behind_numbers_without_effect_moves_the_cursor_first() -> None:
    """The state at a point is the state after every number before it, also if none of them had an effect."""
    conversation = with_effects(b"a")
    assert conversation.say(TakeState(1, 6, 3), NextPart(1)) == [StatePart(6, 0, True, b"a")]
    assert conversation.adapter.cursor() == 6
    assert conversation.say(execute(6))[0] == Executed(6, b"reply to w", b"w")


def test_a_blocking_service_executes_after_its_state_is_given() -> None:
    """The feed waits; pings do not."""
    conversation = with_effects(b"a", b"b")
    answers = conversation.say(TakeState(2, 3, 3), execute(3, b"c"), ApplyUpdates(3, 4, ()), Ping(1), NextPart(1))
    assert answers == [Pong(1), StatePart(3, 0, False, b"a")]
    answers = conversation.say(NextPart(1), execute(5, b"e"))
    assert answers[0] == StatePart(3, 1, True, b"b")
    assert [type(answer) for answer in answers[1:]] == [Executed, Applied, Executed]
    assert conversation.adapter.effects == [b"a", b"b", b"c", b"e"]


def test_cancelling_the_state_lets_a_blocking_service_go_on_at_once() -> None:
    """Fault handling goes before recovery."""
    conversation = with_effects(b"a", b"b")
    conversation.say(TakeState(2, 3, 3), NextPart(1), execute(3, b"c"))
    assert conversation.say(CancelState(3)) == [Executed(3, b"reply to c", b"c")]
    assert conversation.adapter.closed_snapshots == 1
    assert conversation.say(NextPart(3)) == []


def test_cancelling_another_point_changes_nothing() -> None:
    """It may cross the last part of a former state."""
    conversation = with_effects(b"a")
    assert conversation.say(TakeState(1, 2, 3), CancelState(1), NextPart(1)) == [StatePart(2, 0, True, b"a")]


def test_frames_held_back_are_bounded() -> None:
    """A manager that goes on feeding a domain that cannot answer is at fault."""
    conversation = with_effects(b"a", b"b")
    conversation.say(TakeState(2, 3, 3))
    with pytest.raises(ProtocolError, match="more than 65536 feed frames"):
        conversation.say(*(execute(number) for number in range(3, HELD_FRAMES_MAX + 4)))


def test_a_new_connection_ends_the_state_of_the_former_one() -> None:
    """Nobody would know what its parts belong to."""
    conversation = with_effects(b"a", b"b")
    conversation.say(TakeState(2, 3, 3), NextPart(1), execute(3, b"c"))
    assert [type(answer) for answer in conversation.say(HELLO, NextPart(1))] == [WrapperHello]
    assert conversation.adapter.closed_snapshots == 1
    assert conversation.adapter.effects == [b"a", b"b"]


@pytest.mark.parametrize("frame", [TakeState(2, 3, 3), SetState(3, 3)])
def test_one_state_at_a_time(frame: ToWrapper) -> None:
    """Two would need twice the memory and mix their credit."""
    conversation = with_effects(b"a", b"b")
    with pytest.raises(ProtocolError, match=r"State\(3\) while the state of 3 streams"):
        conversation.say(TakeState(2, 3, 3), frame)


def test_a_part_over_the_limit_is_the_adapters_fault() -> None:
    """The limit was told to `take_state`."""
    conversation = Conversation(RecordingAdapter())
    conversation.say(HELLO._replace(state_part_bytes_max=3), execute(1, b"four"))
    with pytest.raises(AdapterError, match="a state part of 4 bytes, allowed are 3"):
        conversation.say(TakeState(1, 2, 3), NextPart(1))


def test_a_concurrent_service_streams_beside_the_feed() -> None:
    """The session hands the reader to whoever runs it and goes on."""
    started: list[PartReader] = []

    class IdleStream:
        point = 2
        is_open = True

        def give_credit(self, count: int) -> None:
            pass

        def cancel(self) -> None:
            self.is_open = False

    def start(reader: PartReader) -> StateStream:
        started.append(reader)
        return IdleStream()

    conversation = Conversation(RecordingAdapter("concurrent"), start)
    answers = conversation.say(HELLO, execute(1, b"a"), TakeState(1, 2, 3), execute(2, b"b"))
    assert [type(answer) for answer in answers] == [WrapperHello, Executed, Executed]
    assert isinstance(answers[0], WrapperHello)
    assert answers[0].is_snapshot_concurrent
    assert len(started) == 1


# ── the state, inwards ──


def test_a_state_is_replaced_by_its_parts() -> None:
    """Afterwards the cursor is the point."""
    conversation = with_effects(b"old")
    answers = conversation.say(SetState(9, 3), SetPart(0, False, b"x"), Ping(5), SetPart(1, True, b"y"), execute(9))
    assert answers == [Pong(5), StateSet(9), Executed(9, b"reply to w", b"w")]
    assert conversation.adapter.effects == [b"x", b"y", b"w"]


def test_parts_may_come_late() -> None:
    """`set_state` pulls them; the session waits for more input."""
    conversation = greeted()
    conversation.later = [encode_frame(SetPart(0, False, b"x"))[:9]]
    conversation.later += [encode_frame(SetPart(0, False, b"x"))[9:], encode_frame(SetPart(1, True, b"y"))]
    assert conversation.say(SetState(3, 3)) == [StateSet(3)]
    assert conversation.adapter.effects == [b"x", b"y"]


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (execute(1), "Execute"),
        (SetPart(2, False, b""), r"SetPart\(2\)"),
        (SetPart(0, False, b""), r"SetPart\(0\)"),
        (HELLO, "Hello"),
        (Sync(), "Sync"),
    ],
)
def test_anything_but_the_next_part_ends_the_wrapper(frame: ToWrapper, found: str) -> None:
    """Half a state is none."""
    conversation = greeted()
    with pytest.raises(StateInterrupted, match=f"part 1 of a state expected, not {found}"):
        conversation.say(SetState(9, 3), SetPart(0, False, b"x"), frame)


def test_garbage_within_a_state_ends_the_wrapper() -> None:
    """The same for bytes that are no frame."""
    conversation = greeted()
    with pytest.raises(StateInterrupted, match="unknown kind"):
        conversation.say_bytes(encode_frame(SetState(9, 3)) + b"\0\0\0\1\xee")


def test_a_connection_that_ends_within_a_state_ends_the_wrapper() -> None:
    """The exception passes through the adapter."""
    with pytest.raises(LinkClosed):
        greeted().say(SetState(9, 3), SetPart(0, False, b"x"))


def test_an_adapter_that_does_not_read_the_whole_state_is_noticed() -> None:
    """It would miss what it did not read."""
    conversation = greeted()
    conversation.adapter.parts_wanted = 1
    parts = [SetPart(index, index == 2, b"x") for index in range(3)]
    with pytest.raises(AdapterError, match="set_state returned before the last part"):
        conversation.say(SetState(9, 3), *parts)


@pytest.mark.parametrize("frame", [SetPart(0, True, b""), SetState(0, 3)])
def test_a_part_without_a_state_and_a_state_before_the_first_number_end_the_connection(frame: ToWrapper) -> None:
    """Neither has a meaning."""
    with pytest.raises(ProtocolError):
        greeted().say(frame)
