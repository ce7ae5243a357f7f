"""The proposer with plain values: what phase 1 demands, the order of entries, batches cut by size, slots in flight."""

from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import EMPTY_BATCH, EMPTY_BATCH_RAW, Batch, Entry, ServerLeft, encode_batch
from agreement.configuration import Configuration
from agreement.identifiers import Ballot, Identity, MemberId, first_number
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


# --- phase 1 -----------------------------------------------------------------------------------------------------


def test_a_promise_counts_when_its_last_piece_has_come_in_any_order() -> None:
    """Half of a promise may hide the vote that matters."""
    campaign = Campaign(OWN, 0)
    campaign.record_promise(S1, promise(part=1, parts=2))
    campaign.record_promise(S1, promise(part=1, parts=2))
    assert campaign.promised == set()
    campaign.record_promise(S1, promise(part=0, parts=2))
    assert campaign.promised == {S1}


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


def test_nobody_promised_so_nothing_is_known_decided() -> None:
    """The candidate starts from its own log."""
    assert Campaign(OWN, 0).decided == (-1, None)


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


def test_what_is_demanded_ends_at_the_first_change() -> None:
    """Everything above a change in the same configuration is void."""
    change = encode_batch(Batch((), ServerLeft(1, fenced=False)))
    above = encode_batch(Batch((entry(1),)))
    campaign = Campaign(OWN, 0)
    campaign.record_promise(S1, promise(VoteReport(1, Ballot(1, S1), change), VoteReport(2, Ballot(8, S1), above)))
    assert [proposal.raw for proposal in campaign.proposals(0)] == [EMPTY_BATCH_RAW, change]


# --- the order of entries ----------------------------------------------------------------------------------------


def test_an_early_entry_waits_for_its_predecessor() -> None:
    """Entries of one origin are proposed in the order of their numbers, without gaps."""
    leader = proposer()
    leader.add([entry(3), entry(2)])
    assert leader.next_proposal() is None
    leader.add([entry(1)])
    assert numbers(leader.next_proposal()) == [1, 2, 3]


def test_an_entry_forwarded_twice_is_proposed_once() -> None:
    """Origins forward again when they hear nothing."""
    leader = proposer()
    leader.add([entry(1), entry(1), entry(2)])
    assert numbers(leader.next_proposal()) == [1, 2]
    leader.add([entry(2), entry(1)])
    assert leader.next_proposal() is None


def test_an_entry_of_a_stranger_or_of_a_former_incarnation_is_dropped() -> None:
    """It would not be delivered, so it need not be ordered."""
    leader = proposer()
    leader.add([entry(1, server=7), entry(1, incarnation=2)])
    assert leader.waiting_count == 0


def test_the_first_entry_of_a_new_life_does_not_wait_for_the_rest_of_the_former() -> None:
    """What was under way before a restart may be lost for ever."""
    leader = proposer()
    leader.add([entry(1), entry(3), entry(first_number(1)), entry(first_number(1) + 1)])
    assert numbers(leader.next_proposal()) == [1, first_number(1), first_number(1) + 1]
    leader.add([entry(2)])
    assert leader.next_proposal() is None


def test_early_entries_of_one_origin_are_held_back_up_to_the_limit() -> None:
    """An origin that sends numbers without an end does not fill the leader's memory."""
    leader = proposer(settings=AgreementSettings(own_entries_max=2))
    leader.add([entry(3), entry(4), entry(5), entry(2), entry(1)])
    assert leader.waiting_count == 1, "2 found no room any more"
    leader.add([entry(2)])
    assert numbers(leader.next_proposal()) == [1, 2, 3, 4]


def test_numbers_go_on_after_what_was_inherited() -> None:
    """An entry that phase 1 demands is not proposed a second time when its origin forwards it again."""
    batch = Batch((entry(1), entry(2)))
    leader = proposer([Proposal(0, encode_batch(batch), batch)])
    leader.add([entry(1), entry(2), entry(3)])
    assert numbers(leader.next_proposal()) == [3]
    assert leader.next_slot == 2


# --- batches and slots -------------------------------------------------------------------------------------------


def test_a_batch_is_cut_by_entries_and_by_bytes() -> None:
    """A batch that would exceed either limit ends before the entry that does not fit."""
    leader = proposer(settings=AgreementSettings(batch_entries_max=2, batch_bytes_max=10))
    leader.add([entry(1, b"aaaa"), entry(2, b"bbbb"), entry(3, b"cccc"), entry(4, b"ddddddddd"), entry(5, b"e")])
    assert [numbers(leader.next_proposal()) for _ in range(3)] == [[1, 2], [3], [4, 5]]


def test_an_entry_larger_than_a_batch_goes_alone() -> None:
    """The limit of batches does not stop an entry that was accepted."""
    leader = proposer(settings=AgreementSettings(batch_bytes_max=3))
    leader.add([entry(1, b"large"), entry(2, b"b")])
    assert [numbers(leader.next_proposal()) for _ in range(2)] == [[1], [2]]


def test_no_more_slots_are_in_flight_than_allowed_and_a_decision_makes_room() -> None:
    """What waits meanwhile makes a larger batch."""
    leader = proposer(settings=AgreementSettings(slots_in_flight_max=1))
    leader.add([entry(1)])
    assert numbers(leader.next_proposal()) == [1]
    leader.add([entry(2), entry(3)])
    assert leader.next_proposal() is None
    leader.forget_through(0)
    proposal = leader.next_proposal()
    assert numbers(proposal) == [2, 3]
    assert proposal is not None
    assert proposal.slot == 1


def test_nothing_is_proposed_above_a_change() -> None:
    """The change ends the configuration, in a slot for itself."""
    leader = proposer()
    leader.add([entry(1)])
    leader.next_proposal()
    left = ServerLeft(1, fenced=True)
    proposal = leader.propose_change(left)
    assert (proposal.slot, proposal.batch) == (1, Batch((), left))
    leader.add([entry(2)])
    assert leader.next_proposal() is None


def test_an_inherited_change_ends_the_configuration_too() -> None:
    """A leader that finds a change among the votes proposes that and nothing more."""
    batch = Batch((), ServerLeft(1, fenced=False))
    leader = proposer([Proposal(0, EMPTY_BATCH_RAW, EMPTY_BATCH), Proposal(1, encode_batch(batch), batch)])
    leader.add([entry(1)])
    assert leader.change == batch.change
    assert leader.next_proposal() is None


def test_admit_is_applied_once_by_the_leader_just_before_the_proposal() -> None:
    """What the application adds to a payload is part of what is voted on."""
    leader = Proposer(OWN, LogState(CELL, 0, 0, {}), [], AgreementSettings(), lambda payload: payload + b"!")
    leader.add([entry(1, b"a")])
    proposal = leader.next_proposal()
    assert proposal is not None
    assert proposal.batch == Batch((entry(1, b"a!"),))
    assert proposal.raw == encode_batch(proposal.batch)


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
