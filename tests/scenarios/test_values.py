"""Every server gets every stable value, whatever becomes of its own domain.

Source: design "Execution and voting" (`M10`), "What may be dropped, and catching up" (`L12`).
"""

from collections.abc import Mapping

import pytest

from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import Feed
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome
from replica_manager.peer_messages import FetchResult, ManagerMessage, Result, StableNotice, Votes
from replica_manager.updates.retention import Retention
from replica_manager.voting.catch_up import CatchUp
from replica_manager.voting.value_exchange import ValueExchange
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink

ACTIVE_0, PASSIVE_0, ACTIVE_1 = DomainId("s0.g1"), DomainId("s0.g2"), DomainId("s1.g1")


class Silent(ValueExchange):
    """Planted: `M10` taken out."""

    def push(self, record: RequestRecord, output: CoreOutput) -> None:
        """Send nothing unasked."""


def cell_whose_server_0_has_no_domain(exchange: type[ValueExchange] = ValueExchange) -> LockstepCell:
    cell = LockstepCell(1)
    for core in cell.cores:
        patience_ms = core.settings.stall_start_ms // 2
        core.values = exchange(
            core.settings.server, core.cell, core.requests, core.feeds, core.membership.learners, patience_ms
        )
    for domain in (PASSIVE_0, ACTIVE_0):
        cell.cores[0].on_domain_gone(domain, "killed")
        cell.settle()
    return cell


def outcome_of(cell: LockstepCell, server: int, sink: RecordingSink, client: ClientId, number: int) -> list[Outcome]:
    cell.submit(server, sink, client, number, b"append a x")
    return [outcome for _, n, outcome, _ in sink.replies if n == number]


def test_a_server_whose_own_domains_are_gone_answers_its_clients_at_once() -> None:
    """M10: values are pushed to it; no timer passes here."""
    sink = RecordingSink()
    cell = cell_whose_server_0_has_no_domain()
    client = cell.open_client(0, sink)
    assert outcome_of(cell, 0, sink, client, 1) == [Outcome.ANSWERED]
    assert cell.cores[0].buffer.prefix == cell.cores[1].buffer.prefix


def test_without_pushed_values_such_a_server_answers_nothing_before_a_timer() -> None:
    """The same with the rule taken out: the scenario above would notice.  A timer then asks for each value."""
    sink = RecordingSink()
    cell = cell_whose_server_0_has_no_domain(Silent)
    client = cell.open_client(0, sink)
    assert outcome_of(cell, 0, sink, client, 1) == []
    for _ in range(3):
        cell.tick(50)
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]


def test_a_server_without_domains_holds_no_updates_for_them() -> None:
    """Memory: nobody would ever be handed them."""
    sink = RecordingSink()
    cell = cell_whose_server_0_has_no_domain()
    client = cell.open_client(0, sink)
    for number in range(1, 30):
        outcome_of(cell, 0, sink, client, number)
    cell.tick()
    cell.tick()
    assert cell.cores[0].buffer.entry_count < 5


def test_one_server_alone_pushes_a_value() -> None:
    """M10: the lowest live server whose domain has voted; with f = 2 the others have the value too."""
    cell = LockstepCell(2)
    pushed: list[tuple[int, int, int]] = []

    def watch(sender: int, receiver: int, message: ManagerMessage) -> bool:
        if isinstance(message, Result):
            pushed.append((sender, receiver, message.sequence))
        return False

    cell.is_lost = watch
    for domain in (DomainId("s2.g2"), DomainId("s2.g1")):
        cell.cores[2].on_domain_gone(domain, "killed")
        cell.settle()
    sink = RecordingSink()
    client = cell.open_client(2, sink)
    assert outcome_of(cell, 2, sink, client, 1) == [Outcome.ANSWERED]
    assert [(sender, receiver) for sender, receiver, _ in pushed] == [(0, 2)]


def test_a_server_whose_own_domain_lies_asks_for_the_stable_value_at_once() -> None:
    """f = 2: a0 lies, the votes diverge, p1 is activated: three equal votes, whose value server 0 lacks.

    No timer passes here: the round, the question and the answer follow from the vote.
    """
    cell = LockstepCell(2, is_repairing=False)
    cell.cores[0].on_domain_gone(PASSIVE_0, "killed")
    cell.settle()
    asked: list[tuple[int, int]] = []

    def watch(sender: int, _receiver: int, message: ManagerMessage) -> bool:
        if isinstance(message, FetchResult):
            asked.append((sender, message.sequence))
        return False

    cell.is_lost = watch
    cell.domains[ACTIVE_0].rows[b"a"] = b"planted"
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    sequence = cell.sequence + 1
    cell.submit(0, sink, client, 1, b"get a")
    assert asked == [(0, sequence)]
    assert [(outcome, reply) for _, _, outcome, reply in sink.replies] == [(Outcome.ANSWERED, b"")]


@pytest.mark.parametrize("kind", [FetchResult, Result])
def test_a_lost_question_or_answer_is_asked_again_and_of_another_server(kind: type[ManagerMessage]) -> None:
    """Messages may be lost with a connection; a value has more than one holder."""
    cell = LockstepCell(2)
    for domain in (DomainId("s2.g2"), DomainId("s2.g1")):
        cell.cores[2].on_domain_gone(domain, "killed")
        cell.settle()
    asked: list[int] = []

    def lose(sender: int, receiver: int, message: ManagerMessage) -> bool:
        if isinstance(message, FetchResult):
            asked.append(receiver)
        is_first = len(asked) <= 1
        return isinstance(message, Result | kind) and is_first

    cell.is_lost = lose
    sink = RecordingSink()
    client = cell.open_client(2, sink)
    assert outcome_of(cell, 2, sink, client, 1) == []
    for _ in range(10):
        cell.tick(50)
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]
    assert asked[:2] == [0, 1]


class HelpsNobody(CatchUp):
    """Planted: `L12` taken out: votes are sent once."""

    def resend(self, server: int, requests: RequestLog, feeds: Mapping[DomainId, Feed], output: CoreOutput) -> None:
        """Send nothing."""


def outcomes_after_lost_votes(cell: LockstepCell) -> list[Outcome]:
    """All votes on a request are lost, once; then more than half a stall timeout passes, and less than a whole one."""
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda _sender, _receiver, message: isinstance(message, Votes)
    cell.submit(0, sink, client, 1, b"set a 1")
    assert sink.replies == []
    cell.is_lost = lambda *_: False
    for _ in range(4):
        cell.tick(50)
    assert "vote_stalled" not in {kind for _, kind, _ in cell.events}
    return [outcome for _, _, outcome, _ in sink.replies]


@pytest.mark.parametrize("f", [1, 2])
def test_l12_lost_votes_come_again_without_a_stall(f: int) -> None:
    """A server whose prefix stands still for half a stall timeout is sent votes and notices unasked."""
    assert outcomes_after_lost_votes(LockstepCell(f)) == [Outcome.ANSWERED]


def test_l12_planted_votes_that_are_sent_once_leave_the_request_open() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.catch_up.__class__ = HelpsNobody
    assert outcomes_after_lost_votes(cell) == []


def test_votes_come_again_with_a_new_connection_at_once() -> None:
    """L12: on reconnect a server resends its votes above the peer's prefix."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda _sender, receiver, message: receiver == 0 and isinstance(message, Votes)
    cell.submit(0, sink, client, 1, b"set a 1")
    cell.is_lost = lambda *_: False
    assert sink.replies == []
    cell.cores[1].on_peer_up(0)
    cell.settle()
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]


def test_who_is_helped_in_vain_says_how_far_it_is() -> None:
    """The message that said so was lost: the peer would go on helping for ever, in a cell where nothing happens."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"set a 1")
    core = cell.cores[1]
    record = core.requests.get(core.buffer.prefix)
    assert record is not None
    assert record.stable_digest is not None
    core.on_peer_message(0, StableNotice([record.sequence], record.stable_digest), 0)
    assert core.take_output().sends == [(0, core.position)]
    core.on_peer_message(0, StableNotice([record.sequence + 1], record.stable_digest), 0)
    assert core.take_output().sends == []


class DropsWhatItHas(Retention):
    """Planted: `L12` taken out: what is stable here is dropped here."""

    def drop(self) -> None:
        """Look at nobody else."""
        self._requests.forget_values_through(self._buffer.prefix)


def lag_after_a_cut(cell: LockstepCell) -> int:
    """1. Server 2 has no domain and hears nothing, while the others go on, report and refresh.  2. It hears again."""
    for domain in (DomainId("s2.g2"), DomainId("s2.g1")):
        cell.cores[2].on_domain_gone(domain, "killed")
        cell.settle()
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda _sender, receiver, _message: receiver == 2
    for number in range(1, 40):
        outcome_of(cell, 0, sink, client, number)
    for _ in range(3):
        cell.tick()
    cell.is_lost = lambda *_: False
    for _ in range(20):
        cell.tick(50)
    return cell.cores[2].requests.last - cell.cores[2].buffer.prefix


def test_l12_what_a_server_that_lags_needs_is_kept_for_it() -> None:
    """Votes, digests and values are dropped below `stable_all`, nothing else."""
    assert lag_after_a_cut(LockstepCell(2)) == 0


def test_l12_planted_values_dropped_after_the_local_refresh_can_be_fetched_by_nobody() -> None:
    """The scenario above finds it."""
    cell = LockstepCell(2)
    for core in cell.cores:
        core.retention.__class__ = DropsWhatItHas
    assert lag_after_a_cut(cell) > 30


def test_a_notice_before_its_entry_is_delivered_waits_for_it() -> None:
    """A message that refers to a position not delivered here yet waits."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    core = cell.cores[0]
    sequence = core.requests.last + 1
    core.on_peer_message(1, StableNotice([sequence], b"d" * 32), 0)
    cell.submit(0, sink, client, 1, b"set a 1")
    record = core.requests.get(sequence)
    assert record is not None
    assert record.stable_digest == b"d" * 32


def test_votes_sent_again_and_again_before_their_entry_take_no_more_memory() -> None:
    """Bounded: a peer repeats what it gets no answer to."""
    core = LockstepCell(1).cores[0]
    for _ in range(100):
        core.on_peer_message(1, Votes("s1.g1", [50], b"v" * 32), 0)
    assert core.voter.early_vote_count == 1
