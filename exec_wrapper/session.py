"""The wrapper's half of the protocol, without I/O: bytes in, calls of the adapter, bytes out.

One `Session` lives as long as the process; every `Hello` begins a new connection within it.
The link feeds it bytes, lets it `step` through them one message at a time, and sends what `take_output` returns;
so a reply can leave before the next request is executed.
"""

from collections import deque
from typing import Callable, Deque, Dict, Iterator, List, Optional

from exec_wrapper.encoding import encode_executed, encode_frame
from exec_wrapper.errors import AdapterError, ProtocolError, StateInterrupted
from exec_wrapper.framing import FrameDecoder, decode_to_wrapper
from exec_wrapper.layout import EXECUTED_OVERHEAD_BYTES, HELLO_BYTES, HELLO_PREFIX
from exec_wrapper.service_adapter import RequestContext, SequencedUpdate, ServiceAdapter
from exec_wrapper.state_stream import InlineStream, PartReader, StateStream
from exec_wrapper.wire import (
    PROTOCOL_VERSION,
    Applied,
    ApplyUpdates,
    CancelState,
    Execute,
    Failed,
    Hello,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StateSet,
    Sync,
    Synced,
    TakeState,
    ToWrapper,
    WireError,
    WrapperHello,
)

HELD_FRAMES_MAX = 65536
"""Feed frames held back while a blocking service streams its state; a manager's window is far smaller."""

StartStream = Callable[[PartReader], StateStream]
WaitForInput = Callable[[], None]


class Session:
    """Talks with one replica manager after another on behalf of one adapter.

    Nothing that is received before a `Hello` has any effect.  After a `ProtocolError` everything is discarded again
    until the next `Hello`; after any other exception the session must not be used any more.
    """

    def __init__(
        self, adapter: ServiceAdapter, image: str, wait_for_input: WaitForInput, start_stream: Optional[StartStream]
    ) -> None:
        """Begin without a connection.

        Args:
            adapter: the service.
            image: name of the image that this domain was booted from, told to the manager.
            wait_for_input: sends pending output and returns after more bytes were fed; raises `LinkClosed`.
                Called while `set_state` wants a part that has not come yet.
            start_stream: streams a state beside `execute`; used for adapters with concurrent snapshots.
        """
        self._adapter = adapter
        self._image = image
        self._wait_for_input = wait_for_input
        self._start_stream = start_stream if adapter.snapshot == "concurrent" else None
        self._covered = adapter.cursor() - 1
        self._decoder: Optional[FrameDecoder[ToWrapper]] = None
        self._stale = b""
        self._hello_again = HELLO_PREFIX
        """How the next `Hello` of this manager begins: with the epoch of this connection."""
        self._inbox: Deque[ToWrapper] = deque()
        self._held: Deque[ToWrapper] = deque()
        self._wire_error = ""
        self._output: List[bytes] = []
        self._stream: Optional[StateStream] = None
        self._frame_bytes_max = 0
        self._part_bytes_max = 0
        self._handlers: Dict[type, Callable[..., None]] = {
            Execute: self._execute,
            ApplyUpdates: self._apply_updates,
            TakeState: self._take_state,
            NextPart: self._next_part,
            CancelState: self._cancel_state,
            SetState: self._set_state,
            SetPart: self._unexpected_part,
            Sync: self._sync,
            Ping: self._ping,
            Hello: self._hello,
        }

    # ── the link's side ──

    def feed(self, data: bytes) -> None:
        """Take received bytes; they are handled by `step`."""
        data = self._find_hello(data) if self._decoder is None else self._cut_at_hello(data)
        if self._decoder is None:
            return
        try:
            self._inbox.extend(self._decoder.feed(data))
        except WireError as error:
            self._inbox.extend(error.messages)  # type: ignore[arg-type]  # they come from the same decoder
            self._wire_error = str(error)

    def step(self) -> bool:
        """Handle one message; return whether there may be more.

        Raises:
            ProtocolError: the connection cannot go on; `Failed` is in the output.
            AdapterError, or anything that the adapter raised: the wrapper cannot go on.
        """
        try:
            if self._inbox:
                message = self._inbox.popleft()
                self._handlers[type(message)](message)
                return True
            if self._wire_error:
                raise ProtocolError(self._wire_error)
        except ProtocolError as error:
            output = self.take_output()
            self.disconnected()
            self.emit(output + encode_frame(Failed(str(error))))
            raise
        return False

    def take_output(self) -> bytes:
        """Return, and forget, the frames to send."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    @property
    def has_output(self) -> bool:
        """Whether frames wait to be sent."""
        return bool(self._output)

    def emit(self, frame: bytes) -> None:
        """Append a frame to the output."""
        self._output.append(frame)

    def disconnected(self) -> None:
        """Forget the connection: what was received, what is to be sent, the state stream."""
        self._drop_stream()
        self._decoder = None
        self._stale = b""
        self._inbox.clear()
        self._held.clear()
        self._output.clear()
        self._wire_error = ""

    # ── the beginning of a connection ──

    def _find_hello(self, data: bytes) -> bytes:
        """Discard everything before the first `Hello`; return the bytes from there if it is complete."""
        data = self._stale + data
        begin = data.find(HELLO_PREFIX)
        if begin < 0:
            self._stale = data[-(len(HELLO_PREFIX) - 1) :]
            return b""
        data = data[begin:]
        if len(data) < HELLO_BYTES:
            self._stale = data
            return b""
        self._stale = b""
        self._decoder = decode_to_wrapper()
        return data

    def _cut_at_hello(self, data: bytes) -> bytes:
        """Return `data`, or what of it belongs to a new connection that nobody announced.

        The end of a connection over a virtio-serial port may pass unnoticed, while the service executes or the
        machine is suspended, and leave half a frame.  The `Hello` after it is known by the epoch of the former
        connection, which no client can know: it is searched for in every read, whatever the frames say.
        A manager writes its few bytes at once, and a port does not split them.
        """
        position = data.rfind(self._hello_again)
        if position < 0:
            return data
        self._decoder = decode_to_wrapper()
        return data[position:]

    def _hello(self, message: Hello) -> None:
        self._drop_stream()
        self._held.clear()
        self._output.clear()
        self._hello_again = HELLO_PREFIX + message.epoch
        if self._decoder is not None:
            self._decoder.frame_bytes_max = message.frame_bytes_max
        self._frame_bytes_max = message.frame_bytes_max
        self._part_bytes_max = message.state_part_bytes_max
        adapter = self._adapter
        is_concurrent = self._start_stream is not None
        names = (adapter.service, adapter.version, self._image)
        hello = WrapperHello(message.epoch, self._covered + 1, adapter.state_format, is_concurrent, *names)
        self.emit(encode_frame(hello))
        if message.protocol != PROTOCOL_VERSION:
            # After the echo, which names our protocol: what comes before it is not read.
            raise ProtocolError("protocol %d is not spoken here, only %d" % (message.protocol, PROTOCOL_VERSION))

    def _ping(self, message: Ping) -> None:
        self.emit(encode_frame(Pong(message.token)))

    # ── the feed ──

    def _execute(self, message: Execute) -> None:
        if self._is_held(message):
            return
        previous, sequence, timestamp_us, seed, payload = message
        if previous != self._covered or sequence <= previous:
            raise self._gap("Execute", previous, sequence)
        reply, update = self._adapter.execute(payload, RequestContext(sequence, timestamp_us, seed))
        self._covered = sequence
        if len(reply) + len(update) + EXECUTED_OVERHEAD_BYTES > self._frame_bytes_max:
            sizes = (sequence, len(reply), len(update), self._frame_bytes_max)
            raise AdapterError("request %d: reply of %d and update of %d bytes, a frame has at most %d" % sizes)
        self._output.append(encode_executed(sequence, reply, update))

    def _apply_updates(self, message: ApplyUpdates) -> None:
        if self._is_held(message):
            return
        if message.previous != self._covered or message.up_to < message.previous:
            raise self._gap("ApplyUpdates", message.previous, message.up_to)
        last = message.previous
        for sequence, _ in message.updates:
            if not last < sequence <= message.up_to:
                raise self._gap("an update of ApplyUpdates", last, sequence)
            last = sequence
        self._advance([SequencedUpdate(*update) for update in message.updates], message.up_to)
        self.emit(encode_frame(Applied(message.up_to)))

    def _advance(self, updates: List[SequencedUpdate], up_to: int) -> None:
        self._adapter.apply_updates(updates, up_to)
        self._covered = up_to
        self._check_cursor("apply_updates")

    def _check_cursor(self, method: str) -> None:
        cursor = self._adapter.cursor()
        if cursor != self._covered + 1:
            raise AdapterError("after %s the cursor is %d instead of %d" % (method, cursor, self._covered + 1))

    def _gap(self, kind: str, previous: int, sequence: int) -> ProtocolError:
        return ProtocolError("%s from %d to %d does not follow %d" % (kind, previous, sequence, self._covered))

    def _sync(self, message: Sync) -> None:
        self.emit(encode_frame(Synced(self._adapter.sync())))

    # ── the state, outwards ──

    def _take_state(self, message: TakeState) -> None:
        if self._stream is not None and self._stream.is_open:
            raise ProtocolError("TakeState(%d) while the state of %d streams" % (message.point, self._stream.point))
        if message.previous != self._covered or message.point <= message.previous:
            raise self._gap("TakeState", message.previous, message.point)
        if message.point - 1 > self._covered:
            self._advance([], message.point - 1)
        parts = self._adapter.take_state(message.point, message.state_format, self._part_bytes_max)
        reader = PartReader(message.point, parts, self._part_bytes_max)
        self._stream = self._start_stream(reader) if self._start_stream else InlineStream(reader, self.emit)

    def _next_part(self, message: NextPart) -> None:
        # Credit may cross the last part on its way; then there is nothing to do.
        if self._stream is not None and self._stream.is_open:
            self._stream.give_credit(message.count)
            self._release_held()

    def _cancel_state(self, message: CancelState) -> None:
        if self._stream is not None and self._stream.point == message.point:
            self._drop_stream()
            self._release_held()

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    def _is_held(self, message: ToWrapper) -> bool:
        """Hold back a feed frame while a service that cannot execute meanwhile gives its state."""
        if self._start_stream is not None or self._stream is None or not self._stream.is_open:
            return False
        if len(self._held) >= HELD_FRAMES_MAX:
            raise ProtocolError("more than %d feed frames while the state streams" % HELD_FRAMES_MAX)
        self._held.append(message)
        return True

    def _release_held(self) -> None:
        if self._stream is None or not self._stream.is_open:
            self._inbox.extendleft(reversed(self._held))
            self._held.clear()

    # ── the state, inwards ──

    def _set_state(self, message: SetState) -> None:
        if self._stream is not None and self._stream.is_open:
            raise ProtocolError("SetState(%d) while the state of %d streams" % (message.point, self._stream.point))
        if message.point < 1:
            raise ProtocolError("SetState(%d): a cursor is at least 1" % message.point)
        parts = self._received_parts()
        try:
            self._adapter.set_state(message.point, message.state_format, parts)
            if next(parts, None) is not None:
                raise AdapterError("set_state returned before the last part")
        except ProtocolError as error:
            raise StateInterrupted(str(error)) from error
        self._covered = message.point - 1
        self._check_cursor("set_state")
        self.emit(encode_frame(StateSet(message.point)))

    def _received_parts(self) -> Iterator[bytes]:
        """Yield the data of `SetPart` frames until the last one; answer pings meanwhile."""
        expected_index = 0
        while True:
            message = self._next_message()
            if isinstance(message, Ping):
                self._ping(message)
                continue
            if not isinstance(message, SetPart) or message.index != expected_index:
                raise ProtocolError("part %d of a state expected, not %s" % (expected_index, describe(message)))
            yield message.data
            if message.is_last:
                return
            expected_index += 1

    def _next_message(self) -> ToWrapper:
        while not self._inbox:
            if self._wire_error:
                raise ProtocolError(self._wire_error)
            self._wait_for_input()
        return self._inbox.popleft()

    def _unexpected_part(self, message: SetPart) -> None:
        raise ProtocolError("%s without SetState" % describe(message))


def describe(message: ToWrapper) -> str:
    """Return kind and number of a message, without its payload."""
    if isinstance(message, SetPart):
        return "SetPart(%d)" % message.index
    return type(message).__name__
