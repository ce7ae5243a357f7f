"""A wrapper's session as its manager sees it: messages in, answers out."""

from collections.abc import Callable

from exec_wrapper.errors import LinkClosed
from exec_wrapper.framing import decode_from_wrapper, encode_frame
from exec_wrapper.session import Session
from exec_wrapper.state_stream import PartReader, StateStream
from exec_wrapper.wire import Execute, FromWrapper, Hello, ToWrapper
from tests.exec_wrapper.recording_adapter import RecordingAdapter

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
