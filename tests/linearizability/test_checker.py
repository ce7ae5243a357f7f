"""The checker accepts what one execution explains and nothing else.

Source: design "Simulation and checkers".
"""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.linearizability.checker import Linearizable, NotLinearizable, Unknown, Verdict, check
from benchmarks.linearizability.operation import Operation
from exec_wrapper.examples.key_value_commands import (
    MISMATCH,
    NOT_FOUND,
    OK,
    VALUE_BYTES_MAX,
    encode_append,
    encode_compare_and_set,
    encode_delete,
    encode_echo,
    encode_field,
    encode_get,
    encode_scan,
    encode_set,
    encode_stamp,
)
from tests.linearizability.histories import (
    MODEL,
    Service,
    is_linearizable_by_permutation,
    overlapping_history,
    with_reply,
)

KEY = b"k"


def value(data: bytes) -> bytes:
    return OK + encode_field(data)


def length(count: int) -> bytes:
    return OK + encode_field(count.to_bytes(8, "big"))


def asked(client: str, payload: bytes, invoked: int, replied: int, reply: bytes) -> Operation:
    return Operation(client, payload, invoked, replied, reply)


def judge(*operations: Operation) -> Verdict:
    verdict = check(operations, MODEL)
    assert isinstance(verdict, Linearizable) == is_linearizable_by_permutation(operations)
    return verdict


def one_after_another(*steps: tuple[bytes, bytes]) -> list[Operation]:
    return [asked(f"c{n}", payload, 10 * n, 10 * n + 5, reply) for n, (payload, reply) in enumerate(steps)]


SET_A, SET_B, GET = (encode_set(KEY, b"a"), OK), (encode_set(KEY, b"b"), OK), encode_get(KEY)

PLANTED = {
    "a stale read": one_after_another(SET_A, SET_B, (GET, value(b"a"))),
    "a lost write": one_after_another(SET_A, (GET, NOT_FOUND)),
    "a write seen, then unseen": [
        asked("w", *SET_A[:1], 0, 100, OK),
        asked("r", GET, 10, 20, value(b"a")),
        asked("r", GET, 30, 40, NOT_FOUND),
    ],
    "two writes swapped against real time": [
        *one_after_another(SET_A, SET_B),
        asked("r", GET, 20, 30, value(b"b")),
        asked("r", GET, 40, 50, value(b"a")),
    ],
    "a duplicate append": one_after_another((encode_append(KEY, b"x"), length(1)), (GET, value(b"xx"))),
    "a duplicate append that only its length shows": one_after_another(
        (encode_append(KEY, b"x"), length(1)), (encode_append(KEY, b"y"), length(3))
    ),
    "a read of a value that nobody wrote": one_after_another(SET_A, (GET, value(b"c"))),
    "a read from the future": [asked("r", GET, 0, 5, value(b"a")), asked("w", *SET_A[:1], 10, 20, OK)],
    "readers that saw two concurrent writes in different orders": [
        asked("v", *SET_A[:1], 0, 100, OK),
        asked("w", *SET_B[:1], 0, 100, OK),
        asked("r", GET, 10, 20, value(b"a")),
        asked("r", GET, 30, 40, value(b"b")),
        asked("s", GET, 50, 60, value(b"a")),
    ],
    "a pending write that came and went": [
        Operation("w", SET_A[0], 0),
        asked("r", GET, 10, 20, value(b"a")),
        asked("r", GET, 30, 40, NOT_FOUND),
    ],
    "a pending write seen before it was sent": [
        asked("r", GET, 0, 5, value(b"a")),
        Operation("w", SET_A[0], 10),
    ],
    "a pending append that was executed twice": [
        Operation("w", encode_append(KEY, b"x"), 0),
        asked("r", GET, 10, 20, value(b"x")),
        asked("r", GET, 30, 40, value(b"xx")),
    ],
    "two winners of one comparison": one_after_another(
        (encode_compare_and_set(KEY, b"1", None), OK), (encode_compare_and_set(KEY, b"2", None), OK)
    ),
    "an echo of something else": one_after_another((encode_echo(b"x"), value(b"y"))),
    "a reply that is none": one_after_another(SET_A, (GET, b"lie")),
    "an error for a correct request": one_after_another((SET_A[0], b"\x03")),
}


@pytest.mark.parametrize("violation", PLANTED)
def test_a_planted_violation_is_rejected_with_evidence(violation: str) -> None:
    """And the evidence ends where the contradiction is."""
    history = PLANTED[violation]
    verdict = judge(*history)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.stuck, "one of these replies is wrong"
    assert len(verdict.longest) < len(history)
    assert "not linearizable: key" in verdict.explain()


ALLOWED = {
    "nothing at all": [],
    "a concurrent read that sees the write": [
        asked("w", *SET_A[:1], 0, 100, OK),
        asked("r", GET, 10, 20, value(b"a")),
    ],
    "a concurrent read that does not": [asked("w", *SET_A[:1], 0, 100, OK), asked("r", GET, 10, 20, NOT_FOUND)],
    "a reply at the very moment of the next request": [
        asked("w", *SET_A[:1], 0, 10, OK),
        asked("r", GET, 10, 20, NOT_FOUND),
    ],
    "a pending write that took effect": [Operation("w", SET_A[0], 0), asked("r", GET, 10, 20, value(b"a"))],
    "a pending write that did not": [Operation("w", SET_A[0], 0), asked("r", GET, 10, 20, NOT_FOUND)],
    "a pending write that took effect late": [
        Operation("w", SET_A[0], 0),
        asked("r", GET, 10, 20, NOT_FOUND),
        asked("r", GET, 30, 40, value(b"a")),
    ],
    "a pending read": [Operation("r", GET, 0), *one_after_another(SET_A)],
    "a stamp, read again": one_after_another((encode_stamp(KEY), value(b"t" * 16)), (GET, value(b"t" * 16))),
    "a value too large": one_after_another((encode_set(KEY, bytes(VALUE_BYTES_MAX + 1)), b"\x04"), (GET, NOT_FOUND)),
    "a comparison that failed": one_after_another(
        SET_A, (encode_compare_and_set(KEY, b"c", b"b"), MISMATCH + encode_field(b"a")), (GET, value(b"a"))
    ),
    "a value removed": one_after_another(SET_A, (encode_delete(KEY), OK), (encode_delete(KEY), NOT_FOUND)),
}


@pytest.mark.parametrize("situation", ALLOWED)
def test_what_one_execution_explains_is_accepted(situation: str) -> None:
    assert isinstance(judge(*ALLOWED[situation]), Linearizable)


def test_keys_are_judged_apart_and_one_violation_is_enough() -> None:
    """The key with the contradiction is named."""
    good = [
        Operation(one.client, encode_set(b"other", b"v"), one.invoked_ns, one.replied_ns, OK)
        for one in one_after_another(SET_A)
    ]
    verdict = check([*good, *PLANTED["a stale read"]], MODEL)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.key == KEY


def test_a_request_that_touches_many_keys_is_refused_instead_of_ignored() -> None:
    """Silence about what was not checked would be a lie."""
    with pytest.raises(ValueError, match="no single key"):
        check([asked("c", encode_scan(b"", 10), 0, 5, OK)], MODEL)


def test_a_search_beyond_its_bound_is_unknown_and_counts_as_failed() -> None:
    """Thirty appends that are all under way together, and one reply that fits none of their orders."""
    writers = [asked(f"c{n}", encode_append(KEY, b"%02d" % n), 0, 1000, length(2 * n + 2)) for n in range(30)]
    verdict = check([*writers, asked("r", GET, 2000, 2010, value(b"x"))], MODEL, positions_max=500)
    assert isinstance(verdict, NotLinearizable), "their lengths order them: nothing to search"
    blind = [asked(f"c{n}", encode_set(KEY, b"%02d" % n), 0, 1000, OK) for n in range(30)]
    verdict = check([*blind, asked("r", GET, 2000, 2010, value(b"x"))], MODEL, positions_max=500)
    assert isinstance(verdict, Unknown)
    assert not verdict.is_proven
    assert "raise the bound" in verdict.explain()


def test_a_violation_is_reported_even_if_another_key_is_unknown() -> None:
    blind = [asked(f"c{n}", encode_set(b"a", b"%02d" % n), 0, 1000, OK) for n in range(30)]
    unknown = [*blind, asked("r", encode_get(b"a"), 2000, 2010, value(b"x"))]
    assert isinstance(check([*unknown, *PLANTED["a lost write"]], MODEL, positions_max=500), NotLinearizable)


# ── properties ──


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 3), st.integers(1, 5), st.sampled_from((0.0, 0.1)))
def test_random_intervals_around_one_execution_are_accepted(
    seed: int, count: int, keys: int, clients: int, pending_share: float
) -> None:
    """The service itself made the replies: the model must agree with it, too."""
    history = overlapping_history(random.Random(seed), count, keys, clients, pending_share)
    verdict = check(history, MODEL)
    assert isinstance(verdict, Linearizable), verdict.explain()


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 7), st.data())
def test_a_changed_reply_is_judged_as_by_trying_every_order(seed: int, count: int, data: st.DataObject) -> None:
    """Replies are exchanged for others of the same history: wrong ones, and some that are possible."""
    history = overlapping_history(random.Random(seed), count, 2, 4, pending_share=0.2)
    answered = [index for index, one in enumerate(history) if not one.is_pending]
    if not answered:
        return
    index = data.draw(st.sampled_from(answered))
    replies = [one.reply for one in history if one.reply is not None] + [NOT_FOUND, OK, value(b"0;")]
    changed = with_reply(history, index, data.draw(st.sampled_from(replies)))
    if changed[index].payload[:1] == encode_stamp(b"")[:1]:
        return  # whatever a stamp says may be so
    assert isinstance(check(changed, MODEL), Linearizable) == is_linearizable_by_permutation(changed)


@given(st.integers(0, 2**32), st.integers(10, 80))
def test_a_read_of_what_nobody_wrote_is_rejected_wherever_it_is(seed: int, count: int) -> None:
    draw = random.Random(seed)
    history = overlapping_history(draw, count, 2, 4)
    reads = [index for index, one in enumerate(history) if one.payload[:1] == GET[:1]]
    if reads:
        changed = with_reply(history, draw.choice(reads), value(b"nobody"))
        assert isinstance(check(changed, MODEL), NotLinearizable)


@given(st.integers(0, 2**32), st.integers(4, 40))
def test_replies_swapped_against_real_time_are_rejected(seed: int, count: int) -> None:
    """Of one client that appends alone, any two lengths exchanged are wrong."""
    service = Service()
    replies = [service.execute(encode_append(KEY, b"x")) for _ in range(count)]
    draw = random.Random(seed)
    first, second = draw.sample(range(count), 2)
    replies[first], replies[second] = replies[second], replies[first]
    history = one_after_another(*((encode_append(KEY, b"x"), reply) for reply in replies))
    assert all(one.replied_ns < other.invoked_ns for one, other in pairwise(history))  # type: ignore[operator]
    assert isinstance(check(history, MODEL), NotLinearizable)


@pytest.mark.parametrize("is_wrong", [False, True])
def test_ten_thousand_operations_over_twenty_keys_take_a_few_seconds(is_wrong: bool) -> None:
    """Ten clients per key; a wrong history must be searched to its end and may take as long."""
    history = overlapping_history(random.Random(1), 10_000, 20, 10)
    if is_wrong:
        reads = [n for n, one in enumerate(history) if one.payload[:1] == GET[:1]]
        history = with_reply(history, max(reads, key=lambda n: history[n].invoked_ns), value(b"nobody"))
    started = time.process_time()
    verdict = check(history, MODEL)
    assert isinstance(verdict, NotLinearizable if is_wrong else Linearizable)
    assert time.process_time() - started < 10
