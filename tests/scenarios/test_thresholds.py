"""What counts as agreed: thresholds, contradictions, and who is believed.

Source: design sections 2, 3 and 7; `S2`, `L10` and "checked, sound" of its list of traps.
"""

from collections import Counter

import pytest

from agreement.messages import ServerLeft
from replica_manager.cell.cell_state import CellState
from replica_manager.execution.request_log import RequestRecord
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome
from replica_manager.peer_messages import StableNotice
from replica_manager.voting.voter import Voter
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink

ACTIVE_0, PASSIVE_0 = DomainId("s0.g1"), DomainId("s0.g2")
ACTIVE_1, PASSIVE_1 = DomainId("s1.g1"), DomainId("s1.g2")
LIE = b"a lie"


def corrupt(cell: LockstepCell, *domains: DomainId) -> None:
    """An intruder changes a row in the domains' databases: they answer `get a` alike, and wrongly."""
    for domain in domains:
        cell.domains[domain].rows[b"a"] = LIE


def kill(cell: LockstepCell, *domains: DomainId) -> None:
    for domain in domains:
        cell.cores[int(domain[1])].on_domain_gone(domain, "killed")
        cell.settle()


def kinds(cell: LockstepCell) -> set[str]:
    return {kind for _, kind, _ in cell.events}


class ThresholdOfTheThesis(CellState):
    """Planted: `S2` taken out."""

    def _recompute_thresholds(self) -> None:
        super()._recompute_thresholds()
        self.threshold = self.f_prime + 1


def reply_after_a_false_departure(cell: LockstepCell) -> RecordingSink:
    """S2: 1. a1 is corrupt, the one fault.  2. Manager 0 is merely slow.  3. Server 0 is made to leave, unfenced."""
    corrupt(cell, ACTIVE_1)
    cell.is_lost = lambda sender, receiver, _message: 0 in (sender, receiver)
    cell.order_change(ServerLeft(0, False))
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.submit(1, sink, client, 1, b"get a")
    return sink


def test_s2_one_slow_server_and_one_bad_domain_give_no_wrong_answer() -> None:
    """T stays at f'+2 while a server that left may in truth be running."""
    cell = LockstepCell(1)
    assert reply_after_a_false_departure(cell).replies == []
    assert cell.cores[1].cell.threshold == 2
    assert "vote_exceeded" in kinds(cell), "and it is said"


def test_s2_planted_the_threshold_of_the_thesis_gives_a_wrong_answer() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.cell.__class__ = ThresholdOfTheThesis
    assert reply_after_a_false_departure(cell).replies[0][3] == LIE


def test_s2_the_correct_domains_that_remain_suffice() -> None:
    """The f'+1 live servers host 2f'+2 domains, at most f' of them faulty: T = f'+2 is reached without the liar."""
    cell = LockstepCell(2)
    cell.is_lost = lambda sender, receiver, _message: 0 in (sender, receiver)
    cell.order_change(ServerLeft(0, False))
    assert cell.cores[1].cell.threshold == 3
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.submit(1, sink, client, 1, b"get a")
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]


class FirstCountedWins(Voter):
    """Planted: `L10` taken out: `T` votes suffice, whatever the others say."""

    def _count(self, record: RequestRecord) -> None:
        counted = Counter(digest for domain, digest in record.votes.items() if self._cell.is_counted(domain))
        digest, votes = counted.most_common(1)[0]
        if votes >= self._cell.threshold:
            self._make_stable(record, digest, ())


def reply_when_two_digests_reach_the_threshold(cell: LockstepCell) -> RecordingSink:
    """L10 (a): a1 says Y, p1 says X; then server 0 leaves, fenced, and T = 1."""
    kill(cell, PASSIVE_0, ACTIVE_0)
    corrupt(cell, ACTIVE_1)
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.submit(1, sink, client, 1, b"get a")
    assert sink.replies == []
    cell.order_change(ServerLeft(0, True))
    return sink


def test_l10_when_two_digests_reach_the_threshold_nothing_is_answered() -> None:
    """More than f' votes against a digest prove more than f' faults: alarm, no guess."""
    cell = LockstepCell(1)
    assert reply_when_two_digests_reach_the_threshold(cell).replies == []
    assert cell.cores[1].cell.threshold == 1
    assert "vote_exceeded" in kinds(cell)


def test_l10_planted_the_first_counted_wins() -> None:
    """The scenario above finds it: somebody is believed."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.voter.__class__ = FirstCountedWins
    assert len(reply_when_two_digests_reach_the_threshold(cell).replies) == 1


@pytest.mark.parametrize("f", [1, 2, 3])
def test_a_wrong_majority_below_the_threshold_is_not_believed(f: int) -> None:
    """f equal lies and one correct vote: the leading digest is the wrong one, until as many sleepers have voted."""
    cell = LockstepCell(f)
    liars = [DomainId(f"s{server}.g1") for server in range(f)]
    corrupt(cell, *liars)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"get a")
    assert "vote_diverged" in kinds(cell)
    assert [(outcome, reply) for _, _, outcome, reply in sink.replies] == [(Outcome.ANSWERED, b"")]
    assert not any(cell.cores[0].cell.is_counted(liar) for liar in liars)


@pytest.mark.parametrize("f", [1, 2, 3])
def test_a_wrong_majority_leads_for_ever_when_nobody_else_can_vote(f: int) -> None:
    """More than f faults: without sleepers the request stays open, and the disagreement is named."""
    cell = LockstepCell(f, is_repairing=False)
    kill(cell, *[DomainId(f"s{server}.g2") for server in range(f + 1)])
    corrupt(cell, *[DomainId(f"s{server}.g1") for server in range(f)])
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"get a")
    for _ in range(20):
        cell.tick(50)
    assert sink.replies == []
    assert "vote_exceeded" in kinds(cell)


def test_a_later_number_is_answered_while_an_earlier_one_is_open() -> None:
    """Replying out of order is safe: the linearization is the agreed order; updates wait for the contiguous prefix."""
    cell = LockstepCell(1)
    first, second = RecordingSink(), RecordingSink()
    client, other = cell.open_client(0, first), cell.open_client(0, second)
    cell.is_lost = lambda *_: True
    cell.submit(0, first, client, 1, b"get a")
    cell.is_lost = lambda *_: False
    prefix = cell.cores[0].buffer.prefix
    for number in range(1, 15):
        cell.submit(0, second, other, number, b"append b x")
    assert first.replies == []
    assert len(second.replies) == 14
    assert cell.cores[0].buffer.prefix == prefix
    assert cell.domains[PASSIVE_0].applied == []


def test_a_notice_of_a_peer_ends_the_vote() -> None:
    """Managers are trusted; the peer may have counted with another T."""
    cell = LockstepCell(2)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda *_: True
    cell.submit(0, sink, client, 1, b"set a 1")
    core = cell.cores[0]
    record = core.requests.get(core.requests.last)
    assert record is not None
    assert sink.replies == []
    core.on_peer_message(2, StableNotice([record.sequence], record.votes[ACTIVE_0]), 0)
    cell.settle()
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]


def test_a_vote_that_comes_late_and_differs_is_named_and_changes_nothing() -> None:
    """Detected: a vote against the stable digest."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"set a 1")
    core = cell.cores[0]
    record = core.requests.get(core.requests.last)
    assert record is not None
    before = record.stable_digest
    core.voter.record_vote(PASSIVE_1, record.sequence, b"d" * 32)
    cell.settle()
    assert record.stable_digest == before
    assert (0, "vote_contradicts", {"domain": PASSIVE_1, "sequence": record.sequence}) in cell.events


def test_a_second_different_vote_does_not_replace_the_first() -> None:
    """One vote per domain and number; equivocation is named.  No sleeper is there to end the vote otherwise."""
    cell = LockstepCell(1, is_repairing=False)
    kill(cell, PASSIVE_0, PASSIVE_1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.muted.add(ACTIVE_1)
    cell.submit(0, sink, client, 1, b"set a 1")
    core = cell.cores[0]
    record = core.requests.get(core.requests.last)
    assert record is not None
    for digest in (b"d" * 32, record.votes[ACTIVE_0]):
        core.voter.record_vote(ACTIVE_1, record.sequence, digest)
    cell.settle()
    assert sink.replies == []
    assert record.votes[ACTIVE_1] == b"d" * 32
    assert "vote_contradicts" in kinds(cell)
    assert not core.cell.is_counted(ACTIVE_1), "that is proof"


class AppliesWhatItHas(Voter):
    """Planted: the buffer takes a value that is not stable."""

    def advance_prefix(self) -> None:
        while (record := self._requests.get(self._buffer.prefix + 1)) is not None and record.values:
            self._buffer.take_in(record.sequence, next(iter(record.values.values()))[1])
        super().advance_prefix()

    def record_value(self, record: RequestRecord, digest: bytes, reply: bytes, update: bytes) -> None:
        super().record_value(record, digest, reply, update)
        self.advance_prefix()


def sleepers_row_after_a_lie(cell: LockstepCell) -> bytes:
    """a0 writes a wrong row, and its vote reaches nobody; its passive neighbour is woken for a checkpoint."""
    corrupt(cell, ACTIVE_0)
    cell.is_lost = lambda *_: True
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    cell.cores[1].order_checkpoint(1)
    cell.settle()
    return cell.domains[PASSIVE_0].rows.get(b"a", b"")


def test_a_passive_domain_applies_no_update_that_is_not_stable() -> None:
    """Promise 1 of the design."""
    assert sleepers_row_after_a_lie(LockstepCell(1)) == b""


def test_planted_a_passive_domain_that_is_fed_what_its_neighbour_says_is_contaminated() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.voter.__class__ = AppliesWhatItHas
    assert sleepers_row_after_a_lie(cell).startswith(LIE)
