"""What one domain was handed, has confirmed and has on its disk.  Source: design "One feed per domain"."""

import pytest

from exec_wrapper.wire import ApplyUpdates, Execute, Sync, ToWrapper
from replica_manager.cell.roles import Role
from replica_manager.execution.feed import (
    EXECUTE_BYTES_IN_FLIGHT_MAX,
    EXECUTES_IN_FLIGHT_MAX,
    Feed,
    FeedMisuse,
    FeedSettings,
    Power,
    PowerAction,
)
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.updates.update_buffer import UpdateBuffer

SETTINGS = FeedSettings(
    refresh_updates_max=2,
    refresh_bytes_max=10_000,
    refresh_lag_max=1000,
    batch_bytes_max=5_000,
    state_format=1,
    is_passive_kept_running=False,
)


class Bench:
    """A feed over a log and a buffer of its own."""

    def __init__(self, role: Role) -> None:
        self.feed = Feed(DomainId("s0.g1"), role, SETTINGS, 2)
        self.requests = RequestLog()
        self.buffer = UpdateBuffer()
        self.feed.on_linked(1, 0)

    def order(self, *, is_request: bool = True, payload: bytes = b"p") -> int:
        sequence = self.requests.last + 1
        record = RequestRecord(sequence, ClientId(bytes(24)), 1, 1, bytes(32), payload) if is_request else "Progress"
        self.requests.append(sequence, record)
        return sequence

    def pump(self) -> list[ToWrapper]:
        frames: list[ToWrapper] = []
        self.feed.pump(self.requests, self.buffer, frames)
        return frames


def test_what_is_being_applied_is_neither_confirmed_nor_durable() -> None:
    """A4: the log may be dropped only below what is on every domain's disk."""
    bench = Bench(Role.PASSIVE)
    for _ in range(2):
        bench.buffer.take_in(bench.order(), b"u")
    (frame,) = bench.pump()
    assert isinstance(frame, ApplyUpdates)
    assert bench.feed.durable_through(bench.buffer) == 0
    bench.feed.on_applied(2)
    assert bench.feed.confirmed == 2
    assert bench.feed.durable_through(bench.buffer) == 0
    bench.feed.request_sync()
    assert bench.pump() == [Sync()]
    bench.feed.on_synced(3)
    assert bench.feed.durable_through(bench.buffer) == 2


def test_an_active_domain_confirms_updates_behind_its_requests_only_when_it_has_applied_them() -> None:
    """1. Request 1 is handed.  2. Others make 2 stable before this domain was handed it, so it gets the update.
    3. Request 1 is answered: 2 is not applied yet.
    """
    bench = Bench(Role.ACTIVE)
    bench.order()
    assert isinstance(bench.pump()[0], Execute)
    bench.order()
    for _ in range(2):
        bench.buffer.take_in(bench.buffer.prefix + 1, b"u")
    assert isinstance(bench.pump()[0], ApplyUpdates)
    bench.feed.on_executed(1, has_update=False)
    assert bench.feed.confirmed == 1
    assert bench.feed.durable_through(bench.buffer) == 1
    bench.feed.on_applied(2)
    assert bench.feed.confirmed == 2


def test_updates_confirmed_before_the_requests_that_came_first_are_misuse() -> None:
    """A domain answers in the order in which it was asked."""
    bench = Bench(Role.ACTIVE)
    bench.order()
    bench.pump()
    bench.order()
    for _ in range(2):
        bench.buffer.take_in(bench.buffer.prefix + 1, b"u")
    bench.pump()
    with pytest.raises(FeedMisuse, match="before it answered 1"):
        bench.feed.on_applied(2)


def test_a_command_behind_an_unanswered_request_confirms_nothing() -> None:
    """Numbers of commands have no answer; they count once everything before them is answered."""
    bench = Bench(Role.ACTIVE)
    bench.order()
    bench.order(is_request=False)
    bench.pump()
    assert (bench.feed.cursor, bench.feed.confirmed) == (3, 0)
    bench.feed.on_executed(1, has_update=True)
    assert bench.feed.confirmed == 2
    assert bench.feed.power is Power.RUNNING


def test_large_requests_do_not_fill_the_queue_to_a_domain() -> None:
    """A link that holds too much ends, as one whose domain does not read: clients must not be able to bring that
    about for all domains at once."""
    bench = Bench(Role.ACTIVE)
    size = EXECUTE_BYTES_IN_FLIGHT_MAX * 2 // 5
    for _ in range(5):
        bench.order(payload=b"x" * size)
    assert len(bench.pump()) == 2
    assert bench.pump() == []
    bench.feed.on_executed(1, has_update=False)
    (frame,) = bench.pump()
    assert isinstance(frame, Execute)
    assert frame.sequence == 3


def test_one_request_above_the_bound_is_handed_alone() -> None:
    """Else it would never be."""
    bench = Bench(Role.ACTIVE)
    bench.order()
    bench.order(payload=b"x" * (EXECUTE_BYTES_IN_FLIGHT_MAX + 1))
    assert len(bench.pump()) == 1
    bench.feed.on_executed(1, has_update=False)
    assert len(bench.pump()) == 1


def test_a_domain_that_becomes_passive_goes_on_executing_what_was_settled_at_a_restart() -> None:
    """There are no updates of it: a batch behind it must not pass over what the domain was not handed yet."""
    bench = Bench(Role.ACTIVE)
    settled = EXECUTES_IN_FLIGHT_MAX + 2
    for _ in range(settled):
        bench.order()
    bench.buffer.restart_at(settled)
    bench.feed.replay_through = settled
    assert len(bench.pump()) == EXECUTES_IN_FLIGHT_MAX
    bench.feed.role = Role.PASSIVE
    for _ in range(2):
        bench.buffer.take_in(bench.order(), b"u")
    assert bench.pump() == []
    assert bench.feed.needed_from(bench.buffer) == 1
    for sequence in range(1, EXECUTES_IN_FLIGHT_MAX + 1):
        bench.feed.on_executed(sequence, has_update=True)
    executes = bench.pump()
    assert [frame.sequence for frame in executes if isinstance(frame, Execute)] == [settled - 1, settled]
    assert len(executes) == 2
    for sequence in (settled - 1, settled):
        bench.feed.on_executed(sequence, has_update=True)
    (batch,) = bench.pump()
    assert isinstance(batch, ApplyUpdates)
    assert (batch.previous, batch.up_to, len(batch.updates)) == (settled, settled + 2, 2)


def test_what_a_domain_was_handed_before_it_became_passive_is_durable_only_when_it_was_executed() -> None:
    """A4: the log was cut above it, and after a power cut nobody could have handed it again."""
    bench = Bench(Role.ACTIVE)
    bench.order()
    bench.pump()
    bench.feed.role = Role.PASSIVE
    bench.buffer.take_in(1, b"u")
    assert bench.feed.durable_through(bench.buffer) == 0
    assert bench.feed.needed_from(bench.buffer) == 1


def test_a_passive_domain_that_has_yet_to_execute_what_was_settled_gets_processor_time() -> None:
    bench = Bench(Role.PASSIVE)
    bench.order()
    bench.buffer.restart_at(1)
    bench.feed.replay_through = 1
    assert bench.feed.plan_power(bench.buffer) is None
    assert [type(frame) for frame in bench.pump()] == [Execute]
    bench.feed.on_executed(1, has_update=False)
    assert bench.feed.plan_power(bench.buffer) is PowerAction.SUSPEND
