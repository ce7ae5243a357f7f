"""What the checker has to know of a service, and the key-value service in these terms.

Source: `exec_wrapper/examples/key_value_commands.py` for the language; the rules are written down here a second time,
independently of the service's code: a checker that asked the service would believe its mistakes.
"""

import enum
from typing import Protocol, TypeVar

from benchmarks.linearizability.operation import Operation
from exec_wrapper.examples import key_value_commands as commands
from exec_wrapper.examples.key_value_commands import decode_fields, decode_reply, encode_field

State = TypeVar("State")


class Refusal(enum.Enum):
    """The only value that is no state."""

    IMPOSSIBLE = "impossible"
    """In this state the request is not answered so."""


class Model(Protocol[State]):
    """A service whose state falls apart into keys; a request touches one.

    States are hashable and compare by value.
    """

    @property
    def initial(self) -> State:
        """The state of a key that nobody has touched."""
        ...

    def key_of(self, payload: bytes) -> bytes:
        """Return the key that a request touches.

        Raises:
            ValueError: it touches several, or is no request of this service.
        """
        ...

    def is_read(self, operation: Operation) -> bool:
        """Whether the operation, as it was answered, leaves every state as it is."""
        ...

    def step(self, state: State, operation: Operation) -> State | Refusal:
        """Return the state after the operation; any outcome will do for a pending one."""
        ...

    def describe(self, operation: Operation) -> str:
        """Return request and reply for people."""
        ...


Value = bytes | None
"""The value of a key; `None`: it has none."""

STAMP_BYTES = 16
LENGTH_BYTES = 8
_NAMES = {
    commands.GET: "get",
    commands.SET: "set",
    commands.DELETE: "delete",
    commands.APPEND: "append",
    commands.COMPARE_AND_SET: "compare and set",
    commands.ECHO: "echo",
    commands.STAMP: "stamp",
}
_STATUSES = {
    commands.OK: "ok",
    commands.NOT_FOUND: "not found",
    commands.MISMATCH: "mismatch",
    commands.BAD_REQUEST: "bad request",
    commands.TOO_LARGE: "too large",
}
ECHO_KEY = b"\x00echo"
"""Echoes touch nothing; they are checked as if they all touched a key of their own that never changes."""


class KeyValueModel:
    """The key-value service: get, set, delete, append, compare-and-set, echo and stamp.

    Not scans, which touch many keys: a history with scans cannot be checked key by key.
    """

    initial: Value = None

    def key_of(self, payload: bytes) -> bytes:
        """Return the key of a request."""
        kind, fields = payload[:1], decode_fields(payload, 1)
        if kind not in _NAMES or not fields:
            raise ValueError(f"a request that touches no single key cannot be checked: {payload[:32]!r}")
        return ECHO_KEY if kind == commands.ECHO else fields[0]

    def is_read(self, operation: Operation) -> bool:
        """Gets, echoes, and writes that said that they changed nothing."""
        if operation.payload[:1] in (commands.GET, commands.ECHO):
            return True
        return operation.reply is not None and operation.reply[:1] != commands.OK

    def step(self, state: Value, operation: Operation) -> Value | Refusal:
        """Execute the operation in `state` and compare the reply."""
        kind, (key, *arguments) = operation.payload[:1], decode_fields(operation.payload, 1)
        expected, after = _execute(kind, state, key, arguments, operation.reply)
        if operation.reply is not None and operation.reply != expected:
            return Refusal.IMPOSSIBLE
        return after

    def describe(self, operation: Operation) -> str:
        """Return request and reply in words."""
        kind, fields = operation.payload[:1], decode_fields(operation.payload, 1)
        asked = " ".join([_NAMES.get(kind, repr(kind)), *(_text(field) for field in fields)])
        if operation.reply is None:
            return f"{asked} → pending"
        try:
            reply = decode_reply(operation.reply)
        except ValueError:
            return f"{asked} → no reply of this service: {operation.reply[:64]!r}"
        answer = [_STATUSES.get(reply.status, repr(reply.status)), *(_text(field) for field in reply.fields)]
        return f"{asked} → {' '.join(answer)}"


def _execute(kind: bytes, state: Value, key: bytes, arguments: list[bytes], reply: bytes | None) -> tuple[bytes, Value]:
    """Return the reply and the value after one request."""
    match kind, arguments:
        case commands.ECHO, []:
            return commands.OK + encode_field(key), state
        case commands.GET, []:
            return (commands.NOT_FOUND if state is None else commands.OK + encode_field(state)), state
        case commands.SET, [value]:
            return _put(key, state, value, commands.OK)
        case commands.DELETE, []:
            return (commands.NOT_FOUND if state is None else commands.OK), None
        case commands.APPEND, [addition]:
            longer = (state or b"") + addition
            return _put(key, state, longer, commands.OK + encode_field(len(longer).to_bytes(LENGTH_BYTES)))
        case commands.COMPARE_AND_SET, [value, *condition]:
            if state == (condition[0] if condition else None):
                return _put(key, state, value, commands.OK)
            return commands.MISMATCH + (b"" if state is None else encode_field(state)), state
        case commands.STAMP, []:
            return _stamp(reply)
    raise ValueError(f"not a request of this service: {kind!r} with {len(arguments)} arguments")


def _put(key: bytes, state: Value, value: bytes, reply: bytes) -> tuple[bytes, Value]:
    """Store `value`, unless it is too large."""
    if len(key) > commands.KEY_BYTES_MAX or len(value) > commands.VALUE_BYTES_MAX:
        return commands.TOO_LARGE, state
    return reply, value


def _stamp(reply: bytes | None) -> tuple[bytes, Value]:
    """Whatever time and randomness were agreed on: the reply says it, and alone it can.

    Raises:
        ValueError: the stamp is pending: its value would be a guess.
    """
    if reply is None:
        raise ValueError("a pending stamp cannot be checked: nobody knows what it may have stored")
    value = reply[-STAMP_BYTES:]
    return commands.OK + encode_field(value), value


def _text(field: bytes) -> str:
    text = repr(field)[1:]
    return text if len(text) <= 80 else f"{text[:60]}… ({len(field)} bytes)"


__all__ = ["KeyValueModel", "Model", "Refusal", "State", "Value"]
