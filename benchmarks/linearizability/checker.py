"""The search for an order of a history's operations that explains every reply.

A history is linearizable if each operation can be given one moment between its sending and its reply at which it
takes effect alone.  Wing and Gong try, at every step, each operation that no other has to precede; Lowe remembers the
positions (operations done, state) that were tried before; keys are searched apart, since a history is linearizable
exactly if that of every key is.

A read that fits the present state is taken at once and nothing else is tried: a later moment could serve it no better.

The search is exponential in the number of operations of one key that are under way together: keep to ten clients a
key.  Operations without a reply stay under way to the end; a handful do no harm, dozens on one key exhaust the bound.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple

from benchmarks.linearizability.model import Model, Refusal, State
from benchmarks.linearizability.operation import Operation

POSITIONS_MAX = 300_000
"""Positions that are searched per key before giving up: some ten seconds and some hundred megabytes."""
SHOWN_MAX = 12
"""Operations of each kind in an explanation."""


@dataclass(frozen=True)
class Linearizable:
    """There is such an order."""

    is_proven: ClassVar[bool] = True
    operation_count: int
    position_count: int
    """Positions that were searched, all keys together."""

    def explain(self) -> str:
        """Return one sentence."""
        return f"linearizable: {self.operation_count} operations, {self.position_count} positions searched"


@dataclass(frozen=True)
class NotLinearizable:
    """There is none: the cell broke its promise."""

    is_proven: ClassVar[bool] = False
    key: bytes
    operation_count: int
    """Operations on the key."""
    longest: tuple[Operation, ...]
    """The beginning of an order that explains more replies than any other."""
    state: object
    """The key's state after it."""
    stuck: tuple[Operation, ...]
    """Answered operations of which one had to come next, and none can: the contradiction is among their replies."""
    descriptions: tuple[str, ...]
    """The end of `longest`, the state and `stuck` in words, a line each."""

    def explain(self) -> str:
        """Return what contradicts what, in several lines."""
        return "\n  ".join([f"not linearizable: key {self.key!r}", *self.descriptions])


@dataclass(frozen=True)
class Unknown:
    """The bound was reached; counts as failed."""

    is_proven: ClassVar[bool] = False
    key: bytes
    operation_count: int
    """Operations on the key."""
    positions_max: int

    def explain(self) -> str:
        """Return one sentence with a hint."""
        return (
            f"unknown: no answer for key {self.key!r} with {self.operation_count} operations after "
            f"{self.positions_max} positions; record with fewer clients per key, or raise the bound"
        )


Verdict = Linearizable | NotLinearizable | Unknown


def check(operations: Iterable[Operation], model: Model[State], positions_max: int = POSITIONS_MAX) -> Verdict:
    """Judge a history.

    Args:
        operations: in any order; an operation is before another only if its reply came before the other was sent.
        model: the service.
        positions_max: bound of the search, per key.

    Returns:
        `NotLinearizable` if one key is not, else `Unknown` if the bound was reached for one, else `Linearizable`.

    Raises:
        ValueError: a request that the model cannot judge.
    """
    by_key: defaultdict[bytes, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[model.key_of(operation.payload)].append(operation)
    unknown: Unknown | None = None
    position_count = 0
    for key, on_key in sorted(by_key.items()):
        verdict = check_key(key, on_key, model, positions_max)
        match verdict:
            case NotLinearizable():
                return verdict
            case Unknown():
                unknown = verdict
            case Linearizable():
                position_count += verdict.position_count
    return unknown or Linearizable(sum(map(len, by_key.values())), position_count)


def check_key(key: bytes, operations: Sequence[Operation], model: Model[State], positions_max: int) -> Verdict:
    """Judge the operations on one key."""
    search = _Search(operations, model)
    while search.stack:
        if len(search.came_from) > positions_max:
            return Unknown(key, len(operations), positions_max)
        if search.advance():
            return Linearizable(len(operations), len(search.came_from))
    return search.contradiction(key)


class _Position(NamedTuple, Generic[State]):
    """How far an order has come."""

    first: int
    """Index of the first answered operation that is not in it."""
    beyond: int
    """Which answered operations from `first` on are in it, as bits; bit 0 is 0."""
    pending: int
    """Which pending operations are in it, as bits."""
    state: State


_Step = tuple[_Position[State], Operation]


class _Search(Generic[State]):
    """Depth first, without recursion; every position once."""

    def __init__(self, operations: Sequence[Operation], model: Model[State]) -> None:
        by_invocation = sorted(operations, key=lambda operation: operation.invoked_ns)
        self._model = model
        self._answered = [operation for operation in by_invocation if not operation.is_pending]
        # A pending read has no reply to explain and changes nothing.
        self._pending = [one for one in by_invocation if one.is_pending and not model.is_read(one)]
        start = _Position(0, 0, 0, model.initial)
        self.stack = [start]
        self.came_from: dict[_Position[State], _Step[State] | None] = {start: None}
        self._farthest, self._farthest_count = start, -1

    def advance(self) -> bool:
        """Go one position on; return whether every answered operation is explained."""
        position = self.stack.pop()
        if position.first == len(self._answered):
            return True
        self._note(position)
        for successor, operation in self._successors(position):
            if successor not in self.came_from:
                self.came_from[successor] = (position, operation)
                self.stack.append(successor)
        return False

    def _note(self, position: _Position[State]) -> None:
        count = position.first + position.beyond.bit_count()
        if count > self._farthest_count:
            self._farthest, self._farthest_count = position, count

    def _next(self, position: _Position[State]) -> tuple[list[int], int]:
        """Return which answered operations no other must precede, and the earliest reply among the open ones."""
        answered = self._answered
        candidates: list[int] = []
        earliest_ns: int | None = None
        for index in range(position.first, len(answered)):
            operation = answered[index]
            if earliest_ns is not None and operation.invoked_ns > earliest_ns:
                break
            if not position.beyond >> (index - position.first) & 1:
                candidates.append(index)
                replied_ns = operation.replied_ns
                assert replied_ns is not None, "pending operations are kept apart"
                earliest_ns = replied_ns if earliest_ns is None else min(earliest_ns, replied_ns)
        assert earliest_ns is not None, "a finished position has no successors"
        return [index for index in candidates if answered[index].invoked_ns <= earliest_ns], earliest_ns

    def _successors(self, position: _Position[State]) -> list[_Step[State]]:
        """Return the positions after one more operation, the most promising last."""
        candidates, earliest_ns = self._next(position)
        found: list[_Step[State]] = []
        for index in candidates:
            operation = self._answered[index]
            state = self._model.step(position.state, operation)
            if isinstance(state, Refusal):
                continue
            step = (self._with_answered(position, index, state), operation)
            if self._model.is_read(operation):
                return [step]
            found.append(step)
        # Who was answered first probably took effect first; a pending operation perhaps never did.
        found.sort(key=lambda step: -(step[1].replied_ns or 0))
        return [*self._with_pending(position, earliest_ns), *found]

    def _with_pending(self, position: _Position[State], earliest_ns: int) -> Iterator[_Step[State]]:
        for index, operation in enumerate(self._pending):
            if operation.invoked_ns > earliest_ns:
                return
            bit = 1 << index
            if not position.pending & bit:
                state = self._model.step(position.state, operation)
                assert not isinstance(state, Refusal), "a pending operation has no reply to contradict"
                yield position._replace(pending=position.pending | bit, state=state), operation

    def _with_answered(self, position: _Position[State], index: int, state: State) -> _Position[State]:
        done = position.beyond | 1 << (index - position.first)
        # The trailing ones of `done` are finished for good: short numbers make cheap positions.
        finished = (~done & (done + 1)).bit_length() - 1
        return _Position(position.first + finished, done >> finished, position.pending, state)

    # -- evidence ----------------------------------------------------------------------------------------------

    def contradiction(self, key: bytes) -> NotLinearizable:
        """Return the longest explanation, and what could not follow it."""
        position = self._farthest
        longest = tuple(self._path(position))
        stuck = tuple(self._answered[index] for index in self._next(position)[0])
        count = len(self._answered) + len(self._pending)
        lines = [
            f"an order explains {self._farthest_count} of {len(self._answered)} replies and no more; it ends with",
            *(f"  {self._line(operation)}" for operation in longest[-SHOWN_MAX:]),
            f"and leaves {_shortened(position.state)}, which cannot be followed by any of",
            *(f"  {self._line(operation)}" for operation in stuck[:SHOWN_MAX]),
        ]
        return NotLinearizable(key, count, longest, position.state, stuck, tuple(lines))

    def _path(self, position: _Position[State]) -> list[Operation]:
        path: list[Operation] = []
        step = self.came_from[position]
        while step is not None:
            path.append(step[1])
            step = self.came_from[step[0]]
        return path[::-1]

    def _line(self, operation: Operation) -> str:
        end = "…" if operation.replied_ns is None else operation.replied_ns
        return f"{operation.client} {operation.invoked_ns}-{end} ns: {self._model.describe(operation)}"


def _shortened(state: object) -> str:
    text = repr(state)
    return text if len(text) <= 80 else f"{text[:60]}…"


__all__ = ["Linearizable", "NotLinearizable", "POSITIONS_MAX", "Unknown", "Verdict", "check", "check_key"]
