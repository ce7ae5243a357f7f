"""The simulated service as clients know it, for the general checker of linearizability."""

from collections.abc import Iterable

from benchmarks.linearizability import operation as general
from benchmarks.linearizability.model import Refusal
from tests.simulation.cell.history import Operation

NS_PER_US = 1000


class RegisterModel:
    """`set KEY VALUE` and `append KEY VALUE` say the agreed time and the new value, `get KEY` the value."""

    initial = b""

    def key_of(self, payload: bytes) -> bytes:
        """Return the second word."""
        return payload.split(b" ", 2)[1]

    def is_read(self, operation: general.Operation) -> bool:
        """Gets."""
        return operation.payload.startswith(b"get ")

    def step(self, state: bytes, operation: general.Operation) -> bytes | Refusal:
        """Execute, and compare what the reply says of the value."""
        command, _, *value = operation.payload.split(b" ", 2)
        told = operation.reply
        if command == b"get":
            return state if told in (None, state) else Refusal.IMPOSSIBLE
        after = value[0] if command == b"set" else state + value[0]
        return after if told is None or told.partition(b":")[2] == after else Refusal.IMPOSSIBLE

    def describe(self, operation: general.Operation) -> str:
        """Return request and reply."""
        return f"{operation.payload!r} → {operation.reply!r}"


def as_operations(operations: Iterable[Operation]) -> list[general.Operation]:
    """Return a simulation's operations in the terms of the general checker."""
    return [
        general.Operation(one.client.hex(), one.payload, one.invoked_us * NS_PER_US)
        if one.replied_us < 0
        else general.Operation(
            one.client.hex(), one.payload, one.invoked_us * NS_PER_US, one.replied_us * NS_PER_US, one.reply
        )
        for one in operations
    ]
