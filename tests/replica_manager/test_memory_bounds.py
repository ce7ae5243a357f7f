"""What clients and domains send is held no longer, and never more of it, than somebody needs."""

import dataclasses
import subprocess
import sys
import tracemalloc

import pytest

from replica_manager.cell.client_table import ClientTable
from replica_manager.execution.request_log import KEPT_FOR_EXPLANATION, RequestLog, RequestRecord
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome, Submission
from replica_manager.manager_core import ManagerCore
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink, core_settings


def retained_bytes(core: ManagerCore) -> int:
    """Requests and replies in memory."""
    return sum(
        len(record.payload) + sum(len(reply) + len(update) for reply, update in record.values.values())
        for record in core.requests.records(1)
    )


def test_a_sleeping_domain_keeps_no_requests_and_replies_in_memory() -> None:
    """Design 8.1: values are dropped below `stable_all`; a passive domain needs updates alone, which the buffer has."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"set a 1")
    for number in range(2, 30):
        cell.submit(0, sink, client, number, b"get a" + b" " * 500)
    core = cell.cores[0]
    assert retained_bytes(core) > 28 * 500
    cell.tick()
    assert core.requests.first == 2, "the update of number 2 waits for the passive domain"
    assert retained_bytes(core) < 2 * 1000
    assert core.feeds[DomainId("s0.g2")].cursor < core.requests.last


def test_a_domain_that_was_asleep_catches_up_after_values_were_forgotten() -> None:
    """Forgetting is only of what it does not need."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, 8):
        cell.submit(0, sink, client, number, b"append a %d" % number)
    cell.tick()
    for number in range(8, 40):
        cell.submit(0, sink, client, number, b"append a %d" % number)
    cell.tick()
    assert cell.domains[DomainId("s0.g2")].applied, "it was refreshed"
    assert all(outcome is Outcome.ANSWERED for _, _, outcome, _ in sink.replies)


def test_waiting_requests_are_bounded_in_bytes_too() -> None:
    """Thousands of requests of a megabyte are more than any memory; above the bound clients are told to come back."""
    core = ManagerCore(dataclasses.replace(core_settings(0, 1), waiting_bytes_max=2000), 0)
    sink = RecordingSink()
    for index in range(4):
        client = index.to_bytes(24)
        core.submit(sink, Submission(client, 1, b"x" * 900), 1, bytes(16))
    output = core.take_output()
    assert len(output.proposals) == 3
    assert [reply.outcome for reply in output.replies] == [Outcome.UNAVAILABLE]
    core.on_proposal_refused(output.proposals[0])
    core.submit(sink, Submission((9).to_bytes(24), 1, b"x"), 1, bytes(16))
    assert len(core.take_output().proposals) == 1, "what was decided is not waited for any more"


def client_id(number: int) -> ClientId:
    """Return one of many."""
    return ClientId(number.to_bytes(8) + bytes(16))


def dropped(sequence: int) -> RequestRecord:
    """Return a record as it is when everybody has it: two votes, a request, a value."""
    record = RequestRecord(sequence, client_id(sequence), 7, 1_000_000 + sequence, bytes(bytearray(32)), b"x" * 128)
    digest = sequence.to_bytes(32)
    record.votes = {DomainId("s0.g1"): digest, DomainId("s1.g1"): sequence.to_bytes(32)}
    record.values[digest] = (b"y" * 128, b"z" * 128)
    record.stable_digest = digest
    return record


def test_who_voted_what_is_kept_for_many_numbers_in_few_bytes() -> None:
    """An operator asks for one in a million: ten thousand records as they were would be ten megabytes."""
    log = RequestLog()
    for sequence in range(1, 101):
        log.append(sequence, dropped(sequence))
        log.drop_through(sequence)
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        for sequence in range(101, KEPT_FOR_EXPLANATION + 101):
            log.append(sequence, dropped(sequence))
            log.drop_through(sequence)
        after_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after_bytes - before_bytes < 200 * KEPT_FOR_EXPLANATION
    assert log.explain(100) is None


@pytest.mark.parametrize("is_stable", [True, False])
def test_a_dropped_number_is_explained_as_before(is_stable: bool) -> None:
    """Who voted what, also against the others, outlives requests and values."""
    log = RequestLog()
    for sequence in range(1, 10):
        record = dropped(sequence)
        record.votes[DomainId("s0.g2")] = b"other" + bytes(27)
        record.is_contested = record.is_skipped = True
        if not is_stable:
            record.stable_digest = None
        log.append(sequence, record)
    expected = log.explain(5)
    assert expected is not None
    facts = (expected.client, expected.number, expected.timestamp_us, expected.payload_bytes, expected.stable_digest)
    votes = dict(expected.votes)
    log.drop_through(9)
    found = log.explain(5)
    assert found is not None
    assert (found.client, found.number, found.timestamp_us, found.payload_bytes, found.stable_digest) == facts
    assert (found.votes, found.is_contested, found.is_skipped) == (votes, True, True)
    assert log.explain(10) is None


def test_a_full_client_table_is_small() -> None:
    """Anybody can open clients until it is full: its bound in entries is a bound in bytes."""
    entries_max = 10_000
    table = ClientTable(entries_max)
    tracemalloc.start()
    try:
        for number in range(2 * entries_max):
            table.open(client_id(number), number + 1)
            table.judge(client_id(number), 2**40 + number, b"payload", 2**40 + number)
        held_bytes, _ = tracemalloc.get_traced_memory()
        table.encode()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == entries_max
    assert held_bytes < 350 * entries_max
    assert peak_bytes < held_bytes + 200 * entries_max, "a checkpoint needs little beside the table"


def test_a_manager_does_not_load_what_only_others_need() -> None:
    """libvirt and the library that makes certificates are 12 MiB each, in every manager and witness."""
    program = "import sys, replica_manager.wiring, replica_manager.witness_server; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "sqlalchemy" in loaded
    assert not {"libvirt", "cryptography", "pyroute2", "rich"} & set(loaded)
