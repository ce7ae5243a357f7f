"""What is dropped, when, and what a difference between servers does.  Source: design 8.1, 6 (`S6`, `L12`)."""

import dataclasses

import msgspec
import pytest

from agreement.messages import Entry, ServerLeft
from replica_manager.cell.entries import (
    DIGEST_INTERVAL,
    OpenClient,
    Progress,
    RepairPoint,
    Stopped,
    encode_entry,
)
from replica_manager.execution.feed import PowerAction
from replica_manager.execution.request_log import RequestRecord
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.ordering.peer_transport import FRAME_BYTES_MAX
from replica_manager.peer_messages import FetchResult, Result, StateDigests
from replica_manager.recovery.state_digests import PARTS_MAX
from replica_manager.voting.value_exchange import VALUE_BYTES_MAX
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink, core_settings

PASSIVE_0 = DomainId("s0.g2")


def core_at(sequence: int) -> ManagerCore:
    core = ManagerCore(core_settings(0, 1), 0)
    for number in range(1, sequence + 1):
        core.deliver(number, Entry(0, 1, number, encode_entry(OpenClient(number.to_bytes(16), 1))))
    return core


def progress(core: ManagerCore, digest: bytes) -> Entry:
    return Entry(1, 1, 1, encode_entry(Progress(0, core.buffer.prefix, 0, DIGEST_INTERVAL, digest)))


def test_a_cell_state_that_differs_from_a_peers_ends_the_process() -> None:
    """S6: an assertion, which nobody catches.  A wrong vote would convict a correct domain instead."""
    core = core_at(DIGEST_INTERVAL + 3)
    core.deliver(core.cell.sequence + 1, progress(core, core.cell.chain))
    with pytest.raises(AssertionError, match=f"cell state at {DIGEST_INTERVAL} differs"):
        core.deliver(core.cell.sequence + 1, progress(core, b"x" * 32))


def test_a_sleeper_that_takes_no_updates_is_given_up_before_it_fills_the_memory() -> None:
    """Everything has a limit; the other servers' intakes do not know that this buffer is full."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.settings = dataclasses.replace(core.settings, buffer_entries_max=25)
    cell.muted.add(PASSIVE_0)
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    for number in range(1, 60):
        cell.submit(1, sink, client, number, b"append a x")
        cell.tick(50)
    assert (0, "limit_reached") in [(server, kind) for server, kind, _ in cell.events]
    assert (PASSIVE_0, PowerAction.DESTROY) in cell.power_actions
    assert cell.cores[0].buffer.entry_count <= 51
    assert all(outcome.name == "ANSWERED" for _, _, outcome, _ in sink.replies)


def test_a_busy_sleeper_is_not_given_up_for_what_it_has_confirmed() -> None:
    """Confirmed updates stay in the buffer until the next report; they are nobody's fault."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.settings = dataclasses.replace(core.settings, buffer_entries_max=12)
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    for number in range(1, 120):
        cell.submit(1, sink, client, number, b"append a x")
        cell.tick(1)
    assert "domain_gone" not in [kind for _, kind, _ in cell.events]


def test_the_largest_messages_of_a_manager_fit_into_a_frame() -> None:
    """What a domain says must not make its manager send what a link cannot carry."""
    digests = StateDigests("s255.g4294967295", 2**63, 0, [bytes(32)] * PARTS_MAX, True, bytes(32))
    result = Result(2**63, b"r" * (VALUE_BYTES_MAX - 1), b"u")
    for message in (digests, result):
        assert len(msgspec.msgpack.encode([message])) <= FRAME_BYTES_MAX


def test_a_value_too_large_for_a_frame_is_not_sent_and_named() -> None:
    """A frame of a domain may be configured larger than one between servers."""
    core = core_at(0)
    record = RequestRecord(1, ClientId(bytes(24)), 1, 1, bytes(32), b"p")
    core.requests.append(1, record)
    record.values[b"d" * 32] = (b"r" * VALUE_BYTES_MAX, b"u")
    core.on_peer_message(1, FetchResult(1, b"d" * 32), 0)
    output = core.take_output()
    assert output.sends == []
    assert [event.data["limit"] for event in output.events] == ["value_bytes"]


def kept_values(core: ManagerCore) -> int:
    return sum(len(record.values) for record in core.requests.records(1))


def test_a_server_that_left_holds_no_values_up() -> None:
    """`stable_all` is the minimum over live servers: with a departure it grows without a report."""
    cell = LockstepCell(2)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda _sender, receiver, _message: receiver == 2
    for number in range(1, 8):
        cell.submit(0, sink, client, number, b"append a x")
    for _ in range(3):
        cell.tick()
    assert kept_values(cell.cores[0]) == 7
    cell.order_change(ServerLeft(2, True))
    assert kept_values(cell.cores[0]) == 0


def test_what_comes_after_a_joiners_point_is_kept_until_it_has_told_that_it_has_it() -> None:
    """L12: it may read of its own point late, and would wait for a value that nobody has any more."""
    cell = LockstepCell(1, is_repairing=False)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    cell.order_change(ServerLeft(1, True))
    cell.is_lost = lambda sender, _receiver, _message: sender == 1
    cell.order_entry(RepairPoint(["s1.g3"], 0, cell.sequence))
    for number in range(2, 6):
        cell.submit(0, sink, client, number, b"append a x")
    for _ in range(3):
        cell.tick()
    assert kept_values(cell.cores[0]) == 4
    cell.order_entry(Stopped("s1.g3", "given up", cell.sequence))
    cell.tick()
    assert kept_values(cell.cores[0]) == 0


def test_updates_that_a_sleeper_has_applied_go_though_nothing_else_happens() -> None:
    """An idle cell reports nothing, and must still let go."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 16):
        cell.submit(0, sink, client, number, b"append a x")
    for _ in range(5):
        cell.tick()
    for core in cell.cores:
        passive = core.feeds[DomainId(f"s{core.settings.server}.g2")]
        assert core.buffer.entry_count == core.buffer.waiting_count(passive.cursor)
