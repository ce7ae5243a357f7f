"""What phase 1 demands, and the order of entries, whatever comes in which order."""

from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import EMPTY_BATCH_RAW, Batch, Entry, encode_batch
from agreement.configuration import Configuration
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.log import LogState
from agreement.messages import Promise, VoteReport
from agreement.proposer import Campaign, Proposal, Proposer
from agreement.settings import AgreementSettings

S0, S1, W0 = MemberId.server(0), MemberId.server(1), MemberId.witness(0)
CELL = Configuration.first([Identity(member, 1) for member in (S0, S1, W0)])
OWN = Ballot(9, S0)


def entry(number: int, payload: bytes = b"x", server: int = 0, incarnation: int = 1) -> Entry:
    """One entry of an origin."""
    return Entry(server, incarnation, number, payload)


def promise(*votes: VoteReport, decided: int = -1, part: int = 0, parts: int = 1) -> Promise:
    """A promise of the own ballot, or one piece of it."""
    return Promise(1, 1, OWN, decided, part, parts, votes)


def proposer(
    inherited: list[Proposal] | None = None, settings: AgreementSettings | None = None, sequence: int = 0
) -> Proposer:
    """A proposer that begins with the first slot."""
    state = LogState(CELL, 0, sequence, {})
    return Proposer(OWN, state, inherited or [], settings or AgreementSettings(), None)


def numbers(proposal: Proposal | None) -> list[int]:
    """The numbers of the entries of a batch."""
    assert proposal is not None, "a batch was expected"
    return [known.number for known in proposal.batch.entries]


def test_votes_of_an_incomplete_promise_are_not_used() -> None:
    """They come again with the complete one."""
    campaign = Campaign(OWN, 0)
    raw = encode_batch(Batch((entry(1),)))
    campaign.record_promise(S1, promise(VoteReport(0, Ballot(1, S0), raw), part=0, parts=2))
    assert campaign.proposals(0) == []


def test_pieces_of_a_promise_said_anew_do_not_mix_with_the_former_ones() -> None:
    """After the member has decided more, the pieces are cut elsewhere."""
    campaign = Campaign(OWN, 0)
    campaign.record_promise(S1, promise(part=0, parts=2))
    campaign.record_promise(S1, promise(decided=3, part=1, parts=2))
    assert campaign.promised == set()
    campaign.record_promise(S1, promise(decided=3, part=0, parts=2))
    assert campaign.decided == (3, S1)


@given(st.lists(st.tuples(st.sampled_from([S0, S1, W0]), st.integers(0, 5), st.integers(1, 5)), max_size=15))
def test_per_slot_the_highest_ballot_wins_and_gaps_become_empty(votes: list[tuple[MemberId, int, int]]) -> None:
    """The demanded proposals are dense from the first slot to the highest reported one, whoever reports what when."""
    reports: dict[MemberId, dict[int, VoteReport]] = {S0: {}, S1: {}, W0: {}}
    for member, slot, ballot_round in votes:
        raw = encode_batch(Batch((entry(1, b"%d-%d" % (slot, ballot_round)),)))
        reports[member][slot] = VoteReport(slot, Ballot(ballot_round, S0), raw)
    campaign = Campaign(OWN, 0)
    for member, by_slot in reports.items():
        campaign.record_promise(member, promise(*by_slot.values()))
    newest: dict[int, VoteReport] = {}
    for report in sorted((report for by_slot in reports.values() for report in by_slot.values()), key=_by_ballot):
        newest[report.slot] = report
    expected = [
        newest[slot].batch if slot in newest else EMPTY_BATCH_RAW for slot in range(max(newest, default=-1) + 1)
    ]
    assert [proposal.raw for proposal in campaign.proposals(0)] == expected


def _by_ballot(report: VoteReport) -> Ballot:
    return report.ballot


def test_early_entries_of_one_origin_are_held_back_up_to_the_limit() -> None:
    """An origin that sends numbers without an end does not fill the leader's memory."""
    leader = proposer(settings=AgreementSettings(own_entries_max=2))
    leader.add([entry(3), entry(4), entry(5), entry(2), entry(1)])
    assert leader.waiting_count == 1, "2 found no room any more"
    leader.add([entry(2)])
    assert numbers(leader.next_proposal()) == [1, 2, 3, 4]


@given(st.permutations(range(1, 9)), st.lists(st.integers(1, 8), max_size=8))
def test_any_order_of_arrival_with_any_repetition_gives_each_number_once_and_in_order(
    order: list[int], again: list[int]
) -> None:
    """A2 as far as the leader sees to it."""
    leader = proposer(settings=AgreementSettings(batch_entries_max=3, slots_in_flight_max=20))
    for number in [*order, *again]:
        leader.add([entry(number)])
    proposed: list[int] = []
    while (proposal := leader.next_proposal()) is not None:
        proposed += numbers(proposal)
    assert proposed == list(range(1, 9))
