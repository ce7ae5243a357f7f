"""The driver's fixed order, with a scripted core: nothing of Paxos here."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

from agreement.changes import Entry
from agreement.errors import StorageError
from agreement.identifiers import MemberId
from agreement.messages import Announce, Message
from agreement.output import NOTHING, Delivery, LeaderChanged, Output
from agreement.storage import Put, Write
from replica_manager.ordering.member_driver import DriverHandler, MemberDriver
from tests.ordering.peers import S1, until

HELLO = Announce(1, 1)


class ScriptedCore:
    """Gives the outputs it was told to, and records its inputs."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.inputs: list[tuple[object, ...]] = []
        self.due_ms: int | None = None
        self.on_receive: Callable[[], None] = lambda: None

    def receive(self, sender: MemberId, message: Message, now_ms: int) -> None:
        self.inputs.append(("receive", sender, now_ms))
        self.on_receive()

    def on_timer(self, now_ms: int) -> None:
        self.inputs.append(("timer", now_ms))
        self.due_ms = None

    def on_persisted(self, token: int, now_ms: int) -> None:
        self.inputs.append(("persisted", token))

    def take_output(self) -> Output:
        return self.outputs.pop(0) if self.outputs else NOTHING

    def next_timer_ms(self) -> int | None:
        return self.due_ms


class GatedStorage:
    """Storage whose writes wait for a gate; records batches."""

    def __init__(self) -> None:
        self.batches: list[list[Write]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_entered = threading.Event()
        self.error: Exception | None = None

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def write(self, batch: Sequence[Write]) -> None:
        self.is_entered.set()
        self.gate.wait()
        if self.error is not None:
            raise self.error
        self.batches.append(list(batch))

    def close(self) -> None:
        return


class Bench:
    """A driver between a scripted core and recorders."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.core, self.storage = ScriptedCore(), GatedStorage()
        self.failures: list[Exception] = []
        self.now_ms = 1000
        self.driver = MemberDriver(
            self.core,
            self.storage,
            post=lambda member, message: self.log.append(f"send {member}"),
            flush=lambda: self.log.append("flush"),
            handler=DriverHandler(
                on_deliveries=lambda deliveries: self.log.extend(f"deliver {d.sequence}" for d in deliveries),
                on_events=lambda events: self.log.extend(type(event).__name__ for event in events),
                on_failure=self.failures.append,
            ),
            clock_ms=lambda: self.now_ms,
        )

    def input(self, *outputs: Output) -> None:
        """Let the core want `outputs` and wake the driver by a message."""
        self.core.outputs += outputs
        self.driver.receive(S1, HELLO)


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def in_loop() -> None:
        bench = Bench()
        await asyncio.sleep(0)
        bench.log.clear()
        try:
            await scenario(bench)
        finally:
            bench.storage.gate.set()
            bench.driver.close()

    asyncio.run(in_loop())


def writes(number: int) -> tuple[Write, ...]:
    return (Put(b"k", bytes([number])),)


def delivery(sequence: int) -> Delivery:
    return Delivery(sequence, Entry(0, 1, sequence, b""))


def test_an_output_is_carried_out_in_the_fixed_order() -> None:
    async def scenario(bench: Bench) -> None:
        bench.storage.gate.clear()
        event = LeaderChanged(1, None)
        bench.input(Output(((S1, HELLO),), writes(1), 1, (delivery(1), delivery(2)), (event,)))
        await until(lambda: "flush" in bench.log)
        assert bench.log == ["send s1", "deliver 1", "deliver 2", "LeaderChanged", "flush"]
        # The write went to the thread before anything was sent; what relies on it waits for `on_persisted`.
        assert bench.storage.is_entered.wait(30)
        assert ("persisted", 1) not in bench.core.inputs
        bench.storage.gate.set()
        await until(lambda: ("persisted", 1) in bench.core.inputs)

    run(scenario)


def test_all_inputs_of_an_iteration_are_handled_before_one_pass() -> None:
    async def scenario(bench: Bench) -> None:
        before = bench.driver.counters.pass_count
        for _ in range(5):
            bench.input()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(bench.core.inputs) == 5
        assert bench.driver.counters.pass_count == before + 1
        assert bench.log == ["flush"]

    run(scenario)


def test_writes_that_come_while_one_is_in_flight_are_merged_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        bench.storage.gate.clear()
        bench.input(Output(writes=writes(1), token=1))
        await until(bench.storage.is_entered.is_set)
        for token in (2, 3, 4):
            bench.input(Output(writes=writes(token), token=token))
            await asyncio.sleep(0)
        await until(lambda: not bench.core.outputs)
        bench.storage.gate.set()
        await until(lambda: ("persisted", 4) in bench.core.inputs)
        assert bench.storage.batches == [[*writes(1)], [*writes(2), *writes(3), *writes(4)]]
        # A token stands for all smaller ones.
        assert [value for name, value, *_ in bench.core.inputs if name == "persisted"] == [1, 4]
        assert bench.driver.counters.write_count == 2

    run(scenario)


def test_a_delivery_may_call_the_driver() -> None:
    async def scenario(bench: Bench) -> None:
        bench.core.on_receive = lambda: bench.log.append("received")
        handler = bench.driver._handler
        called: list[int] = []

        def on_deliveries(deliveries: tuple[Delivery, ...]) -> None:
            called.append(deliveries[0].sequence)
            if deliveries[0].sequence == 1:
                bench.input(Output(deliveries=(delivery(2),)))

        bench.driver._handler = DriverHandler(on_deliveries, handler.on_events, handler.on_failure)
        bench.input(Output(deliveries=(delivery(1),)))
        await until(lambda: called == [1, 2])

    run(scenario)


def test_an_endless_core_leaves_turns_to_others() -> None:
    async def scenario(bench: Bench) -> None:
        bench.input(*(Output(deliveries=(delivery(number),)) for number in range(100)))
        turns = 0
        while bench.core.outputs:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 5
        assert bench.driver.counters.entry_count == 100

    run(scenario)


def test_a_failing_disk_is_reported_once_and_nothing_counts_as_written() -> None:
    async def scenario(bench: Bench) -> None:
        bench.storage.error = StorageError("disk is full")
        bench.input(Output(writes=writes(1), token=1))
        await until(lambda: bool(bench.failures))
        assert [str(error) for error in bench.failures] == ["disk is full"]
        assert not [entry for entry in bench.core.inputs if entry[0] == "persisted"]

    run(scenario)


def test_a_bug_in_the_storage_is_reported_like_a_failing_disk() -> None:
    async def scenario(bench: Bench) -> None:
        bench.storage.error = ZeroDivisionError("bug")
        bench.input(Output(writes=writes(1), token=1))
        await until(lambda: [type(error) for error in bench.failures] == [ZeroDivisionError])

    run(scenario)


def test_the_timer_fires_when_it_is_due_and_not_before() -> None:
    async def scenario(bench: Bench) -> None:
        bench.core.due_ms = 1010
        bench.input()
        await asyncio.sleep(0)
        # The event loop's timer fires; by the injected clock it is still early.
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert ("timer", 1000) not in bench.core.inputs
        bench.now_ms = 1012
        await until(lambda: ("timer", 1012) in bench.core.inputs)

    run(scenario)


def test_an_earlier_due_time_replaces_a_later_one() -> None:
    async def scenario(bench: Bench) -> None:
        bench.core.due_ms = 10_000_000
        bench.input()
        await until(lambda: bench.driver._timer is not None)
        bench.core.due_ms = 1000
        bench.input()
        await until(lambda: ("timer", 1000) in bench.core.inputs)

    run(scenario)


def test_close_writes_what_was_handed_over_and_is_idempotent() -> None:
    async def scenario(bench: Bench) -> None:
        bench.input(Output(writes=writes(1), token=1))
        await until(lambda: not bench.core.outputs)
        bench.driver.close()
        bench.driver.close()
        assert bench.storage.batches == [[*writes(1)]]

    run(scenario)
