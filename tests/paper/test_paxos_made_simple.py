"""What the agreement stage takes from Lamport, "Paxos Made Simple" (2001): one test per statement relied on."""

from itertools import product

import pytest

from agreement.changes import EMPTY_BATCH_RAW
from agreement.identifiers import Ballot
from agreement.messages import Accept, Accepted, Decision, Heartbeat, Nack, Prepare, Promise, VoteReport
from agreement.proposer import Campaign
from agreement.quorum import QuorumOutcome
from tests.agreement.local_cell import LocalCell
from tests.paper.by_hand import (
    CELL,
    S0,
    S1,
    S2,
    W0,
    AcceptorByHand,
    accept,
    batch_of,
    deliver_all,
    elected_cell,
    prepare,
    sent,
    start_campaign,
    sync_all,
)

LOW, MIDDLE, HIGH = Ballot(1, S0), Ballot(1, S1), Ballot(2, S0)


# --- section 2.2: acceptors --------------------------------------------------------------------------------------


def test_the_first_proposal_that_an_acceptor_receives_is_accepted() -> None:
    """An acceptor that has heard of nothing votes for whatever comes first, so that one proposal alone can be chosen.

    Source: Paxos Made Simple, section 2.2, P1.
    """
    assert AcceptorByHand().ask(accept(LOW, 0, b"x")) == [Accepted(1, 1, LOW, 0, 0)]


def test_an_accept_below_a_promise_is_refused_and_leaves_no_vote() -> None:
    """An acceptor that has answered a prepare does not vote for any lower number afterwards.

    Source: Paxos Made Simple, section 2.2, P1a.
    """
    acceptor = AcceptorByHand()
    acceptor.ask(prepare(HIGH))
    assert acceptor.ask(accept(MIDDLE, 0, b"x")) == [Nack(1, 1, MIDDLE, HIGH)]
    assert acceptor.ask(prepare(Ballot(3, S0))) == [Promise(1, 1, Ballot(3, S0), -1, 0, 1, ())]


@pytest.mark.parametrize("ballot", [HIGH, Ballot(2, S1), Ballot(3, S0)])
def test_an_accept_at_or_above_a_promise_is_voted_for(ballot: Ballot) -> None:
    """Nothing but an answered prepare with a greater number keeps an acceptor from voting.

    Source: Paxos Made Simple, section 2.2, P1a and phase 2b.
    """
    acceptor = AcceptorByHand()
    acceptor.ask(prepare(HIGH))
    assert acceptor.ask(accept(ballot, 0, b"x")) == [Accepted(1, 1, ballot, 0, 0)]


def test_a_prepare_below_a_promise_is_answered_by_a_refusal_that_names_the_greater_number() -> None:
    """A proposer that cannot succeed any more is told so; that is a matter of speed only.

    Source: Paxos Made Simple, section 2.2 and 2.3 (abandoning a proposal).
    """
    acceptor = AcceptorByHand()
    acceptor.ask(prepare(HIGH))
    assert acceptor.ask(prepare(LOW)) == [Nack(1, 1, LOW, HIGH)]


def test_a_promise_reports_the_highest_numbered_vote_of_each_slot() -> None:
    """The answer to a prepare carries the newest proposal voted for, and none that came before it.

    Source: Paxos Made Simple, section 2.2, phase 1b.
    """
    acceptor = AcceptorByHand()
    acceptor.ask(accept(LOW, 0, b"old"))
    acceptor.ask(accept(LOW, 1, b"other"))
    acceptor.ask(accept(MIDDLE, 0, b"new"))
    votes = (VoteReport(0, MIDDLE, batch_of(b"new")), VoteReport(1, LOW, batch_of(b"other")))
    assert acceptor.ask(prepare(HIGH)) == [Promise(1, 1, HIGH, -1, 0, 1, votes)]


# --- section 2.2: proposers --------------------------------------------------------------------------------------


def test_a_candidate_proposes_only_after_a_quorum_has_promised() -> None:
    """Before the promises of a majority are there nothing may be proposed, however long that takes.

    Source: Paxos Made Simple, section 2.2, phase 2a.
    """
    cell = LocalCell(2)
    cell.propose(S0, b"x")
    start_campaign(cell, S0)
    assert {receiver for _, receiver, message in cell.sent if isinstance(message, Prepare)} == {S1, S2}
    deliver_all(cell, Prepare)
    sync_all(cell)
    deliver_all(cell, Promise, sender=S1)
    assert not sent(cell, Accept), "two of five have promised"
    deliver_all(cell, Promise, sender=S2)
    assert len(sent(cell, Accept, receiver=S1)) == len(sent(cell, Accept, receiver=S2)) == 1


def test_a_proposer_picks_the_value_of_the_highest_numbered_vote_reported_by_any_quorum() -> None:
    """For all votes that three acceptors may have, and each quorum of them: the newest one decides what is proposed.

    Source: Paxos Made Simple, section 2.2, P2c and phase 2a.
    """
    ballots = (None, LOW, MIDDLE, HIGH)
    for votes in product(ballots, repeat=3):
        by_member = dict(zip((S0, S1, W0), votes, strict=True))
        for quorum in ((S0, S1), (S0, W0), (S1, W0), (S0, S1, W0)):
            assert CELL.rule.outcome(quorum) is QuorumOutcome.REACHED
            campaign = Campaign(Ballot(3, S0), 0)
            for member in quorum:
                ballot = by_member[member]
                reports = () if ballot is None else (VoteReport(0, ballot, batch_of(str(ballot).encode())),)
                campaign.record_promise(member, Promise(1, 1, Ballot(3, S0), -1, 0, 1, reports))
            known = [ballot for member in quorum if (ballot := by_member[member]) is not None]
            expected = [batch_of(str(max(known)).encode())] if known else []
            assert [proposal.raw for proposal in campaign.proposals(0)] == expected


def test_without_a_vote_in_the_quorum_the_leader_is_free_to_propose_its_own() -> None:
    """If no acceptor of a majority reports a proposal, any value will do.

    Source: Paxos Made Simple, section 2.2, P2c (a) and phase 2a.
    """
    cell = LocalCell(1)
    cell.propose(S0, b"x")
    cell.advance_until(lambda: cell.payloads(S1) == [b"x"])
    (first,) = {message.batch for message in sent(cell, Accept, receiver=S1) if isinstance(message, Accept)}
    assert first == batch_of(b"x")


def cell_with_a_choice_nobody_has_learned() -> LocalCell:
    """Both servers have voted for `x` durably, every answer is lost, and the leader is cut off."""
    cell = elected_cell()
    cell.propose(S0, b"x")
    deliver_all(cell, Accept, receiver=S1)
    sync_all(cell)
    cell.pool.clear()
    cell.cut = {S0}
    return cell


def test_what_is_chosen_without_anybody_knowing_is_what_the_next_leader_proposes() -> None:
    """Every proposal with a higher number for the same slot carries the chosen value, whoever issues it.

    Source: Paxos Made Simple, section 2.2, P2b.
    """
    cell = cell_with_a_choice_nobody_has_learned()
    cell.propose(S1, b"y")
    cell.advance_until(lambda: len(cell.payloads(S1)) == 2)
    proposed = [message for _, _, message in cell.sent if isinstance(message, Accept) and message.slot == 0]
    assert len({message.ballot for message in proposed}) >= 2, "another leader has proposed for the slot"
    assert {message.batch for message in proposed} == {batch_of(b"x")}


def test_what_is_chosen_stays_chosen_when_the_leader_changes() -> None:
    """Whatever is chosen later for the slot, at any higher number, is the same value; all servers learn that.

    Source: Paxos Made Simple, section 2.2, P2 and P2a.
    """
    cell = cell_with_a_choice_nobody_has_learned()
    cell.propose(S1, b"y")
    cell.advance_until(lambda: len(cell.payloads(S1)) == 2)
    assert cell.payloads(S1) == [b"x", b"y"]
    cell.cut = set()
    cell.advance_until(lambda: len(cell.payloads(S0)) == 2)
    assert cell.payloads(S0) == [b"x", b"y"]


def test_a_leader_that_was_outbid_chooses_nothing_any_more() -> None:
    """Two servers may both believe to lead; the one with the lower number finds no majority.

    Source: Paxos Made Simple, section 2.4 (safety does not rest on the election).
    """
    cell = elected_cell()
    cell.cut = {S0}
    cell.propose(S1, b"y")
    cell.advance_until(lambda: cell.payloads(S1) == [b"y"])
    former = cell.node(S0)
    assert former.is_leader, "nobody could tell it"
    cell.cut = set()
    cell.propose(S0, b"x")
    deliver_all(cell, Accept, sender=S0)
    sync_all(cell)
    assert not cell.payloads(S0)
    cell.advance_until(lambda: len(cell.payloads(S0)) == 2)
    assert cell.payloads(S0) == cell.payloads(S1) == [b"y", b"x"]
    assert not former.is_leader


# --- section 2.3: learners ---------------------------------------------------------------------------------------


def test_every_server_learns_from_the_votes_themselves() -> None:
    """Acceptors tell all learners what they voted for, so no learner needs the leader to tell it what is chosen.

    Source: Paxos Made Simple, section 2.3.
    """
    cell = elected_cell(2)
    cell.propose(S0, b"x")
    deliver_all(cell, Accept)
    sync_all(cell)
    deliver_all(cell, Accepted)
    assert [cell.payloads(member) for member in (S0, S1, S2)] == [[b"x"]] * 3


def test_a_value_is_not_learned_before_a_quorum_has_voted_for_it_durably() -> None:
    """A learner must know the votes of a majority; fewer, or votes that a crash may take back, are not enough.

    Source: Paxos Made Simple, sections 2.3 and 2.4.
    """
    cell = elected_cell(2)
    cell.propose(S0, b"x")
    deliver_all(cell, Accept)
    cell.sync(S0)
    cell.sync(S1)
    deliver_all(cell, Accepted)
    assert not any(cell.payloads(member) for member in (S0, S1, S2))
    cell.sync(S2)
    deliver_all(cell, Accepted)
    assert all(cell.payloads(member) == [b"x"] for member in (S0, S1))


def test_a_choice_whose_votes_were_lost_on_the_way_is_learned_by_proposing_again() -> None:
    """A value may be chosen with no learner ever hearing of it; asking the acceptors once more finds it.

    Source: Paxos Made Simple, section 2.3.
    """
    cell = elected_cell()
    cell.propose(S0, b"x")
    deliver_all(cell, Accept)
    sync_all(cell)
    lost = [flight for flight in cell.pool if isinstance(flight[2], Accepted)]
    assert lost
    cell.pool.clear()
    cell.advance_until(lambda: cell.payloads(S0) == cell.payloads(S1) == [b"x"], limit_ms=5_000)


# --- sections 2.2 and 2.4: stable storage and numbers ------------------------------------------------------------


def test_a_promise_and_a_vote_are_said_only_when_they_are_durable() -> None:
    """An acceptor records its answer in stable storage before it sends it.

    Source: Paxos Made Simple, section 2.4.
    """
    acceptor = AcceptorByHand()
    for message, kind in ((prepare(LOW), Promise), (accept(LOW, 0, b"x"), Accepted)):
        at_once = acceptor.ask_only(message)
        assert at_once.writes
        assert not at_once.sends
        assert [type(answer) for _, answer in acceptor.persist(at_once).sends] == [kind]


def test_a_promise_is_kept_over_a_restart() -> None:
    """An acceptor remembers the highest prepare that it answered even if it fails and starts again.

    Source: Paxos Made Simple, section 2.2 (what an acceptor must remember).
    """
    acceptor = AcceptorByHand()
    acceptor.ask(prepare(HIGH))
    acceptor.restart()
    assert acceptor.ask(accept(LOW, 0, b"x")) == [Nack(1, 1, LOW, HIGH)]
    assert acceptor.ask(prepare(MIDDLE)) == [Nack(1, 1, MIDDLE, HIGH)]


def test_a_vote_is_reported_after_a_restart_as_before() -> None:
    """An acceptor remembers the highest-numbered proposal that it accepted even if it fails and starts again.

    Source: Paxos Made Simple, section 2.2 (what an acceptor must remember).
    """
    acceptor = AcceptorByHand()
    acceptor.ask(accept(MIDDLE, 0, b"x"))
    acceptor.restart()
    assert acceptor.ask(accept(LOW, 0, b"y")) == [Nack(1, 1, LOW, MIDDLE)]
    votes = (VoteReport(0, MIDDLE, batch_of(b"x")),)
    assert acceptor.ask(prepare(HIGH)) == [Promise(1, 1, HIGH, -1, 0, 1, votes)]


def test_two_servers_that_campaign_at_once_use_different_numbers() -> None:
    """Proposers draw their numbers from sets that have none in common.

    Source: Paxos Made Simple, section 2.4.
    """
    cell = LocalCell(2)
    for member in (S0, S1, S2):
        start_campaign(cell, member)
    used = [{message.ballot for message in sent(cell, Prepare, sender=member)} for member in (S0, S1, S2)]  # type: ignore[union-attr]
    assert all(used)
    assert len(set.union(*used)) == sum(len(ballots) for ballots in used)


def test_a_proposer_never_uses_a_number_again_that_anybody_heard_before_its_restart() -> None:
    """A proposer remembers durably the highest number it has tried, and begins with a higher one.

    Source: Paxos Made Simple, section 2.4.
    """
    cell = LocalCell(1)
    cell.fire_timers()
    assert not sent(cell, Prepare), "the number is not durable yet"
    cell.sync(S0)
    before = {message.ballot for message in sent(cell, Prepare, sender=S0) if isinstance(message, Prepare)}
    assert before
    cell.crash(S0)
    cell.pool.clear()
    cell.sent.clear()
    cell.restart(S0)
    start_campaign(cell, S0)
    after = {message.ballot for message in sent(cell, Prepare, sender=S0) if isinstance(message, Prepare)}
    assert min(after) > max(before)


# --- section 2.4: progress ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rivals_that_outbid_each_other_end_with_one_leader_and_progress(seed: int) -> None:
    """Proposers that keep outbidding each other choose nothing; random timeouts leave one that tries alone.

    Source: Paxos Made Simple, section 2.4.
    """
    cell = LocalCell(2, seed=seed)
    for member in (S0, S1, S2):
        start_campaign(cell, member)
    cell.propose(S2, b"x")
    cell.advance_until(lambda: all(cell.payloads(member) == [b"x"] for member in (S0, S1, S2)))
    assert sum(node.is_leader for node in cell.nodes) == 1


def test_a_leader_that_is_told_of_a_higher_number_outbids_it_or_stands_down() -> None:
    """A proposer that hears of a higher number gives up its own and, if it still leads, tries a greater one.

    Source: Paxos Made Simple, sections 2.3 and 2.4.
    """
    cell = elected_cell()
    leader = cell.node(S0)
    (heartbeat,) = {message.ballot for message in sent(cell, Heartbeat, sender=S0) if isinstance(message, Heartbeat)}
    higher = Ballot(heartbeat.round + 4, S1)
    leader.receive(S1, Nack(1, 1, heartbeat, higher), cell.now_ms)
    cell.pump(S0)
    assert not leader.is_leader
    cell.propose(S0, b"x")
    cell.advance_until(lambda: cell.payloads(S1) == [b"x"])
    chosen_in = {message.ballot for message in sent(cell, Accept) if isinstance(message, Accept)}
    assert min(chosen_in) > higher


# --- section 3: a state machine ----------------------------------------------------------------------------------


def test_a_stable_leader_runs_phase_1_once_for_all_slots_to_come() -> None:
    """One prepare covers every slot that is not decided; from then on only phase 2 is left for each command.

    Source: Paxos Made Simple, section 3.
    """
    cell = elected_cell()
    prepares = len(sent(cell, Prepare))
    for number in range(20):
        cell.propose(S1, b"%d" % number)
        cell.run()
    assert cell.payloads(S0) == cell.payloads(S1) == [b"%d" % number for number in range(20)]
    assert len(sent(cell, Prepare)) == prepares
    assert not sent(cell, Decision), "servers count votes themselves"


def test_a_new_leader_fills_a_gap_with_a_command_that_does_nothing() -> None:
    """Slots below a reported vote for which nobody reports one are closed at once, so that what follows can go on.

    Source: Paxos Made Simple, section 3.
    """
    cell = elected_cell()
    cell.propose(S0, b"lost")
    cell.pool.clear()
    cell.propose(S0, b"second")
    assert deliver_all(cell, Accept, receiver=S1) == 1
    sync_all(cell)
    cell.pool.clear()
    cell.sent.clear()
    cell.cut = {S0}
    cell.propose(S1, b"y")
    cell.advance_until(lambda: cell.payloads(S1) == [b"y"])
    proposed = {message.slot: message.batch for message in sent(cell, Accept, sender=S1) if isinstance(message, Accept)}
    assert proposed[0] == EMPTY_BATCH_RAW
    assert proposed[1] not in (EMPTY_BATCH_RAW, batch_of(b"y"))


def test_all_servers_execute_the_same_commands_in_the_same_order() -> None:
    """The value of slot after slot is the command of every server's state machine, whoever proposed it.

    Source: Paxos Made Simple, section 3.
    """
    cell = elected_cell(2)
    for number in range(12):
        cell.propose((S0, S1, S2)[number % 3], b"%d" % number)
    cell.run()
    orders = [[delivery.entry for delivery in cell.deliveries[member]] for member in (S0, S1, S2)]
    assert len(orders[0]) == 12
    assert orders[0] == orders[1] == orders[2]
