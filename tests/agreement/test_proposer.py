"""What a leader inherits, what it holds back, how it cuts batches."""

import dataclasses

from agreement.changes import Batch, Entry, ServerLeft, encode_batch
from agreement.identifiers import Ballot, first_number
from agreement.log import LogState
from agreement.messages import Promise, VoteReport
from agreement.proposer import Campaign, Proposal, Proposer
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import S0, S1, W0
from tests.agreement.test_quorum import cell

BALLOT = Ballot(5, S0)
START = LogState(cell(1), 0, 0, {})
SETTINGS = AgreementSettings(slots_in_flight_max=2, batch_entries_max=3, batch_bytes_max=100)


def entry(number: int, server: int = 0, incarnation: int = 1, size: int = 1) -> Entry:
    """An entry with a payload of `size` bytes."""
    return Entry(server, incarnation, number, b"x" * size)


def value(*numbers: int) -> bytes:
    """An encoded batch of server 0."""
    return encode_batch(Batch(tuple(entry(number) for number in numbers)))


def promise(decided: int, *votes: tuple[int, int, bytes], part: int = 0, parts: int = 1) -> Promise:
    """A promise with votes `(slot, ballot round, batch)`."""
    reports = tuple(VoteReport(slot, Ballot(number, S1), raw) for slot, number, raw in votes)
    return Promise(1, 1, BALLOT, decided, part, parts, reports)


def proposer(settings: AgreementSettings = SETTINGS, inherited: list[Proposal] | None = None) -> Proposer:
    """A leader's, right after phase 1."""
    return Proposer(BALLOT, START, inherited or [], settings, None)


def numbers(proposal: Proposal | None) -> list[int]:
    """The entry numbers of a proposal."""
    assert proposal is not None
    return [known.number for known in proposal.batch.entries]


class TestCampaign:
    def test_the_vote_of_the_highest_ballot_is_proposed_again(self) -> None:
        """P2c."""
        campaign = Campaign(BALLOT, 0)
        campaign.record_promise(S0, promise(-1, (0, 1, value(1))))
        campaign.record_promise(W0, promise(-1, (0, 2, value(2))))
        (proposal,) = campaign.proposals(0)
        assert proposal.raw == value(2)

    def test_a_hole_below_a_vote_is_filled_with_an_empty_batch(self) -> None:
        """Nothing can have been chosen there, and the slots above must be delivered."""
        campaign = Campaign(BALLOT, 0)
        campaign.record_promise(S0, promise(-1, (2, 1, value(1))))
        assert [numbers(proposal) for proposal in campaign.proposals(0)] == [[], [], [1]]

    def test_nothing_is_proposed_above_a_change(self) -> None:
        """It would be void."""
        change = encode_batch(Batch((), ServerLeft(1, fenced=False)))
        campaign = Campaign(BALLOT, 0)
        campaign.record_promise(S0, promise(-1, (0, 1, change), (1, 1, value(1))))
        assert [proposal.batch.change for proposal in campaign.proposals(0)] == [ServerLeft(1, fenced=False)]

    def test_a_promise_counts_when_all_its_pieces_are_here(self) -> None:
        """A piece may be lost; all are said again then."""
        campaign = Campaign(BALLOT, 0)
        campaign.record_promise(S1, promise(-1, (1, 1, value(2)), part=1, parts=2))
        assert campaign.promised == set()
        assert campaign.proposals(0) == []
        campaign.record_promise(S1, promise(-1, (0, 1, value(1)), part=0, parts=2))
        assert campaign.promised == {S1}
        assert len(campaign.proposals(0)) == 2

    def test_a_promise_said_again_from_further_replaces_the_former_pieces(self) -> None:
        """Slots decided meanwhile are in none of the new ones."""
        campaign = Campaign(BALLOT, 0)
        campaign.record_promise(S1, promise(-1, (0, 1, value(1)), part=0, parts=2))
        campaign.record_promise(S1, promise(0, (1, 1, value(2))))
        assert campaign.decided == (0, S1)
        assert [proposal.slot for proposal in campaign.proposals(1)] == [1]


class TestProposer:
    def test_entries_are_proposed_in_the_order_of_their_numbers(self) -> None:
        """What comes early waits for its predecessor; what comes twice is dropped."""
        leader = proposer()
        leader.add([entry(2), entry(3)])
        assert leader.next_proposal() is None
        leader.add([entry(1), entry(1), entry(2)])
        assert numbers(leader.next_proposal()) == [1, 2, 3]
        leader.add([entry(3), entry(4)])
        assert numbers(leader.next_proposal()) == [4]

    def test_a_new_life_need_not_wait_for_the_former(self) -> None:
        """And what was held back of the former is never proposed."""
        leader = proposer()
        leader.add([entry(1), entry(3), entry(first_number(1))])
        assert numbers(leader.next_proposal()) == [1, first_number(1)]
        leader.add([entry(2)])
        assert leader.next_proposal() is None

    def test_entries_of_strangers_are_dropped(self) -> None:
        """Of servers, or incarnations, that the configuration does not name."""
        leader = proposer()
        leader.add([entry(1, server=7), entry(1, incarnation=2)])
        assert leader.waiting_count == 0

    def test_batches_are_cut_by_entries_and_by_bytes(self) -> None:
        """A single entry may be larger."""
        leader = proposer(dataclasses.replace(SETTINGS, slots_in_flight_max=9))
        sizes = (1, 1, 1, 60, 60, 500, 1)
        leader.add([entry(number, size=size) for number, size in enumerate(sizes, 1)])
        cut = []
        while (proposal := leader.next_proposal()) is not None:
            cut.append(numbers(proposal))
        assert cut == [[1, 2, 3], [4], [5], [6], [7]]

    def test_few_slots_are_in_flight(self) -> None:
        """What comes meanwhile makes larger batches."""
        leader = proposer()
        for number in range(1, 6):
            leader.add([entry(number)])
            leader.next_proposal()
        assert sorted(leader.in_flight) == [0, 1]
        leader.forget_through(0)
        assert numbers(leader.next_proposal()) == [3, 4, 5]

    def test_nothing_is_proposed_above_a_change(self) -> None:
        """It waits for the next configuration; its origin forwards it again there."""
        leader = proposer()
        leader.add([entry(1)])
        assert leader.propose_change(ServerLeft(1, fenced=False)).slot == 0
        assert leader.next_proposal() is None

    def test_what_is_inherited_is_not_proposed_twice(self) -> None:
        """Its origin forwards it to the new leader too."""
        batch = Batch((entry(1), entry(2)))
        leader = proposer(inherited=[Proposal(0, encode_batch(batch), batch)])
        leader.add([entry(1), entry(2), entry(3)])
        proposal = leader.next_proposal()
        assert numbers(proposal) == [3]
        assert proposal is not None
        assert proposal.slot == 1

    def test_an_inherited_entry_that_will_be_dropped_is_proposed_again(self) -> None:
        """Its predecessor was lost with the old leader, so its delivery will skip it."""
        batch = Batch((entry(2),))
        leader = proposer(inherited=[Proposal(0, encode_batch(batch), batch)])
        leader.add([entry(1), entry(2)])
        assert numbers(leader.next_proposal()) == [1, 2]

    def test_what_is_held_back_is_bounded(self) -> None:
        """A lost predecessor must not fill the leader's memory."""
        leader = proposer(dataclasses.replace(SETTINGS, own_entries_max=2, batch_entries_max=9))
        leader.add([entry(number) for number in (2, 3, 4)])
        leader.add([entry(1)])
        assert numbers(leader.next_proposal()) == [1, 2, 3]

    def test_a_payload_is_admitted_just_before_it_is_proposed(self) -> None:
        """The leader's last word about it, on its own clock."""
        leader = Proposer(BALLOT, START, [], SETTINGS, lambda payload: payload.upper())
        leader.add([Entry(0, 1, 1, b"a"), Entry(1, 1, 1, b"B")])
        proposal = leader.next_proposal()
        assert proposal is not None
        assert [known.payload for known in proposal.batch.entries] == [b"A", b"B"]
