"""The layer that misbehaves on order, as a child process behind a real link: each kind of fault, and none unasked."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.examples.key_value_commands import decode_reply, encode_echo, encode_get, encode_set
from exec_wrapper.service_adapter import RequestContext, SequencedUpdate
from exec_wrapper.wire import (
    Applied,
    ApplyUpdates,
    CancelState,
    Executed,
    FromWrapper,
    NextPart,
    Ping,
    Pong,
    StatePart,
    TakeState,
)
from images.fault_orders import (
    FaultKind,
    FaultOrder,
    encode_order,
    key_value_read,
    key_value_write,
    treacherous_command,
)
from images.recipes.fault_injection.treacherous.service_faults import CRASH_EXIT_CODE
from replica_manager.execution.wrapper_link import LinkEndReason, WrapperLink
from tests.contracts.wrapper_bench import SEED, Bench, execute
from tests.contracts.wrapper_hosts import KEY_VALUE, UnixWrapper
from tests.images.sleepy_service import EXECUTION_S

DOMAIN = "s0.g1"
SILENCE_S = 0.3
"""How long something is not to come."""
PART_BYTES = 1000
ALL_KINDS = [kind for kind in FaultKind if kind is not FaultKind.BEHAVE]
_numbers = itertools.count(1)


class TreacherousWrapper(UnixWrapper):
    """The layer around the key-value store, started as the hypervisor driver for child processes does."""

    def command(self) -> list[str]:
        """See `WrapperHost`."""
        wrapper = ("exec_wrapper", "--link", "unix:{channel}", "--image", self.image, *self.adapter)
        values = {"{channel}": self.directory / "channel", "{disk}": self.directory, "{domain}": DOMAIN}
        command = list(treacherous_command(*wrapper))
        for placeholder, value in values.items():
            command = [word.replace(placeholder, str(value)) for word in command]
        return command


RunWithDomain = Callable[..., None]
Test = Callable[[Bench, WrapperLink], Coroutine[Any, Any, None]]


@pytest.fixture
def run_with() -> Iterator[RunWithDomain]:
    """Run a coroutine function with a `Bench` whose treacherous wrapper is started and linked."""
    with tempfile.TemporaryDirectory(prefix="spare-link-") as directory:
        started: list[TreacherousWrapper] = []

        def run(test: Test, adapter: Sequence[str] = KEY_VALUE) -> None:
            wrapper = TreacherousWrapper(Path(directory), adapter)
            wrapper.start()
            started.append(wrapper)
            asyncio.run(_linked(test, Bench(wrapper)))

        yield run
        for wrapper in started:
            wrapper.stop()


async def _linked(test: Test, bench: Bench) -> None:
    link = bench.make_link(state_part_bytes_max=PART_BYTES)
    await link.open(b"e" * 16)
    await test(bench, link)
    link.close()


def order(kind: FaultKind, **fields: Any) -> FaultOrder:
    """Return an order for the domain, with a number of its own."""
    return FaultOrder(next(_numbers), fields.pop("target", DOMAIN), kind, **fields)


def honest(requests: Sequence[bytes]) -> list[Executed]:
    """Return what the store answers to `requests`, from number 1 on."""
    adapter = KeyValueAdapter()
    contexts = [RequestContext(number, 1_000_000 + number, SEED) for number in range(1, len(requests) + 1)]
    outcomes = map(adapter.execute, requests, contexts)
    return [Executed(number, *outcome) for number, outcome in enumerate(outcomes, 1)]


async def ask(bench: Bench, link: WrapperLink, requests: Sequence[bytes]) -> list[FromWrapper]:
    """Execute `requests` from number 1 on; return the answers."""
    for number, request in enumerate(requests, 1):
        link.send(execute(number, request))
    return await bench.next(len(requests))


async def stays_silent(bench: Bench) -> bool:
    """Say whether nothing comes, nor the end, for a while."""
    try:
        async with asyncio.timeout(SILENCE_S):
            await bench.until(lambda: bool(bench.messages or bench.ends))
    except TimeoutError:
        return True
    return False


def differing(answers: Sequence[FromWrapper], requests: Sequence[bytes]) -> list[int]:
    """Return the numbers whose answers are not those of an honest store."""
    return [right.sequence for right, answer in zip(honest(requests), answers, strict=True) if right != answer]


WRITES = [encode_set(b"key", b"%d" % number) for number in range(7)]


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize("make", [key_value_read, key_value_write])
def test_an_order_for_another_domain_changes_nothing(
    run_with: RunWithDomain, kind: FaultKind, make: Callable[[FaultOrder], bytes]
) -> None:
    """And the request that carries it has the answer of an image without the layer: votes agree."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [make(order(kind, target="s0.g2", amount=1000)), *WRITES]
        assert differing(await ask(bench, link, requests), requests) == []

    run_with(test)


def test_a_wrong_reply_comes_when_it_was_ordered_for(run_with: RunWithDomain) -> None:
    """One bit differs; the update is right."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [key_value_read(order(FaultKind.WRONG_REPLY, first=2, every=2, times=2)), *WRITES]
        answers = await ask(bench, link, requests)
        assert differing(answers, requests) == [3, 5]
        right, wrong = honest(requests)[2], answers[2]
        assert isinstance(wrong, Executed)
        assert wrong.update == right.update
        flipped = int.from_bytes(wrong.reply, "big") ^ int.from_bytes(right.reply, "big")
        assert flipped.bit_count() == 1

    run_with(test)


def test_a_wrong_update_leaves_the_reply_right(run_with: RunWithDomain) -> None:
    """Requests without an update are no occasion."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [key_value_read(order(FaultKind.WRONG_UPDATE, first=2)), WRITES[0], encode_get(b"key"), WRITES[1]]
        answers = await ask(bench, link, requests)
        assert differing(answers, requests) == [4]
        right, wrong = honest(requests)[3], answers[3]
        assert isinstance(wrong, Executed)
        assert wrong.reply == right.reply
        assert len(wrong.update) == len(right.update)

    run_with(test)


def test_a_hidden_update_is_in_the_state_of_the_domain_alone(run_with: RunWithDomain) -> None:
    """The reply is right, and so is what it says later."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [key_value_read(order(FaultKind.HIDDEN_UPDATE, times=1)), WRITES[3], encode_get(b"key"), WRITES[4]]
        answers = await ask(bench, link, requests)
        assert differing(answers, requests) == [2]
        assert answers[1] == honest(requests)[1]._replace(update=b"")

    run_with(test)


def test_a_domain_that_hangs_keeps_its_channel(run_with: RunWithDomain) -> None:
    """No answer, no end; a ping is not answered either."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await ask(bench, link, [key_value_read(order(FaultKind.HANG, first=2))])
        link.send(execute(2, WRITES[0]))
        assert [type(answer) for answer in await bench.next()] == [Executed]
        link.send(execute(3, WRITES[1]))
        link.send(Ping(1))
        assert await stays_silent(bench)
        assert "hangs" in bench.wrapper.console()

    run_with(test)


def test_a_slow_domain_takes_so_many_milliseconds_longer(run_with: RunWithDomain) -> None:
    """Each time; the answer is right."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        begin_s = time.monotonic()
        requests = [key_value_read(order(FaultKind.SLOW, amount=150)), *WRITES[:3]]
        assert differing(await ask(bench, link, requests), requests) == []
        assert time.monotonic() - begin_s >= 3 * 0.150

    run_with(test)


def test_a_slower_domain_takes_so_many_times_as_long(run_with: RunWithDomain) -> None:
    """As its service takes."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        begin_s = time.monotonic()
        requests = [key_value_read(order(FaultKind.SLOWER, amount=20)), WRITES[0]]
        assert differing(await ask(bench, link, requests), requests) == []
        assert time.monotonic() - begin_s >= 20 * EXECUTION_S

    run_with(test, ("tests.images.sleepy_service",))


def test_a_crash_ends_the_process_without_a_word(run_with: RunWithDomain) -> None:
    """At the request that it was ordered for, which is not answered."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [key_value_read(order(FaultKind.CRASH, first=2)), WRITES[0]]
        assert differing(await ask(bench, link, requests), requests) == []
        link.send(execute(3, WRITES[1]))
        await bench.until(lambda: bool(bench.ends))
        assert [end.reason for end in bench.ends] == [LinkEndReason.CLOSED]
        assert bench.messages == []
        assert bench.wrapper.wait() == CRASH_EXIT_CODE

    run_with(test)


def test_a_flood_repeats_an_answer_and_goes_on_with_what_nobody_asked_for(run_with: RunWithDomain) -> None:
    """Until it is cut off; then the wrapper answers a new connection."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await ask(bench, link, [key_value_read(order(FaultKind.FLOOD, times=1, amount=5000))])
        link.send(execute(2, WRITES[0]))
        answers = await bench.next(5001)
        assert set(answers) == {honest([b"", WRITES[0]])[1]}
        assert {type(message) for message in await bench.next(100_000)} == {Pong}
        link.close()
        bench.messages.clear()
        assert (await link.open(b"f" * 16)).cursor == 3

    run_with(test)


def test_garbage_ends_the_connection_as_misbehaviour(run_with: RunWithDomain) -> None:
    """The answer before it counts."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await ask(bench, link, [key_value_read(order(FaultKind.GARBAGE, times=1, amount=500))])
        link.send(execute(2, WRITES[0]))
        await bench.until(lambda: bool(bench.ends))
        assert [end.reason for end in bench.ends] == [LinkEndReason.MISBEHAVIOUR]
        assert bench.messages == [honest([b"", WRITES[0]])[1]]

    run_with(test)


def _contradict(first: FromWrapper, second: FromWrapper) -> bool:
    assert isinstance(first, Executed)
    assert isinstance(second, Executed)
    return first.sequence == second.sequence and first.reply != second.reply


def test_an_equivocating_domain_answers_a_number_twice(run_with: RunWithDomain) -> None:
    """First rightly, then otherwise, at once."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await ask(bench, link, [key_value_read(order(FaultKind.EQUIVOCATION, times=1))])
        link.send(execute(2, WRITES[0]))
        right, wrong = await bench.next(2)
        assert right == honest([b"", WRITES[0]])[1]
        assert _contradict(right, wrong)

    run_with(test)


def test_a_late_equivocation_comes_with_the_next_connection(run_with: RunWithDomain) -> None:
    """Unasked, behind a right hello and a right answer."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [key_value_read(order(FaultKind.LATE_EQUIVOCATION)), WRITES[0]]
        answers = await ask(bench, link, requests)
        assert differing(answers, requests) == []
        link.close()
        assert (await link.open(b"f" * 16)).cursor == 3
        link.send(Ping(7))
        pong, again = await bench.next(2)
        assert pong == Pong(7)
        assert _contradict(answers[1], again)

    run_with(test)


def test_a_wrong_cursor_is_claimed_at_the_next_connection(run_with: RunWithDomain) -> None:
    """So many numbers off, once."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await ask(bench, link, [key_value_read(order(FaultKind.WRONG_CURSOR, times=1, amount=5)), WRITES[0]])
        link.close()
        assert (await link.open(b"f" * 16)).cursor == 3 + 5
        link.close()
        assert (await link.open(b"g" * 16)).cursor == 3

    run_with(test)


# ── states ──

CONTENT = [SequencedUpdate(number, honest([encode_set(b"%04d" % number, b"v" * 300)])[0].update) for number in range(9)]
UPDATES = tuple((number, update) for number, (_, update) in enumerate(CONTENT, 1))


def honest_parts() -> list[bytes]:
    """Return the parts of the state after `UPDATES`."""
    adapter = KeyValueAdapter()
    adapter.apply_updates([SequencedUpdate(*update) for update in UPDATES], len(UPDATES))
    return list(adapter.take_state(len(UPDATES) + 1, 1, PART_BYTES))


async def fill(bench: Bench, link: WrapperLink, *orders: FaultOrder) -> None:
    """Apply `UPDATES` and execute a read that carries `orders`."""
    last = len(UPDATES)
    link.send(ApplyUpdates(0, last, UPDATES))
    link.send(execute(last + 1, key_value_read(*orders)))
    applied, executed = await bench.next(2)
    assert applied == Applied(last)
    assert isinstance(executed, Executed)


async def take(bench: Bench, link: WrapperLink, point: int, count: int) -> list[StatePart]:
    """Take `count` parts of the state at `point`, which nothing but a number without effect precedes."""
    link.send(TakeState(point - 2, point, 1))
    link.send(NextPart(count))
    parts = await bench.next(count)
    assert all(isinstance(part, StatePart) for part in parts)
    return [part for part in parts if isinstance(part, StatePart)]


POINT = len(UPDATES) + 3


def test_a_wrong_part_differs_in_one_part(run_with: RunWithDomain) -> None:
    """Of one state; the next one is right."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        right = honest_parts()
        assert len(right) == 3
        await fill(bench, link, order(FaultKind.WRONG_PART, first=2, times=1))
        parts = [part.data for part in await take(bench, link, POINT, 3)]
        assert [index for index in range(3) if parts[index] != right[index]] == [1]
        assert [len(part) for part in parts] == [len(part) for part in right]
        assert [part.data for part in await take(bench, link, POINT + 1, 3)] == right

    run_with(test)


def test_a_short_state_ends_in_the_middle_of_a_part(run_with: RunWithDomain) -> None:
    """With an end flag, as if it were whole."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        right = honest_parts()
        await fill(bench, link, order(FaultKind.SHORT_STATE, first=2, times=1))
        parts = await take(bench, link, POINT, 2)
        assert [part.is_last for part in parts] == [False, True]
        assert [part.data for part in parts] == [right[0], right[1][: len(right[1]) // 2]]
        assert [part.data for part in await take(bench, link, POINT + 1, 3)] == right

    run_with(test)


def test_a_stalled_state_stops_while_requests_go_on(run_with: RunWithDomain) -> None:
    """Until it behaves again and is asked anew."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await fill(bench, link, order(FaultKind.STALLED_STATE, first=2))
        (first,) = await take(bench, link, POINT, 1)
        link.send(NextPart(2))
        assert first.data == honest_parts()[0]
        assert await stays_silent(bench)
        link.send(execute(POINT, key_value_read(order(FaultKind.BEHAVE)))._replace(previous=POINT - 1))
        assert [type(message) for message in await bench.next()] == [Executed]
        link.send(CancelState(POINT))
        assert [part.data for part in await take(bench, link, POINT + 2, 3)] == honest_parts()

    run_with(test)


def test_an_endless_state_has_always_another_part(run_with: RunWithDomain) -> None:
    """By credit, like a right one, and never the last."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        await fill(bench, link, order(FaultKind.ENDLESS_STATE))
        parts = await take(bench, link, POINT, 500)
        assert [part.data for part in parts[:3]] == honest_parts()
        assert [part.index for part in parts] == list(range(500))
        assert not any(part.is_last for part in parts)

    run_with(test)


# ── passive domains ──


def test_an_order_reaches_a_passive_domain_with_the_update_of_its_request(run_with: RunWithDomain) -> None:
    """There the domain says Applied to the next batch and has not applied it; then it is honest again."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        requests = [key_value_write(order(FaultKind.FALSE_APPLIED, times=1)), WRITES[1], encode_set(b"other", b"x")]
        updates = [(answer.sequence, answer.update) for answer in honest(requests)]
        for update in updates:
            link.send(ApplyUpdates(update[0] - 1, update[0], (update,)))
        link.send(execute(4, encode_get(b"key")))
        link.send(execute(5, encode_get(b"other")))
        *applied, key, other = await bench.next(5)
        assert applied == [Applied(1), Applied(2), Applied(3)]
        assert isinstance(key, Executed)
        assert isinstance(other, Executed)
        assert decode_reply(key.reply).fields == []
        assert decode_reply(other.reply).fields == [b"x"]

    run_with(test)


@pytest.mark.parametrize("kind", [FaultKind.CRASH, FaultKind.HANG, FaultKind.GARBAGE, FaultKind.FLOOD])
def test_a_passive_domain_can_fail_in_a_refresh(run_with: RunWithDomain, kind: FaultKind) -> None:
    """A batch of updates is an occasion too."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        (carrier,) = honest([key_value_write(order(kind, amount=100))])
        link.send(ApplyUpdates(0, 1, ((1, carrier.update),)))
        assert await bench.next() == [Applied(1)]
        link.send(ApplyUpdates(1, 2, ((2, UPDATES[1][1]),)))
        if kind is FaultKind.HANG:
            assert await stays_silent(bench)
        elif kind is FaultKind.FLOOD:
            assert await bench.next(101) == [Applied(2)] * 101
        else:
            await bench.until(lambda: bool(bench.ends))
            expected = LinkEndReason.CLOSED if kind is FaultKind.CRASH else LinkEndReason.MISBEHAVIOUR
            assert [end.reason for end in bench.ends] == [expected]

    run_with(test)


def test_orders_outlive_the_process(run_with: RunWithDomain) -> None:
    """A domain that is started again on its disk is as treacherous as before."""

    async def test(bench: Bench, link: WrapperLink) -> None:
        given = order(FaultKind.WRONG_REPLY)
        await ask(bench, link, [key_value_read(given)])
        link.close()
        bench.wrapper.stop()
        assert (bench.wrapper.directory / "orders").read_bytes() == encode_order(given) + b"\n"
        bench.wrapper.start()
        await link.open(b"f" * 16)
        requests = [encode_echo(b"x")]
        assert differing(await ask(bench, link, requests), requests) == [1]

    run_with(test)
