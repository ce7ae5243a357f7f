"""The failure-free case: what it costs, what is delivered, and that witnesses stay idle."""

import dataclasses

import pytest

from agreement.errors import EntryTooLarge, ProposalQueueFull
from agreement.identifiers import MemberId
from agreement.messages import Accept, Accepted, Decision, Forward, Heartbeat, HeartbeatAck
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import S0, S1, W0, LocalCell


@pytest.mark.parametrize("tolerated_faults", [1, 2, 3])
@pytest.mark.parametrize("has_witnesses", [True, False])
def test_every_server_delivers_what_any_server_proposes(tolerated_faults: int, has_witnesses: bool) -> None:
    """In one order, each origin's entries in theirs."""
    cell = LocalCell(tolerated_faults, has_witnesses)
    cell.elect()
    for count in range(12):
        cell.propose(MemberId.server(count % (tolerated_faults + 1)), b"%d" % count)
    cell.run()
    assert sorted(cell.payloads(S0), key=int) == [b"%d" % count for count in range(12)]
    assert all(cell.payloads(node.identity.member) == cell.payloads(S0) for node in cell.nodes)


def test_no_message_goes_to_a_witness() -> None:
    """From the start of the cell, for as long as no server is silent."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    for count in range(20):
        cell.propose(S1, b"%d" % count)
        cell.advance(500)
    assert len(cell.payloads(S0)) == 20
    assert cell.witness_messages() == []
    assert list(cell.storages[W0].scan(b"", b"\xff"))[1:] == []


def test_an_entry_at_the_leader_costs_one_round_trip_and_one_sync_each() -> None:
    """The leader sends in parallel with its own sync."""
    cell = LocalCell()
    leader = cell.elect()
    assert leader.identity.member == S0
    cell.run()
    cell.sent.clear()
    cell.propose(S0, b"x")
    assert set(cell.tokens) == {S0}, "the leader's own sync is under way"
    (flight,) = cell.pool
    assert isinstance(flight[2], Accept), "and so is the proposal"
    cell.deliver(0)
    assert cell.payloads(S1) == []
    cell.sync(S1)
    cell.sync(S0)
    assert [type(message) for _, _, message in cell.pool] == [Accepted, Accepted]
    cell.deliver(0)
    cell.deliver(0)
    assert cell.payloads(S0) == cell.payloads(S1) == [b"x"]
    assert len(cell.sent) == 3
    assert not cell.tokens, "nobody has to sync again"


def test_an_entry_at_a_follower_is_forwarded_once() -> None:
    """And delivered there without a further message of the leader."""
    cell = LocalCell()
    cell.elect()
    cell.run()
    cell.sent.clear()
    cell.propose(S1, b"x")
    cell.run()
    assert [type(message) for _, _, message in cell.sent] == [Forward, Accept, Accepted, Accepted]
    assert cell.payloads(S1) == [b"x"]
    assert cell.messages(Decision) == []


def test_entries_that_come_together_share_a_slot() -> None:
    """Batches are cut when the output is taken, never delayed to fill up."""
    cell = LocalCell()
    cell.elect()
    cell.run()
    cell.sent.clear()
    for count in range(100):
        cell.node(S0).propose(b"%d" % count, cell.now_ms)
        cell.checkers.origins.record_proposal(cell.node(S0).identity, count + 1, b"%d" % count)
    cell.pump(S0)
    cell.run()
    assert len(cell.messages(Accept)) == 1
    assert len(cell.payloads(S1)) == 100


def test_a_vote_is_not_told_before_it_is_durable() -> None:
    """A4: neither the follower's nor the leader's own."""
    cell = LocalCell()
    cell.elect()
    cell.run()
    cell.propose(S0, b"x")
    cell.deliver(0)
    cell.sync(S0)
    while cell.pool:
        cell.deliver(0)
    assert cell.payloads(S0) == cell.payloads(S1) == []
    cell.sync(S1)
    cell.run()
    assert cell.payloads(S0) == cell.payloads(S1) == [b"x"]


def test_an_idle_cell_only_beats() -> None:
    """One heartbeat and its answer per server and interval, and no writes."""
    cell = LocalCell()
    cell.elect()
    cell.advance(5_000)
    cell.sent.clear()
    cell.advance(1_000)
    assert {type(message) for _, _, message in cell.sent} == {Heartbeat, HeartbeatAck}
    assert len(cell.sent) == 2 * 1_000 // cell.settings.heartbeat_ms
    assert not cell.tokens


def test_the_first_server_leads_a_cell_that_starts() -> None:
    """Without waiting for a timeout."""
    cell = LocalCell(tolerated_faults=2)
    began_ms = cell.now_ms
    assert cell.elect().identity.member == S0
    assert cell.now_ms - began_ms < 50


def test_an_empty_cell_of_one_server_orders_alone() -> None:
    """`f = 0` is what remains when all others have left."""
    cell = LocalCell(tolerated_faults=0)
    cell.elect()
    cell.propose(S0, b"x")
    cell.run()
    assert cell.payloads(S0) == [b"x"]


def test_too_many_own_entries_are_refused() -> None:
    """Surely not ordered: the client may be told so."""
    cell = LocalCell(settings=AgreementSettings(own_entries_max=3))
    for count in range(3):
        cell.propose(S1, b"%d" % count)
    with pytest.raises(ProposalQueueFull, match="3 entries"):
        cell.propose(S1, b"one more")
    cell.elect()
    cell.run()
    cell.propose(S1, b"and now")
    cell.run()
    assert cell.payloads(S0) == [b"0", b"1", b"2", b"and now"]


def test_an_entry_above_the_limit_is_refused() -> None:
    """It would not fit into a message."""
    cell = LocalCell(settings=AgreementSettings(entry_bytes_max=10))
    with pytest.raises(EntryTooLarge, match="11 bytes"):
        cell.propose(S0, b"x" * 11)


def test_bytes_that_wait_are_bounded_too() -> None:
    """A few large entries are as much as many small ones."""
    cell = LocalCell(settings=AgreementSettings(own_bytes_max=1_000))
    cell.propose(S1, b"x" * 900)
    with pytest.raises(ProposalQueueFull, match="900 bytes"):
        cell.propose(S1, b"x" * 101)


def test_the_leader_admits_every_payload_once() -> None:
    """So the origin, too, delivers what the leader made of it."""
    cell = LocalCell(admit=lambda payload: payload + b"!")
    cell.elect()
    cell.propose(S0, b"a")
    cell.node(S1).propose(b"b", cell.now_ms)
    for node, payload in ((cell.node(S0), b"a!"), (cell.node(S1), b"b!")):
        cell.checkers.origins.record_proposal(node.identity, 1, payload)
    cell.pump(S1)
    cell.run()
    assert cell.payloads(S0) == cell.payloads(S1) == [b"a!", b"b!"]


def test_a_message_that_was_lost_is_said_again() -> None:
    """After `resend_ms`: a forward, a proposal, a vote."""
    for kind in (Forward, Accept, Accepted):
        cell = LocalCell()
        cell.elect()
        cell.run()
        cell.propose(S1, b"x")
        while not any(isinstance(message, kind) for _, _, message in cell.pool):
            if cell.pool:
                cell.deliver(0)
            else:
                cell.sync(min(cell.tokens))
        cell.pool = [flight for flight in cell.pool if not isinstance(flight[2], kind)]
        cell.advance(3 * cell.settings.resend_ms)
        assert cell.payloads(S0) == cell.payloads(S1) == [b"x"], kind


def test_duplicates_change_nothing() -> None:
    """Every message comes twice."""
    cell = LocalCell()
    for count in range(30):
        cell.propose(S1, b"%d" % count)
        for _ in range(200):
            if not cell.pool:
                break
            cell.deliver(0, is_kept=True)
            cell.deliver(0)
        cell.run()
        cell.advance(100)
    assert cell.payloads(S0) == cell.payloads(S1) == [b"%d" % count for count in range(30)]


def test_slots_decided_out_of_order_are_delivered_in_order() -> None:
    """A later slot waits for the earlier one."""
    cell = LocalCell(settings=dataclasses.replace(AgreementSettings(), batch_entries_max=1))
    cell.elect()
    cell.run()
    for count in range(3):
        cell.propose(S0, b"%d" % count)
    accepts = cell.pool
    cell.pool = accepts[::-1]
    cell.run()
    assert cell.payloads(S1) == [b"0", b"1", b"2"]
