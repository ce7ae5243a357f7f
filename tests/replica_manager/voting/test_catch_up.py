"""What a peer whose link was broken is told again."""

from replica_manager.core_output import CoreOutput
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import ClientId
from replica_manager.peer_messages import StableNotice
from replica_manager.voting.catch_up import CatchUp
from replica_manager.voting.vote_count import vote_digest


def told_again(*, is_skipped: bool) -> list[int]:
    """Return the numbers that a peer is told as stable, of one that was decided with no reply and no update."""
    requests, output = RequestLog(), CoreOutput()
    record = RequestRecord(1, ClientId(bytes(24)), 1, 0, bytes(32), b"request")
    record.stable_digest = vote_digest(b"", b"")
    record.is_skipped = is_skipped
    requests.append(1, record)
    CatchUp(100).resend(1, requests, {}, output)
    notices = [message for _, message in output.sends if isinstance(message, StableNotice)]
    return [sequence for notice in notices for sequence in notice.sequences]


def test_what_is_stable_is_told_again() -> None:
    assert told_again(is_skipped=False) == [1]


def test_a_skip_is_no_result_to_be_told() -> None:
    """A peer that has not delivered the decision would answer its client with the empty reply."""
    assert told_again(is_skipped=True) == []
