"""Checks that every service adapter has to pass; an operator runs them over their own.

`check_adapter(make_adapter, requests)` runs them all; each can be run alone.  They need no cell and no virtual machine.
A cell notices most of what they find too, but late, and as a domain that seems faulty.

Source: design "Service adapter"; `docs/wrap-your-service.md` shows the use.
"""

import hashlib
import random
from typing import Callable, List, NamedTuple, Optional, Sequence

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate, ServiceAdapter

MakeAdapter = Callable[[], ServiceAdapter]
"""Returns an adapter of an empty service, with cursor 1, independent of all others that it returned."""
Reopen = Callable[[ServiceAdapter], ServiceAdapter]
"""Ends the service like a crash, starts it again over the same storage, and returns its new adapter."""

PART_BYTES_MAX = 4096
"""Small, so that states of a few entries already have several parts."""
_FIRST_TIMESTAMP_US = 1_700_000_000_000_000
_HOSTILE_REQUESTS = 200


class ContractViolation(AssertionError):
    """Raised when an adapter breaks a rule; the message names rule, request and values.  The adapter's fault."""


class _Executed(NamedTuple):
    """One executed request."""

    context: RequestContext
    outcome: Outcome


def check_adapter(make_adapter: MakeAdapter, requests: Sequence[bytes], reopen: Optional[Reopen] = None) -> None:
    """Run every check.

    Args:
        make_adapter: makes one adapter after another; adapters with a `close` method are closed after use.
        requests: what clients may send: reads and writes, valid and refused.
        reopen: for services that keep their state on disk.

    Raises:
        ContractViolation: a rule is broken.
    """
    _require(len(requests) > 0, "there are no requests to check with")
    check_determinism(make_adapter, requests)
    check_updates(make_adapter, requests)
    check_state(make_adapter, requests)
    check_empty_updates(make_adapter, requests)
    check_snapshot(make_adapter, requests)
    check_cursor(make_adapter, requests)
    check_hostile_requests(make_adapter, requests)
    if reopen is not None:
        check_durability(make_adapter, requests, reopen)


def check_determinism(make_adapter: MakeAdapter, requests: Sequence[bytes]) -> None:
    """Two services that execute the same requests give the same replies, updates and states, byte by byte."""
    first, second = make_adapter(), make_adapter()
    for request, (context, outcome) in zip(requests, execute_all(first, requests)):  # noqa: B905 - needs 3.10
        other = second.execute(request, context)
        _require(outcome.reply == other.reply, "replies to %r differ: %r, %r", request, outcome.reply, other.reply)
        _require(outcome.update == other.update, "updates of %r differ: %r, %r", request, outcome.update, other.update)
    _require_equal_states(first, second, "two services that executed the same")
    _close(first, second)


def check_updates(make_adapter: MakeAdapter, requests: Sequence[bytes]) -> None:
    """Applying updates, one by one or in batches, leads to the same state as executing."""
    for batch_size in (1, 3, len(requests)):
        executing, applying = make_adapter(), make_adapter()
        executed = execute_all(executing, requests)
        for begin in range(0, len(executed), batch_size):
            batch = executed[begin : begin + batch_size]
            updates = [SequencedUpdate(e.context.sequence, e.outcome.update) for e in batch if e.outcome.update]
            up_to = batch[-1].context.sequence
            applying.apply_updates(updates, up_to)
            _require_cursor(applying, up_to + 1, "apply_updates")
        _require_equal_states(executing, applying, "executing, and applying batches of %d" % batch_size)
        _close(executing, applying)


def check_state(make_adapter: MakeAdapter, requests: Sequence[bytes]) -> None:
    """A state given and set is the same state, also to the requests after it; its parts keep to their limit."""
    giving, taking = make_adapter(), make_adapter()
    middle = (len(requests) + 1) // 2
    execute_all(taking, requests[middle:])  # something that has to disappear
    execute_all(giving, requests[:middle])
    parts = state_parts(giving)
    for index, part in enumerate(parts):
        _require(len(part) <= PART_BYTES_MAX, "part %d has %d bytes, allowed are %d", index, len(part), PART_BYTES_MAX)
    taking.set_state(giving.cursor(), giving.state_format, iter(parts))
    _require_cursor(taking, giving.cursor(), "set_state")
    _require(state_parts(taking) == parts, "a state that was set and given again differs")
    for request in requests[middle:]:
        context = make_context(giving.cursor())
        given, taken = giving.execute(request, context), taking.execute(request, context)
        _require(given == taken, "after set_state %r leads to %r instead of %r", request, taken, given)
    _require_equal_states(giving, taking, "a service and its copy, after more requests")
    _close(giving, taking)


def check_empty_updates(make_adapter: MakeAdapter, requests: Sequence[bytes]) -> None:
    """A request with an empty update leaves the state as it was."""
    adapter = make_adapter()
    before = state_parts(adapter)
    for request in requests:
        outcome = adapter.execute(request, make_context(adapter.cursor()))
        after = state_parts(adapter)
        _require(bool(outcome.update) or before == after, "%r changed the state, but its update is empty", request)
        before = after
    _close(adapter)


def check_snapshot(make_adapter: MakeAdapter, requests: Sequence[bytes]) -> None:
    """A concurrent snapshot stays as it was when it was taken; one that is given up does no harm."""
    adapter = make_adapter()
    middle = (len(requests) + 1) // 2
    execute_all(adapter, requests[:middle])
    expected = state_parts(adapter)
    given_up = adapter.take_state(adapter.cursor(), adapter.state_format, PART_BYTES_MAX)
    next(given_up, None)
    close = getattr(given_up, "close", None)
    if close is not None:
        close()
    if adapter.snapshot == "concurrent":
        snapshot = adapter.take_state(adapter.cursor(), adapter.state_format, PART_BYTES_MAX)
        execute_all(adapter, requests[middle:])
        _require(list(snapshot) == expected, "a snapshot shows requests that came after it")
    _close(adapter)


def check_cursor(make_adapter: MakeAdapter, requests: Sequence[bytes]) -> None:
    """The cursor begins at 1, follows each call, and passes numbers without effect."""
    adapter = make_adapter()
    _require_cursor(adapter, 1, "the start")
    adapter.apply_updates([], 2)
    _require_cursor(adapter, 3, "an empty batch")
    for sequence in (3, 7):  # 4 to 6 have no effect
        adapter.execute(requests[0], make_context(sequence))
        _require_cursor(adapter, sequence + 1, "execute")
    adapter.apply_updates([], 11)
    _require_cursor(adapter, 12, "an empty batch")
    durable_cursor = adapter.sync()
    _require(durable_cursor == 12, "sync returned %d instead of 12", durable_cursor)
    _close(adapter)


def check_hostile_requests(make_adapter: MakeAdapter, requests: Sequence[bytes], seed: int = 1) -> None:
    """Damaged requests get the same reply everywhere and break nothing.  Clients may send anything."""
    source = random.Random(seed)
    first, second = make_adapter(), make_adapter()
    for _ in range(_HOSTILE_REQUESTS):
        request = _damaged(source.choice(requests), source)
        context = make_context(first.cursor())
        outcomes = [adapter.execute(request, context) for adapter in (first, second)]
        _require(outcomes[0] == outcomes[1], "outcomes of %r differ: %r", request, outcomes)
    _require_equal_states(first, second, "two services that got the same damaged requests")
    _close(first, second)


def check_durability(make_adapter: MakeAdapter, requests: Sequence[bytes], reopen: Reopen) -> None:
    """After a crash, state and cursor belong together; what was synced is still there."""
    adapter = make_adapter()
    middle = (len(requests) + 1) // 2
    execute_all(adapter, requests[:middle])
    durable_cursor = adapter.sync()
    _require(durable_cursor == middle + 1, "sync returned %d instead of %d", durable_cursor, middle + 1)
    execute_all(adapter, requests[middle:])
    adapter = reopen(adapter)
    cursor = adapter.cursor()
    _require(cursor >= durable_cursor, "the cursor fell from %d, which was synced, to %d", durable_cursor, cursor)
    expected = make_adapter()
    execute_all(expected, requests[: cursor - 1])
    _require_equal_states(adapter, expected, "a service after a crash, and one that executed up to its cursor")
    _close(adapter, expected)


def execute_all(adapter: ServiceAdapter, requests: Sequence[bytes]) -> List[_Executed]:
    """Execute requests from the cursor on; return contexts and outcomes."""
    executed = []
    for request in requests:
        context = make_context(adapter.cursor())
        executed.append(_Executed(context, Outcome(*adapter.execute(request, context))))
        _require_cursor(adapter, context.sequence + 1, "execute")
    return executed


def state_parts(adapter: ServiceAdapter) -> List[bytes]:
    """Return the state of now."""
    return list(adapter.take_state(adapter.cursor(), adapter.state_format, PART_BYTES_MAX))


def make_context(sequence: int) -> RequestContext:
    """Return the context that these checks use for `sequence`."""
    seed = hashlib.sha256(b"%d" % sequence).digest()
    return RequestContext(sequence, _FIRST_TIMESTAMP_US + 1000 * sequence, seed)


def _damaged(request: bytes, source: random.Random) -> bytes:
    damage = source.randrange(4)
    position = source.randrange(len(request) + 1)
    if damage == 0:
        return request[:position]
    if damage == 1:
        return request[:position] + bytes((source.randrange(256),)) + request[position + 1 :]
    if damage == 2:
        return request + bytes(source.randrange(256) for _ in range(source.randrange(1, 9)))
    return bytes(source.randrange(256) for _ in range(source.randrange(65)))


def _require(condition: bool, rule: str, *values: object) -> None:
    if not condition:
        raise ContractViolation(rule % values if values else rule)


def _require_cursor(adapter: ServiceAdapter, expected: int, after: str) -> None:
    cursor = adapter.cursor()
    _require(cursor == expected, "after %s the cursor is %d instead of %d", after, cursor, expected)


def _require_equal_states(first: ServiceAdapter, second: ServiceAdapter, who: str) -> None:
    ours, theirs = state_parts(first), state_parts(second)
    _require(len(ours) == len(theirs), "%s: states of %d and %d parts", who, len(ours), len(theirs))
    for index, (our_part, their_part) in enumerate(zip(ours, theirs)):  # noqa: B905 - needs 3.10
        _require(our_part == their_part, "%s: part %d of the states differs", who, index)


def _close(*adapters: ServiceAdapter) -> None:
    for adapter in adapters:
        close = getattr(adapter, "close", None)
        if close is not None:
            close()
