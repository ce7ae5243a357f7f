"""A leader that is silent, frozen, cut off or behind is replaced; nothing that was delivered is lost."""

import itertools

import pytest

from agreement.context import Role
from agreement.identifiers import MemberId
from agreement.messages import Accept, CatchUp, Nack, Prepare, Promise
from agreement.output import LeaderChanged
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import S0, S1, S2, W0, W1, LocalCell


def test_a_crashed_leader_is_replaced_with_the_witness_s_help() -> None:
    """Within the election timeout and the time until witnesses are asked."""
    cell = LocalCell()
    cell.elect()
    cell.propose(S1, b"before")
    cell.run()
    cell.crash(S0)
    cell.propose(S1, b"after")
    began_ms = cell.now_ms
    cell.advance_until(lambda: cell.node(S1).is_leader)
    assert cell.now_ms - began_ms < cell.settings.election_timeout_max_ms + 2 * cell.settings.resend_ms
    cell.advance_until(lambda: cell.payloads(S1)[:2] == [b"before", b"after"])
    assert LeaderChanged(1, S1) in cell.events[S1]


def test_a_frozen_leader_whose_sockets_stay_open_is_replaced() -> None:
    """Its messages, sent before and after, then change nothing."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.run()
    cell.propose(S0, b"frozen in flight")
    cell.cut.add(S0)
    frozen = [flight for flight in cell.pool if flight[0] == S0]
    cell.pool.clear()
    cell.tokens.pop(S0)
    cell.advance_until(lambda: cell.node(S1).is_leader or cell.node(S2).is_leader)
    cell.propose(S1, b"meanwhile")
    cell.advance_until(lambda: b"meanwhile" in cell.payloads(S2), limit_ms=2_000)
    cell.cut.clear()
    cell.pool = frozen + cell.pool
    cell.advance_until(lambda: b"frozen in flight" in cell.payloads(S0), limit_ms=10_000)
    assert cell.payloads(S0) == cell.payloads(S1) == cell.payloads(S2)


def test_a_chosen_entry_survives_its_leader() -> None:
    """The next leader finds it in phase 1, though nobody has delivered it but the old one."""
    cell = LocalCell()
    cell.elect()
    cell.run()
    cell.propose(S0, b"chosen")
    cell.deliver(0)
    cell.sync(S1)
    cell.sync(S0)
    index = next(index for index, flight in enumerate(cell.pool) if flight[1] == S0)
    cell.deliver(index)
    assert cell.payloads(S0) == [b"chosen"]
    cell.pool.clear()
    cell.crash(S0)
    cell.advance_until(lambda: cell.payloads(S1)[:1] == [b"chosen"])


def test_an_origin_forwards_again_to_the_next_leader() -> None:
    """Until it delivers the entry itself."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.run()
    cell.propose(S2, b"x")
    cell.pool.clear()
    cell.crash(S0)
    cell.advance_until(lambda: cell.payloads(S2)[:1] == [b"x"])
    assert cell.payloads(S1)[:1] == [b"x"]


def test_a_server_that_cannot_hear_the_leader_does_not_stop_the_others() -> None:
    """The others cling to the leader that they hear; its ballot is outbid when the server comes back."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(1_000)
    cell.cut.add(S2)
    for _ in range(8):
        cell.advance(200)
        assert cell.leader.identity.member == S0
    cell.cut.clear()
    cell.propose(S2, b"x")
    cell.advance_until(lambda: cell.payloads(S2)[-1:] == [b"x"], limit_ms=3_000)
    assert cell.leader.identity.member == S0
    assert cell.messages(Nack)


def test_a_pause_of_its_own_is_not_taken_for_the_others_silence() -> None:
    """What was sent meanwhile comes first, and the clocks start anew."""
    cell = LocalCell()
    cell.elect()
    cell.advance(1_000)
    cell.sent.clear()
    cell.now_ms += 30_000
    cell.fire_timers()
    cell.run()
    cell.advance(2_000)
    assert cell.messages(Prepare) == []
    assert cell.leader.identity.member == S0
    assert cell.leader.configuration.number == 1


def test_failed_campaigns_take_longer_and_longer() -> None:
    """Up to a ceiling: two candidates do not stop each other for ever, and a lonely one makes little noise."""
    cell = LocalCell()
    cell.elect()
    cell.advance(1_000)
    cell.crash(S0)
    cell.crash(W0)
    times: list[int] = []
    while len(times) < 9:
        cell.sent.clear()
        cell.advance(10)
        if any(message.ballot.round > len(times) + 1 for _, _, message in cell.sent if isinstance(message, Prepare)):
            times.append(cell.now_ms)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    settings = cell.settings
    assert settings.election_timeout_min_ms <= gaps[0] <= 2 * settings.election_timeout_max_ms
    assert settings.election_timeout_ceiling_ms - 20 <= gaps[-1] <= settings.election_timeout_ceiling_ms + 20


def test_a_candidate_that_lacks_decided_slots_gets_them_before_it_leads() -> None:
    """The member that has promised reports no votes for them."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.run()
    cell.cut.add(S1)
    for count in range(30):
        cell.propose(S0, b"%d" % count)
        cell.advance(60)
    cell.cut.clear()
    cell.crash(S0)
    cell.node(S1).on_timer(cell.now_ms + 250)
    cell.advance_until(lambda: any(node.is_leader for node in cell.nodes))
    cell.propose(S1, b"on top")
    cell.advance_until(lambda: b"on top" in cell.payloads(S1) and b"on top" in cell.payloads(S2))
    assert cell.payloads(S1)[:30] == [b"%d" % count for count in range(30)]


def test_a_promise_in_pieces_brings_every_vote() -> None:
    """Votes of several slots do not fit into one message; here a witness is the only other holder."""
    settings = AgreementSettings(part_bytes_max=250, batch_entries_max=1, slots_in_flight_max=8)
    cell = LocalCell(settings=settings)
    cell.elect()
    cell.advance(1_000)
    cell.cut.add(S1)
    cell.advance(settings.witness_timeout_ms + 100)
    for count in range(8):
        cell.propose(S0, b"%d" % count * 100)
    while cell.pool or W0 in cell.tokens:
        if cell.pool:
            cell.deliver(0)
        else:
            cell.sync(W0)
    cell.crash(S0)
    cell.cut.clear()
    cell.advance_until(lambda: len(cell.payloads(S1)) >= 8)
    assert max(message.parts for _, _, message in cell.sent if isinstance(message, Promise)) > 1
    assert cell.payloads(S1)[:8] == [b"%d" % count * 100 for count in range(8)]


def test_a_process_that_starts_late_is_waited_for_before_witnesses_are_asked() -> None:
    """Servers do not start in the same millisecond."""
    cell = LocalCell()
    cell.crash(S1)
    cell.advance(cell.settings.startup_grace_ms - 500)
    assert cell.witness_messages() == []
    assert cell.node(S0).role is Role.CANDIDATE
    cell.advance_until(lambda: cell.node(S0).is_leader)
    assert cell.witness_messages()


@pytest.mark.parametrize("crashed", [S1, S2])
def test_a_follower_s_crash_needs_no_new_leader(crashed: MemberId) -> None:
    """Only one witness more, or two."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(1_000)
    cell.crash(crashed)
    cell.propose(S0, b"x")
    cell.advance(cell.settings.witness_timeout_ms + 200)
    assert cell.payloads(S0) == [b"x"]
    assert {flight[1] for flight in cell.messages(Accept) if not flight[1].is_server} <= {W0, W1}
    assert len(cell.messages(Prepare)) == 2


def test_a_leader_that_is_told_what_was_decided_without_it_stops_leading() -> None:
    """Its word that a slot is decided stands for what it proposed there itself.

    1. s0 (ballot 1) and s1 vote for x, which is not a quorum.  2. s2 does not hear of it and gets y chosen with both
    witnesses (ballot 2).  3. s0 is sent the log, but hears nothing of ballot 2.  4. Its next heartbeat reaches s1.
    """
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.run()
    cell.propose(S0, b"x")
    cell.deliver(next(index for index, flight in enumerate(cell.pool) if flight[1] == S1))
    cell.pool.clear()
    cell.sync(S0)
    cell.sync(S1)
    cell.pool.clear()
    cell.cut = {S0, S1}
    cell.propose(S2, b"y")
    cell.advance_until(lambda: cell.payloads(S2) == [b"y"])
    cell.loses = lambda message: getattr(message, "ballot", None) == cell.node(S2).leader_ballot
    cell.cut.clear()
    assert cell.node(S0).is_leader
    cell.cores[S2].receive(S0, CatchUp(1, 1, 0), cell.now_ms)
    cell.pump(S2)
    cell.run()
    assert cell.payloads(S0) == [b"y"]
    assert not cell.node(S0).is_leader
    cell.advance(200)
    assert cell.payloads(S1) in ([], [b"y"])


def test_a_leader_whose_storage_hangs_is_replaced() -> None:
    """Its heartbeats go out and are answered, but it never has a vote of its own."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.hung.add(S0)
    cell.propose(S0, b"hung")
    cell.propose(S1, b"x")
    began_ms = cell.now_ms
    cell.advance_until(lambda: b"x" in cell.payloads(S1))
    assert cell.node(S1).is_leader
    assert cell.now_ms - began_ms < cell.settings.crash_timeout_ms + 2 * cell.settings.election_timeout_max_ms
    cell.hung.clear()
    cell.advance_until(lambda: b"x" in cell.payloads(S0))


def test_a_follower_whose_storage_hangs_counts_as_silent() -> None:
    """It answers no heartbeat before what it wrote is durable."""
    cell = LocalCell()
    cell.elect()
    cell.advance(500)
    cell.hung.add(S1)
    cell.propose(S0, b"x")
    cell.advance(cell.settings.witness_timeout_ms + 200)
    assert cell.payloads(S0) == [b"x"]
    cell.advance_until(lambda: cell.node(S0).configuration.server_ids == (S0,))


def test_a_leader_behind_its_followers_learns_from_them() -> None:
    """Elected by witnesses, it proposes again what they have decided; no vote of theirs will come."""
    cell = LocalCell(tolerated_faults=2)
    cell.elect()
    cell.advance(500)
    cell.cut.add(S2)
    for count in range(3):
        cell.propose(S0, b"%d" % count)
        cell.run()
    assert cell.payloads(S0) == []
    cell.advance(cell.settings.witness_timeout_ms + 100)
    assert cell.payloads(S1) == [b"0", b"1", b"2"]
    cell.cut = {S0, S1}
    cell.propose(S2, b"x")
    cell.advance_until(lambda: cell.node(S2).is_leader)
    cell.cut = set()
    cell.advance_until(lambda: b"x" in cell.payloads(S0), limit_ms=5_000)
    assert cell.payloads(S2) == cell.payloads(S1) == cell.payloads(S0) == [b"0", b"1", b"2", b"x"]
