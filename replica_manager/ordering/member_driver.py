"""The shell around a core of the agreement stage: it gives it time, disk and wire, in a fixed order.

    inputs of one iteration of the event loop          messages, proposals, what is durable, the timer
      → take_output
          1. hand the writes to the storage thread     (what relies on them comes out after `on_persisted`)
          2. send
          3. deliver
          4. report events
      → re-arm the timer

All inputs of an iteration are handled before one `take_output`: with one client this costs nothing, with many it makes
larger batches of everything that follows: writes, frames, slots.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from agreement.identifiers import MemberId
from agreement.messages import Accept, Message
from agreement.output import NOTHING, Delivery, Event, Output
from agreement.storage import StableStorage
from replica_manager.ordering.histogram import DurationHistogram
from replica_manager.ordering.storage_worker import StorageWorker

OUTPUTS_PER_PASS_MAX = 16
"""Outputs taken before other callbacks of the event loop get their turn."""


def monotonic_ms() -> int:
    """Return the monotonic clock in whole milliseconds."""
    return time.monotonic_ns() // 1_000_000


class MemberCore(Protocol):
    """What `agreement`'s server and witness have in common."""

    def receive(self, sender: MemberId, message: Message, now_ms: int) -> None:
        """A message of another member arrived."""
        ...

    def on_timer(self, now_ms: int) -> None:
        """The time `next_timer_ms` has come, or may have."""
        ...

    def on_persisted(self, token: int, now_ms: int) -> None:
        """All writes up to the output with this token are durable."""
        ...

    def take_output(self) -> Output:
        """What is to be done now; `NOTHING` when nothing is left."""
        ...

    def next_timer_ms(self) -> int | None:
        """When `on_timer` wants to be called, as monotonic time; None for never."""
        ...


@dataclass(frozen=True, slots=True)
class DriverHandler:
    """Whom a driver calls, in the event loop; none of them may block."""

    on_deliveries: Callable[[tuple[Delivery, ...]], None]
    """The next entries of the agreed order, dense; may call the driver."""
    on_events: Callable[[tuple[Event, ...]], None]
    """What the core reports; may call the driver."""
    on_failure: Callable[[Exception], None]
    """Nothing is durable any more: end the process.  A crash is inside the fault model."""


@dataclass(slots=True)
class AgreementCounters:
    """What ordering costs; sums since the start."""

    slot_count: int = 0
    """Slots that this server proposed as the leader."""
    entry_count: int = 0
    """Entries delivered."""
    write_count: int = 0
    """Writes to storage; with `durability = "sync"` each is one sync."""
    write_ms: DurationHistogram = field(default_factory=DurationHistogram)
    message_count: int = 0
    """Messages to other members."""
    witness_message_count: int = 0
    """Those of them that went to witnesses."""
    pass_count: int = 0
    """Times that the core was asked what to do."""


CoreT = TypeVar("CoreT", bound=MemberCore)


class MemberDriver(Generic[CoreT]):
    """Runs one core in the event loop in which the driver is made.

    The storage belongs to the caller, who closes it after `close`.
    """

    def __init__(
        self,
        core: CoreT,
        storage: StableStorage,
        *,
        post: Callable[[MemberId, Message], None],
        flush: Callable[[], None],
        handler: DriverHandler,
        clock_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        """`post` queues a message to a member, `flush` sends what is queued."""
        self.counters = AgreementCounters()
        self.core = core
        """For looking at; whoever changes it calls the driver instead."""
        self._post, self._flush = post, flush
        self._handler, self._clock_ms = handler, clock_ms
        self._loop = asyncio.get_running_loop()
        self._worker = StorageWorker(storage, self._written, self._failed)
        self._pass_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ms = 0
        self._highest_slot = (0, -1)
        self._is_passing = False
        self._is_closed = False
        self._touch()

    def receive(self, sender: MemberId, message: Message) -> None:
        """Take a message of a member whose identity the transport vouches for.

        Raises:
            MalformedMessage: the message holds bytes that are no batch: end the link.
        """
        self.core.receive(sender, message, self._clock_ms())
        self._touch()

    def close(self) -> None:
        """Write what is under way and stop; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for handle in (self._pass_handle, self._timer):
            if handle is not None:
                handle.cancel()
        self._worker.close()

    def _touch(self) -> None:
        """See to it that a pass follows the inputs of this iteration."""
        if self._pass_handle is None and not self._is_passing and not self._is_closed:
            self._pass_handle = self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        """Carry out everything the core wants done, then wait for the next input or timer."""
        self._pass_handle = None
        self._is_passing = True
        self.counters.pass_count += 1
        is_done = False
        for _ in range(OUTPUTS_PER_PASS_MAX):
            output = self.core.take_output()
            if output is NOTHING:
                is_done = True
                break
            self._carry_out(output)
        self._is_passing = False
        self._flush()
        if not is_done:
            self._touch()
        self._arm_timer()

    def _carry_out(self, output: Output) -> None:
        """Persist, send, deliver, report; in this order."""
        if output.token is not None:
            self._worker.submit(output.writes, output.token)
        if output.sends:
            self._send(output)
        if output.deliveries:
            self.counters.entry_count += len(output.deliveries)
            self._handler.on_deliveries(output.deliveries)
        if output.events:
            self._handler.on_events(output.events)

    def _send(self, output: Output) -> None:
        counters, post = self.counters, self._post
        counters.message_count += len(output.sends)
        for member, message in output.sends:
            post(member, message)
            if not member.is_server:
                counters.witness_message_count += 1
            elif type(message) is Accept and (message.configuration, message.slot) > self._highest_slot:
                self._highest_slot = (message.configuration, message.slot)
                counters.slot_count += 1

    def _written(self, token: int, duration_ms: float) -> None:
        """The storage thread has written everything up to `token`."""
        if self._is_closed:
            return
        self.counters.write_count += 1
        self.counters.write_ms.observe(duration_ms)
        self.core.on_persisted(token, self._clock_ms())
        self._touch()

    def _failed(self, error: Exception) -> None:
        """The storage thread has ended."""
        if not self._is_closed:
            self._handler.on_failure(error)

    def _arm_timer(self) -> None:
        """Wait for the core's next timer.

        Due times mostly move forward with every message; the event loop's timer is left to fire early instead of being
        made anew each time.
        """
        due_ms = self.core.next_timer_ms()
        if due_ms is None or self._is_closed:
            return
        if self._timer is not None:
            if self._timer_due_ms <= due_ms:
                return
            self._timer.cancel()
        self._timer_due_ms = due_ms
        delay_ms = max(0, due_ms - self._clock_ms())
        self._timer = self._loop.call_later(delay_ms / 1000.0, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        due_ms = self.core.next_timer_ms()
        now_ms = self._clock_ms()
        if due_ms is not None and due_ms <= now_ms:
            self.core.on_timer(now_ms)
            self._touch()
        self._arm_timer()
