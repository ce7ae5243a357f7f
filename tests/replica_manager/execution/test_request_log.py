"""What an operator can ask of a sequence number, also when nobody else needs it any more."""

import pytest

from replica_manager.execution.request_log import KEPT_FOR_EXPLANATION, RequestLog, RequestRecord
from replica_manager.identifiers import ClientId, DomainId

VOTER = DomainId("s0.g1")


def log_of(*what: str) -> RequestLog:
    """Return a log from number 1 on; `request` is one with a vote, everything else a command's name."""
    log = RequestLog()
    for name in what:
        sequence = log.last + 1
        if name == "request":
            record = RequestRecord(sequence, ClientId(bytes(24)), sequence, 1, bytes(32), b"payload")
            record.votes[VOTER] = b"digest"
            record.values[b"digest"] = (b"reply", b"update")
            log.append(sequence, record)
        else:
            log.append(sequence, name)
    return log


def explained(log: RequestLog, sequence: int) -> str | None:
    """Return what the log says is at `sequence`, in the words of `log_of`."""
    found = log.explain(sequence)
    return "request" if isinstance(found, RequestRecord) else found


ENTRIES = ("OpenClient", "request", "Progress", "Progress", "request", "Stopped")


@pytest.mark.parametrize("dropped", range(len(ENTRIES) + 1))
def test_an_entry_is_explained_as_what_it_is_however_much_was_dropped(dropped: int) -> None:
    """Commands too: they have no votes, but a number that was ordered was something."""
    log = log_of(*ENTRIES)
    log.drop_through(dropped)
    assert [explained(log, sequence) for sequence in range(1, len(ENTRIES) + 1)] == list(ENTRIES)
    assert log.explain(len(ENTRIES) + 1) is None
    assert log.first_explained == 1


def test_a_dropped_request_keeps_its_votes_and_loses_its_bytes() -> None:
    """Who said what is a digest; payloads and replies would fill the memory."""
    log = log_of("request", "Progress")
    log.drop_through(2)
    record = log.explain(1)
    assert isinstance(record, RequestRecord)
    assert (record.sequence, record.votes) == (1, {VOTER: b"digest"})
    assert (record.payload, record.payload_bytes, record.values) == (b"", len(b"payload"), {})


def test_only_so_many_dropped_numbers_are_kept() -> None:
    """Commands and requests count alike: the oldest number that is kept follows from their count."""
    log = log_of("OpenClient", "request", *["Progress"] * KEPT_FOR_EXPLANATION, "request")
    log.drop_through(log.last - 1)
    assert log.first_explained == 3
    assert [explained(log, sequence) for sequence in (1, 2, 3, log.last)] == [None, None, "Progress", "request"]


def test_nothing_before_a_restart_is_explained() -> None:
    """The log that begins anew does not know what was before it."""
    log = log_of("OpenClient", "request")
    log.drop_through(1)
    log.restart_at(10)
    log.append(10, "Progress")
    assert [explained(log, sequence) for sequence in (1, 2, 9, 10, 11)] == [None, None, None, "Progress", None]
