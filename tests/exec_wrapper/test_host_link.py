"""The loop of a wrapper, over channels in memory."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from exec_wrapper.errors import LinkClosed
from exec_wrapper.framing import decode_from_wrapper, encode_frame
from exec_wrapper.host_link import SLOW_STEP_S, HostLink, failure_text
from exec_wrapper.service_adapter import Outcome, RequestContext, ServiceAdapter
from exec_wrapper.wire import (
    TEXT_BYTES_MAX,
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
    TakeState,
    ToWrapper,
    WrapperHello,
)
from tests.exec_wrapper.recording_adapter import RecordingAdapter

PATIENCE_S = 60.0
HELLO = Hello(bytes(16), 1 << 20, 1 << 16)
SEED = bytes(32)


class MemoryChannel:
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        self.input: queue.Queue[bytes] = queue.Queue()
        self.output: queue.Queue[bytes] = queue.Queue()
        self.is_open = True
        self._decoder = decode_from_wrapper()
        self._messages: list[FromWrapper] = []

    def read(self) -> bytes:
        return self.input.get(timeout=PATIENCE_S)

    def write(self, data: bytes) -> None:
        if not self.is_open:
            raise LinkClosed("hung up")
        self.output.put(data)

    def close(self) -> None:
        self.is_open = False

    def say(self, *messages: ToWrapper) -> None:
        """Send messages in one read."""
        self.input.put(b"".join(encode_frame(message) for message in messages))

    def hang_up(self) -> None:
        """End the connection, as a host does that disconnects."""
        self.input.put(b"")

    def hear(self, count: int = 1) -> list[FromWrapper]:
        """Wait for messages."""
        while len(self._messages) < count:
            self._messages += self._decoder.feed(self.output.get(timeout=PATIENCE_S))
        heard, self._messages = self._messages[:count], self._messages[count:]
        return heard


class MemoryLink:
    """Gives the prepared channels, one after the other, then breaks."""

    def __init__(self, channels: Sequence[MemoryChannel]) -> None:
        self._channels = list(channels)

    def open_channel(self) -> MemoryChannel:
        if not self._channels:
            raise EndOfTest
        return self._channels.pop(0)


class EndOfTest(Exception):
    """Ends a wrapper that waits for another connection."""


@contextmanager
def serving(adapter: ServiceAdapter, *channels: MemoryChannel) -> Iterator[Callable[[], int | None]]:
    """Run a wrapper in a thread; yields a function that waits for its exit code, `None` if it waits for a host."""
    results: list[int | None] = []

    def serve() -> None:
        try:
            results.append(HostLink(adapter, MemoryLink(channels), "image").serve())
        except EndOfTest:
            results.append(None)

    thread = threading.Thread(target=serve)
    thread.start()

    def wait() -> int | None:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        return results[0]

    try:
        yield wait
    finally:
        for channel in channels:
            channel.hang_up()
        thread.join(PATIENCE_S)


def execute(sequence: int, payload: bytes = b"w") -> Execute:
    """Return a request that follows the number before it."""
    return Execute(sequence - 1, sequence, 0, SEED, payload)


class Gated(RecordingAdapter):
    """Executes `slow` only after the test has opened a gate."""

    def __init__(self) -> None:
        super().__init__("concurrent")
        self.gate = threading.Event()

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        if request == b"slow":
            assert self.gate.wait(PATIENCE_S)
        return super().execute(request, context)


def test_quick_answers_of_one_read_leave_together() -> None:
    """A write costs more than executing a small request."""
    channel = MemoryChannel()
    with serving(RecordingAdapter(), channel):
        channel.say(HELLO)
        channel.hear()
        channel.say(*(execute(number) for number in range(1, 201)))
        assert [type(answer) for answer in channel.hear(200)] == [Executed] * 200
    assert channel.output.qsize() == 0


def test_an_answer_does_not_wait_for_a_slow_request_behind_it() -> None:
    """Once a service has been slow, its answers leave one by one."""
    channel, adapter = MemoryChannel(), Gated()
    with serving(adapter, channel):
        channel.say(HELLO, execute(1, b"slow"))
        threading.Timer(10 * SLOW_STEP_S, adapter.gate.set).start()
        channel.hear(2)
        adapter.gate.clear()
        channel.say(execute(2, b"a"), execute(3, b"b"), execute(4, b"slow"), execute(5, b"c"))
        assert channel.hear(2) == [Executed(2, b"reply to a", b"a"), Executed(3, b"reply to b", b"b")]
        adapter.gate.set()
        assert channel.hear(2)[0] == Executed(4, b"reply to slow", b"slow")


def test_the_next_connection_goes_on_where_the_former_ended() -> None:
    """A host may come back; answers that it did not read are not repeated."""
    first, second = MemoryChannel(), MemoryChannel()
    with serving(RecordingAdapter(), first, second) as wait:
        first.say(HELLO, execute(1), execute(2))
        first.hear(3)
        first.hang_up()
        second.say(HELLO, execute(3))
        hello, executed = second.hear(2)
        assert isinstance(hello, WrapperHello)
        assert hello.cursor == 3
        assert isinstance(executed, Executed)
        second.hang_up()
        assert wait() is None
    assert not first.is_open


def test_a_write_to_a_host_that_hung_up_ends_the_connection_alone() -> None:
    """The request was executed; the next Hello says so."""
    first, second = MemoryChannel(), MemoryChannel()
    first.close()
    with serving(RecordingAdapter(), first, second):
        first.say(HELLO, execute(1))
        second.say(HELLO)
        (hello,) = second.hear()
        assert isinstance(hello, WrapperHello)
        assert hello.cursor in (1, 2)


def test_a_gap_ends_the_connection_after_saying_so() -> None:
    """The wrapper waits for the next one."""
    first, second = MemoryChannel(), MemoryChannel()
    with serving(RecordingAdapter(), first, second):
        first.say(HELLO, execute(1), execute(5))
        assert first.hear(3)[2] == Failed("Execute from 4 to 5 does not follow 1")
        second.say(HELLO, Ping(1))
        assert second.hear(2)[1] == Pong(1)


def test_a_service_that_breaks_ends_the_wrapper(caplog: pytest.LogCaptureFixture) -> None:
    """One line for the manager, after the answers before it; the traceback for people."""
    channel = MemoryChannel()
    with caplog.at_level(logging.ERROR, "exec_wrapper"), serving(RecordingAdapter(), channel) as wait:
        channel.say(HELLO, execute(1), execute(2, b"break"), execute(3))
        assert channel.hear(3)[1:] == [Executed(1, b"reply to w", b"w"), Failed("ServiceBroke: told to break")]
        assert wait() == 1
    assert caplog.records[0].exc_info is not None


def test_a_concurrent_state_streams_while_a_request_executes() -> None:
    """Neither waits for the other."""
    channel, adapter = MemoryChannel(), Gated()
    with serving(adapter, channel):
        channel.say(HELLO, execute(1, b"a"), execute(2, b"b"))
        channel.hear(3)
        channel.say(TakeState(2, 3, 3), NextPart(1), execute(3, b"slow"))
        assert channel.hear() == [StatePart(3, 0, False, b"a")]
        channel.say(NextPart(1))
        adapter.gate.set()
        assert sorted(map(str, channel.hear(2))) == sorted(
            map(str, [StatePart(3, 1, True, b"b"), Executed(3, b"reply to slow", b"slow")])
        )


def test_a_cancelled_concurrent_state_sends_nothing_more() -> None:
    """And the next one begins from its first part."""
    channel, adapter = MemoryChannel(), Gated()
    with serving(adapter, channel):
        channel.say(HELLO, execute(1, b"a"), execute(2, b"b"), TakeState(2, 3, 3), CancelState(3), NextPart(9))
        channel.say(TakeState(2, 3, 3), NextPart(9))
        parts = [message for message in channel.hear(5) if isinstance(message, StatePart)]
        assert parts == [StatePart(3, 0, False, b"a"), StatePart(3, 1, True, b"b")]
    assert adapter.closed_snapshots == 2


def test_a_state_stream_that_breaks_ends_the_wrapper() -> None:
    """The manager is told by the thread; the wrapper ends when the manager hangs up."""
    channel, adapter = MemoryChannel(), Gated()
    adapter.part_error_at = 0
    with serving(adapter, channel) as wait:
        channel.say(HELLO, execute(1, b"a"), TakeState(1, 2, 3), NextPart(1))
        assert channel.hear(3)[2] == Failed("ServiceBroke: no more parts")
        channel.hang_up()
        assert wait() == 1


def test_a_state_may_arrive_in_many_reads() -> None:
    """Pings are answered meanwhile."""
    channel, adapter = MemoryChannel(), RecordingAdapter()
    with serving(adapter, channel):
        channel.say(HELLO, SetState(9, 3))
        channel.say(SetPart(0, False, b"x"), Ping(4))
        assert channel.hear(2)[1] == Pong(4)
        channel.say(SetPart(1, True, b"y"))
        assert channel.hear() == [StateSet(9)]
    assert adapter.effects == [b"x", b"y"]


def test_a_host_that_hangs_up_within_a_state_ends_the_wrapper_without_a_word() -> None:
    """A write to nobody would wait for ever on a virtio port."""
    channel = MemoryChannel()
    with serving(RecordingAdapter(), channel) as wait:
        channel.say(HELLO, SetState(9, 3), SetPart(0, False, b"x"))
        channel.hear()
        channel.hang_up()
        assert wait() == 1
    assert channel.output.empty()


def test_a_failure_text_is_one_bounded_line() -> None:
    """Kind and message, whatever the message is."""
    assert failure_text(ValueError("x")) == "ValueError: x"
    assert len(failure_text(ValueError("x" * 5000)).encode()) == TEXT_BYTES_MAX
