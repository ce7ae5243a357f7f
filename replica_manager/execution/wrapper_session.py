"""The manager's half of the wrapper protocol, without I/O: bytes of a domain in, messages or misbehaviour out.

A virtio-serial port delivers what was in flight for a former connection, possibly from the middle of a frame.
So everything is discarded until the wrapper echoes the random epoch of this connection; the echo is searched for
byte by byte, because no frame boundary is known before it.

Source: design "Wrapper protocol"; `docs/wrapper-protocol.md`.
"""

import enum
from dataclasses import dataclass
from typing import Final

from exec_wrapper.framing import FrameDecoder, decode_from_wrapper, encode_frame
from exec_wrapper.layout import KIND_WRAPPER_HELLO, LENGTH_BYTES, WRAPPER_HELLO_BYTES_MAX
from exec_wrapper.wire import (
    EPOCH_BYTES,
    PROTOCOL_VERSION,
    Executed,
    Failed,
    FromWrapper,
    Hello,
    StatePart,
    WireError,
    WrapperHello,
)

NO_EPOCH: Final = bytes(EPOCH_BYTES)
STALE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may come before the echo: far more than the buffers between two ends hold."""


class MisbehaviourKind(enum.Enum):
    """What a domain did that no correct wrapper does.  The values name events."""

    MALFORMED_FRAME = "malformed_frame"
    """Bytes that are no frame, or a frame over the limit."""
    NO_ECHO = "no_echo"
    """Many bytes and no echo of the epoch, or one of another protocol."""
    UNEXPECTED_FRAME = "unexpected_frame"
    """A well-formed frame that breaks the protocol whatever was asked."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Why a connection with a domain cannot go on."""

    kind: MisbehaviourKind
    text: str
    """For an operator: the offending value and the limit."""

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.kind.value}: {self.text}"


@dataclass(frozen=True, slots=True)
class WrapperLimits:
    """What a domain may send, told to it in `Hello`."""

    frame_bytes_max: int
    state_part_bytes_max: int


class WrapperSession:
    """One connection with one wrapper.  After a misbehaviour nothing is believed any more."""

    def __init__(self, epoch: bytes, limits: WrapperLimits, former_epoch: bytes = NO_EPOCH) -> None:
        """Begin before the echo.

        Args:
            epoch: 16 random bytes, new for every connection.
            limits: what the domain may send.
            former_epoch: the one of the last connection with this wrapper; it is a secret of the two.
        """
        assert len(epoch) == EPOCH_BYTES
        self.epoch = epoch
        self.hello: WrapperHello | None = None
        """The wrapper's answer, once it has come."""
        self.misbehaviour: Misbehaviour | None = None
        """Set by the `receive` that notices it."""
        self.failure: str | None = None
        """What the wrapper said when it gave up; `Failed` is also handed on as the last message."""
        self.discarded_bytes = 0
        """Bytes that belonged to a former connection."""
        self._former_epoch = former_epoch
        self._limits = limits
        self._decoder: FrameDecoder[FromWrapper] = decode_from_wrapper(limits.frame_bytes_max)
        self._is_echo_found = False
        self._before_echo = b""

    def opening_frame(self) -> bytes:
        """Return the frame that begins the connection; nothing else is sent before `hello` is set."""
        limits = self._limits
        former_epoch = self._former_epoch
        hello = Hello(self.epoch, limits.frame_bytes_max, limits.state_part_bytes_max, former_epoch=former_epoch)
        return encode_frame(hello)

    def receive(self, data: bytes) -> list[FromWrapper]:
        """Take bytes; return the messages after `WrapperHello` that they complete.

        `misbehaviour` and `failure` say whether more follows; the returned messages came before it.
        """
        if self.misbehaviour is not None or self.failure is not None:
            return []
        if not self._is_echo_found:
            data = self._from_echo(data)
            if not self._is_echo_found:
                return []
        try:
            messages = self._decoder.feed(data)
        except WireError as error:
            self._misbehave(MisbehaviourKind.MALFORMED_FRAME, str(error))
            messages = list(error.messages)  # type: ignore[arg-type]  # they come from this decoder
        return self._checked(messages)

    def _from_echo(self, data: bytes) -> bytes:
        """Return the bytes from the frame with the echo on, or nothing if it has not come."""
        data = self._before_echo + data
        echo = bytes((KIND_WRAPPER_HELLO,)) + self.epoch
        position = data.find(echo, LENGTH_BYTES)
        if position < 0:
            # Long enough that an echo that has begun, with its length field, is not lost.
            self._before_echo = data[-(LENGTH_BYTES + len(echo) - 1) :]
            self.discarded_bytes += len(data) - len(self._before_echo)
            if self.discarded_bytes > STALE_BYTES_MAX:
                self._misbehave(MisbehaviourKind.NO_ECHO, f"{self.discarded_bytes} bytes without an echo")
            return b""
        self._is_echo_found = True
        self._before_echo = b""
        begin = position - LENGTH_BYTES
        self.discarded_bytes += begin
        length = int.from_bytes(data[begin:position], "big")
        if length > WRAPPER_HELLO_BYTES_MAX:
            self._misbehave(MisbehaviourKind.MALFORMED_FRAME, f"a WrapperHello of {length} bytes")
            return b""
        return data[begin:]

    def _checked(self, messages: list[FromWrapper]) -> list[FromWrapper]:
        """Return the messages up to the first that no wrapper may send, or that is its last."""
        for position, message in enumerate(messages):
            if type(message) is Executed:  # nearly all of them
                continue
            fault = self._fault_of(message)
            if fault is not None:
                self._misbehave(*fault)
                messages = messages[:position]
                break
            if type(message) is Failed:
                self.failure = message.text
                messages = messages[: position + 1]
                break
        if messages and type(messages[0]) is WrapperHello:
            del messages[0]
        return messages

    def _fault_of(self, message: FromWrapper) -> tuple[MisbehaviourKind, str] | None:
        if isinstance(message, WrapperHello):
            if self.hello is not None:
                return MisbehaviourKind.UNEXPECTED_FRAME, "a second WrapperHello"
            if message.protocol != PROTOCOL_VERSION:
                text = f"protocol {message.protocol} instead of {PROTOCOL_VERSION}"
                return MisbehaviourKind.NO_ECHO, text
            if message.cursor < 1:
                return MisbehaviourKind.UNEXPECTED_FRAME, "a cursor of 0"
            self.hello = message
        elif isinstance(message, StatePart) and len(message.data) > self._limits.state_part_bytes_max:
            text = f"a state part of {len(message.data)} bytes, allowed are {self._limits.state_part_bytes_max}"
            return MisbehaviourKind.UNEXPECTED_FRAME, text
        return None

    def _misbehave(self, kind: MisbehaviourKind, text: str) -> None:
        if self.misbehaviour is None:
            self.misbehaviour = Misbehaviour(kind, text)
