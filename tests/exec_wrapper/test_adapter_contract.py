"""The contract finds what it is for: one adapter with one planted mistake per rule."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from exec_wrapper.adapter_contract import ContractViolation, check_adapter
from exec_wrapper.examples import key_value_commands as commands
from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate

REQUESTS = [commands.encode_set(b"key %d" % number, b"v" * 999) for number in range(9)]
REQUESTS += [commands.encode_get(b"key 3"), commands.encode_append(b"key 4", b"more"), commands.encode_delete(b"key 5")]
_counter = itertools.count()


class Nondeterministic(KeyValueAdapter):
    """Replies with something of its own."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        outcome = super().execute(request, context)
        return outcome._replace(reply=outcome.reply + b"%d" % next(_counter))


class NondeterministicUpdate(KeyValueAdapter):
    """Stores something of its own."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        outcome = super().execute(request, context)
        own = commands.encode_field(b"%d" % next(_counter))
        return outcome._replace(update=b"P" + commands.encode_field(b"k") + own if outcome.update else b"")


class HidesAWrite(KeyValueAdapter):
    """Changes its state without an update."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        outcome = super().execute(request, context)
        self._values[b"hidden"] = b"%d" % context.sequence
        return outcome


class ForgetsAnUpdate(KeyValueAdapter):
    """Applies only the last update of a batch."""

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        super().apply_updates(updates[-1:], up_to)


class LongParts(KeyValueAdapter):
    """Gives its state in one piece."""

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        return super().take_state(point, state_format, 1 << 30)


class KeepsOldState(KeyValueAdapter):
    """Adds a state to its own."""

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        old = dict(self._values)
        super().set_state(point, state_format, parts)
        self._values.update(old)


class CursorStaysBehind(KeyValueAdapter):
    """Does not count what changes nothing."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        before = self._cursor
        outcome = super().execute(request, context)
        if not outcome.update:
            self._cursor = before
        return outcome


class EmptyBatchIgnored(KeyValueAdapter):
    """Does not pass numbers without effect."""

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        if updates:
            super().apply_updates(updates, up_to)


class CountsForItself(KeyValueAdapter):
    """Ignores the sequence number."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        return super().execute(request, context._replace(sequence=self._cursor))


class MovingSnapshot(KeyValueAdapter):
    """Claims to be concurrent and reads late."""

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        yield from super().take_state(point, state_format, part_bytes_max)


class BreaksOnGarbage(KeyValueAdapter):
    """Answers damaged requests with what it happens to remember."""

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        outcome = super().execute(request, context)
        if outcome.reply[:1] == commands.BAD_REQUEST:
            return outcome._replace(reply=b"%d" % id(self))
        return outcome


class SyncsNothing(KeyValueAdapter):
    """Claims a cursor that it does not have."""

    def sync(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("adapter", "complaint"),
    [
        (Nondeterministic, "replies to .* differ"),
        (NondeterministicUpdate, "updates of .* differ"),
        (HidesAWrite, "executing, and applying batches of 1: part 0 of the states differs"),
        (ForgetsAnUpdate, "executing, and applying batches of 3"),
        (LongParts, r"part 0 has \d+ bytes, allowed are 4096"),
        (KeepsOldState, "a state that was set and given again differs"),
        (CursorStaysBehind, "after execute the cursor is 10 instead of 11"),
        (EmptyBatchIgnored, "cursor is .* instead of"),
        (CountsForItself, "after execute the cursor is 5 instead of 8"),
        (MovingSnapshot, "a snapshot shows requests that came after it"),
        (BreaksOnGarbage, "outcomes of .* differ"),
        (SyncsNothing, "sync returned 1 instead of 12"),
    ],
)
def test_a_planted_mistake_is_named(adapter: Callable[[], KeyValueAdapter], complaint: str) -> None:
    """The message says which rule was broken, and by what."""
    with pytest.raises(ContractViolation, match=complaint):
        check_adapter(adapter, REQUESTS)


def test_a_state_that_crashes_lose_is_named() -> None:
    """What was synced must be there after a crash."""
    with pytest.raises(ContractViolation, match="the cursor fell from 7, which was synced, to 1"):
        check_adapter(KeyValueAdapter, REQUESTS, reopen=lambda adapter: KeyValueAdapter())


def test_nothing_to_check_with_is_refused() -> None:
    """A check without requests would pass for every adapter."""
    with pytest.raises(ContractViolation, match="there are no requests"):
        check_adapter(KeyValueAdapter, [])
