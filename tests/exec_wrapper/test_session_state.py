"""The wrapper's session: states outwards by credit, and inwards."""

import pytest

from exec_wrapper.errors import AdapterError, LinkClosed, ProtocolError, StateInterrupted
from exec_wrapper.framing import encode_frame
from exec_wrapper.session import HELD_FRAMES_MAX
from exec_wrapper.state_stream import PartReader, StateStream
from exec_wrapper.wire import (
    Applied,
    ApplyUpdates,
    CancelState,
    Executed,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    Sync,
    TakeState,
    ToWrapper,
    WrapperHello,
)
from tests.exec_wrapper.conversation import HELLO, Conversation, execute, greeted
from tests.exec_wrapper.recording_adapter import RecordingAdapter

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
