"""What clients and domains send is held no longer, and never more of it, than somebody needs."""

import dataclasses

from replica_manager.identifiers import DomainId
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
