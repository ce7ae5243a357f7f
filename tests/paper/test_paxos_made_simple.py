"""What we rely on of Lamport, "Paxos Made Simple" (2001), one test each.

The docstring of a test gives the section and the statement in our words; `Source:` is that paper throughout.
"""

from hypothesis import given
from hypothesis import strategies as st

from agreement.acceptor import Acceptor
from agreement.changes import EMPTY_BATCH, EMPTY_BATCH_RAW, Batch, Entry, decode_batch, encode_batch
from agreement.identifiers import Ballot, MemberId
from agreement.messages import Accept, Accepted, Nack, Prepare, Promise, VoteReport
from agreement.proposer import Campaign
from agreement.quorum import QuorumOutcome
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.tally import Tally
from tests.agreement.local_cell import S0, S1, S2, W0, W1, LocalCell
from tests.agreement.test_quorum import cell as configuration_of

LOW, MIDDLE, HIGH = Ballot(1, S0), Ballot(2, S1), Ballot(3, S0)


def value(number: int) -> bytes:
    """A batch that differs from others."""
    return encode_batch(Batch((Entry(0, 1, number, b""),)))


class TestSection21Problem:
    """Safety requirements of consensus."""

    def test_only_a_value_that_has_been_proposed_may_be_chosen(self) -> None:
        """Source: section 1.  The checkers of every cell compare each delivery with what its origin proposed."""
        cell = LocalCell()
        cell.elect()
        cell.propose(S1, b"proposed")
        cell.run()
        assert cell.payloads(S0) == [b"proposed"]

    def test_a_learner_never_learns_a_value_that_was_not_chosen(self) -> None:
        """Source: section 1.  A vote of the leader alone, durable and told to everybody, is not enough."""
        cell = LocalCell()
        cell.elect()
        cell.run()
        cell.loses = lambda message: isinstance(message, Accept)
        cell.propose(S0, b"x")
        cell.run()
        assert len(cell.messages(Accepted)) == 1
        assert cell.payloads(S0) == cell.payloads(S1) == []


class TestSection22Choosing:
    """The requirements P1 to P2c and the two phases."""

    def test_p1_an_acceptor_accepts_the_first_proposal_that_it_receives(self) -> None:
        """Source: section 2.2, P1."""
        assert Acceptor(1).can_vote(LOW)

    def test_p1a_an_acceptor_accepts_unless_it_has_promised_a_higher_number(self) -> None:
        """Source: section 2.2, P1a."""
        acceptor = Acceptor(1)
        acceptor.promise(MIDDLE)
        assert [acceptor.can_vote(ballot) for ballot in (LOW, MIDDLE, HIGH)] == [False, True, True]

    def test_different_proposals_have_different_numbers(self) -> None:
        """Source: section 2.2: proposers draw from disjoint sets, and each remembers the highest it has used (2.4)."""
        cell = LocalCell(tolerated_faults=2)
        cell.elect()
        for server in (S0, S1, S2):
            cell.crash(server)
            cell.restart(server)
            cell.advance(3_000)
        batches: dict[tuple[Ballot, int, int], bytes] = {}
        for _, _, accept in cell.sent:
            if isinstance(accept, Accept):
                key = (accept.ballot, accept.configuration, accept.slot)
                assert batches.setdefault(key, accept.batch) == accept.batch
        candidates = {(message.ballot, sender) for sender, _, message in cell.messages(Prepare)}  # type: ignore[union-attr]
        assert all(ballot.member == sender for ballot, sender in candidates)

    def test_a_ballot_that_was_used_is_not_used_again_after_a_restart(self) -> None:
        """Source: section 2.4: the own promise is durable before anybody hears of the ballot."""
        cell = LocalCell()
        cell.now_ms += 10
        cell.cores[S0].on_timer(cell.now_ms)
        cell.pump(S0)
        assert cell.messages(Prepare) == []
        cell.sync(S0)
        first = [message.ballot for _, _, message in cell.messages(Prepare)]  # type: ignore[union-attr]
        cell.crash(S0)
        cell.restart(S0)
        cell.advance(3_000)
        later = [message.ballot for _, _, message in cell.messages(Prepare)][len(first) :]  # type: ignore[union-attr]
        assert first
        assert all(ballot > max(first) for ballot in later)

    def test_a_prepare_asks_for_a_promise_and_for_the_highest_numbered_vote(self) -> None:
        """Source: section 2.2, prepare request (a) and (b)."""
        acceptor = Acceptor(1)
        acceptor.vote(LOW, 0, 0, value(1), decode_batch(value(1)))
        acceptor.vote(MIDDLE, 0, 0, value(2), decode_batch(value(2)))
        acceptor.promise(HIGH)
        assert acceptor.report(0) == [VoteReport(0, MIDDLE, value(2))]
        assert not acceptor.can_vote(MIDDLE)

    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=5))
    def test_p2c_the_value_of_the_highest_numbered_vote_reported_is_proposed(
        self, votes: list[tuple[int, int]]
    ) -> None:
        """Source: section 2.2, P2c (b)."""
        campaign = Campaign(Ballot(99, S0), 0)
        for index, (number, content) in enumerate(votes):
            report = VoteReport(0, Ballot(number, MemberId.server(index)), value(content))
            promise = Promise(1, 1, campaign.ballot, -1, 0, 1, (report,))
            campaign.record_promise(MemberId.witness(index), promise)
        expected = max(range(len(votes)), key=lambda index: (votes[index][0], index))
        assert campaign.proposals(0)[0].raw == value(votes[expected][1])

    def test_p2c_if_no_vote_is_reported_the_proposer_is_free(self) -> None:
        """Source: section 2.2, P2c (a)."""
        campaign = Campaign(LOW, 0)
        campaign.record_promise(S1, Promise(1, 1, LOW, -1, 0, 1, ()))
        assert campaign.proposals(0) == []

    def test_a_proposer_needs_a_majority_of_promises_before_it_proposes(self) -> None:
        """Source: section 2.2, phase 1 and 2 of the proposer."""
        cell = LocalCell(tolerated_faults=2)
        cell.loses = lambda message: isinstance(message, Promise)
        cell.propose(S0, b"x")
        cell.advance(3_000)
        assert cell.messages(Accept) == []
        cell.loses = lambda message: False
        cell.advance_until(lambda: cell.payloads(S0) == [b"x"])

    def test_a_value_is_chosen_when_a_majority_has_accepted_it(self) -> None:
        """Source: section 2.2: any two majorities have an acceptor in common."""
        rule = configuration_of(2).rule
        assert rule.outcome([S0, W0]) is QuorumOutcome.PENDING
        assert rule.outcome([S0, W0, W1]) is QuorumOutcome.REACHED

    def test_a_chosen_value_is_what_every_higher_ballot_proposes(self) -> None:
        """Source: section 2.2, P2.  Three leaders, one after the other, propose what the first got chosen."""
        cell = LocalCell(tolerated_faults=2)
        cell.elect()
        cell.run()
        cell.propose(S0, b"chosen")
        while cell.pool:
            cell.deliver(0)
        for server in (S0, S1, S2):
            cell.sync(server)
        cell.pool.clear()
        cell.crash(S0)
        cell.advance_until(lambda: bool(cell.payloads(S1) and cell.payloads(S2)))
        assert cell.payloads(S1)[:1] == cell.payloads(S2)[:1] == [b"chosen"]

    def test_an_acceptor_may_ignore_any_request(self) -> None:
        """Source: section 2.2: safety does not rest on answers.  Half of all messages are lost."""
        cell = LocalCell(seed=3)
        cell.loses = lambda message: cell.rng.random() < 0.5
        for count in range(10):
            cell.propose(S1, b"%d" % count)
            cell.advance(500)
        cell.loses = lambda message: False
        cell.advance_until(lambda: len(cell.payloads(S0)) >= 10 or cell.node(S1).is_removed)

    def test_a_refused_proposer_is_told_the_higher_number(self) -> None:
        """Source: section 2.2, the optimisation: it had better abandon its proposal."""
        cell = LocalCell()
        cell.elect()
        cell.run()
        stale = Prepare(1, 1, Ballot(0, S1), 0, configuration_of(1))
        cell.cores[S0].receive(S1, stale, cell.now_ms + 5_000)
        cell.pump(S0)
        nacks = [message for _, _, message in cell.sent if isinstance(message, Nack)]
        assert nacks[-1].promised > stale.ballot


class TestSection23Learning:
    """How learners find out."""

    def test_each_acceptor_tells_every_learner(self) -> None:
        """Source: section 2.3.  With few servers that costs no more messages than a distinguished learner."""
        cell = LocalCell(tolerated_faults=2)
        cell.elect()
        cell.run()
        cell.sent.clear()
        cell.propose(S0, b"x")
        cell.run()
        told = {(sender, receiver) for sender, receiver, _ in cell.messages(Accepted)}
        assert told == {(one, other) for one in (S0, S1, S2) for other in (S0, S1, S2) if one != other}

    def test_a_learner_that_missed_it_asks(self) -> None:
        """Source: section 2.3: a value may be chosen with no learner knowing; then it must be proposed again or asked
        for."""
        cell = LocalCell(tolerated_faults=2)
        cell.elect()
        cell.run()
        cell.cut.add(S2)
        cell.propose(S0, b"x")
        cell.advance(1_000)
        cell.cut.clear()
        cell.advance_until(lambda: cell.payloads(S2) == [b"x"], limit_ms=2_000)

    def test_votes_of_one_ballot_are_counted(self) -> None:
        """Source: section 2.3: a learner finds out that a majority has accepted *a proposal*, which has one number."""
        tally = Tally()
        tally.record_votes(S0, LOW, 0, 0)
        tally.record_votes(S1, MIDDLE, 0, 0)
        assert tally.decided_through(configuration_of(1).rule, -1) == -1


class TestSection24Progress:
    """A distinguished proposer."""

    def test_two_candidates_do_not_stop_each_other_for_ever(self) -> None:
        """Source: section 2.4: a single distinguished proposer must be elected; timeouts are random and grow."""
        for seed in range(20):
            cell = LocalCell(tolerated_faults=2, seed=seed)
            cell.elect()
            cell.advance(500)
            cell.crash(S0)
            began_ms = cell.now_ms
            cell.advance_until(lambda: any(node.is_leader for node in cell.nodes), limit_ms=10_000)  # noqa: B023
            assert cell.now_ms - began_ms < 8_000


class TestSection25Implementation:
    """Stable storage."""

    def test_an_acceptor_records_its_answer_before_it_sends_it(self) -> None:
        """Source: section 2.5.  The promise, and the vote."""
        cell = LocalCell()
        cell.elect()
        cell.run()
        cell.propose(S0, b"x")
        cell.deliver(0)
        written = read_storage(cell.storages[S1].scan(PREFIX, PREFIX_END)).of(1)
        durable = read_storage(cell.storages[S1].scan_durable(PREFIX, PREFIX_END)).of(1)
        assert sorted(written.slots) == [0]
        assert sorted(durable.slots) == []
        assert not any(sender == S1 for sender, _, _ in cell.messages(Accepted))
        cell.sync(S1)
        assert any(sender == S1 for sender, _, _ in cell.messages(Accepted))

    def test_a_crash_before_the_record_is_durable_takes_nothing_back(self) -> None:
        """Source: section 2.5: what was not recorded was not said."""
        cell = LocalCell()
        cell.elect()
        cell.run()
        cell.propose(S0, b"x")
        cell.deliver(0)
        cell.crash(S1)
        assert not any(sender == S1 for sender, _, _ in cell.messages(Accepted))
        cell.restart(S1)
        cell.advance_until(lambda: b"x" in cell.payloads(S1))


class TestSection3StateMachine:
    """A sequence of instances."""

    def test_a_stable_leader_runs_phase_1_once_for_all_instances(self) -> None:
        """Source: section 3."""
        cell = LocalCell()
        cell.elect()
        for count in range(50):
            cell.propose(S0, b"%d" % count)
            cell.advance(30)
        assert len(cell.messages(Prepare)) == 1
        assert len(cell.payloads(S1)) == 50

    def test_a_new_leader_fills_gaps_with_no_ops(self) -> None:
        """Source: section 3: a leader fills instances that were left open below known ones."""
        campaign = Campaign(HIGH, 0)
        campaign.record_promise(S1, Promise(1, 1, HIGH, -1, 0, 1, (VoteReport(2, LOW, value(1)),)))
        assert [proposal.raw for proposal in campaign.proposals(0)] == [EMPTY_BATCH_RAW, EMPTY_BATCH_RAW, value(1)]
        assert EMPTY_BATCH.entries == ()

    def test_a_leader_may_propose_ahead_but_only_so_far(self) -> None:
        """Source: section 3: commands up to some number of instances ahead of those that are known chosen."""
        cell = LocalCell()
        cell.elect()
        cell.run()
        cell.cut.add(S1)
        for count in range(20):
            cell.propose(S0, b"%d" % count)
        accepts = {message.slot for _, _, message in cell.sent if isinstance(message, Accept)}
        assert len(accepts) == cell.settings.slots_in_flight_max

    def test_an_instance_is_executed_only_after_all_before_it(self) -> None:
        """Source: section 3: a server cannot execute a command before all earlier ones are chosen."""
        cell = LocalCell()
        cell.elect()
        cell.run()
        cell.propose(S0, b"first")
        cell.propose(S0, b"second")
        first = next(flight for flight in cell.pool if isinstance(flight[2], Accept) and flight[2].slot == 0)
        cell.pool.remove(first)
        cell.run()
        assert cell.payloads(S1) == []
        cell.pool.append(first)
        cell.run()
        assert cell.payloads(S1) == [b"first", b"second"]
