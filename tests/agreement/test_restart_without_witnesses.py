"""A cell without witnesses restarts together or not at all; a server that was fenced comes back as nobody."""

from agreement.context import Role
from agreement.identifiers import MemberId
from agreement.messages import Prepare, Resume, ServerLeft, Starting
from agreement.output import RejoinNeeded, Removed, ServerRestarted, ServerSuspected
from tests.agreement.local_cell import S0, S1, S2, LocalCell


def cell_of(tolerated_faults: int = 1) -> LocalCell:
    """A cell that has ordered something."""
    cell = LocalCell(tolerated_faults, has_witnesses=False)
    cell.elect()
    cell.propose(S0, b"before")
    cell.advance(500)
    return cell


def power_cut(cell: LocalCell, *servers: MemberId) -> None:
    """Everything stops at once."""
    for server in servers:
        cell.crash(server)


def fence(cell: LocalCell, by: MemberId, server: MemberId) -> None:
    """What a caller does on `ServerSuspected`."""
    if server in cell.cores:
        cell.crash(server)
    cell.propose_change(by, ServerLeft(server.number, fenced=True))


def test_all_servers_together_resume() -> None:
    """With everything that was delivered before."""
    cell = cell_of(2)
    power_cut(cell, S0, S1, S2)
    for server in (S2, S0, S1):
        cell.restart(server)
        assert cell.node(server).role is Role.STARTING
    cell.elect()
    cell.propose(S1, b"after")
    cell.advance(3_000)
    assert cell.payloads(S2)[-1] == b"after"
    assert all(node.configuration.number == 1 for node in cell.nodes)


def test_a_server_alone_waits() -> None:
    """It neither orders nor suspects: it is nobody."""
    cell = cell_of()
    power_cut(cell, S0, S1)
    cell.events[S0].clear()
    cell.sent.clear()
    cell.restart(S0)
    cell.advance(20_000)
    assert cell.node(S0).role is Role.STARTING
    assert {type(message) for _, _, message in cell.sent} == {Starting}
    assert not any(isinstance(event, ServerSuspected) for event in cell.events[S0])


def test_the_operator_may_vouch_for_a_missing_server() -> None:
    """Which then leaves."""
    cell = cell_of()
    power_cut(cell, S0, S1)
    cell.restart(S0, vouched=(1,))
    cell.elect()
    cell.advance(1_000)
    assert cell.node(S0).configuration.servers == ((0, 1),)
    cell.propose(S0, b"alone")
    cell.run()
    assert cell.payloads(S0)[-1] == b"alone"


def test_a_silent_server_blocks_the_cell_until_it_is_fenced() -> None:
    """Its peers are told to."""
    cell = cell_of()
    cell.cut.add(S1)
    cell.propose(S0, b"x")
    cell.advance(cell.settings.crash_timeout_ms + 500)
    assert b"x" not in cell.payloads(S0)
    assert any(isinstance(event, ServerSuspected) and event.server == 1 for event in cell.events[S0])
    fence(cell, S0, S1)
    cell.advance(1_000)
    assert b"x" in cell.payloads(S0)
    assert cell.node(S0).configuration.servers == ((0, 1),)


def test_a_silent_leader_is_suspected_by_a_candidate() -> None:
    """Nobody leads, so somebody else must say so."""
    cell = cell_of()
    power_cut(cell, S0)
    cell.propose(S1, b"x")
    cell.advance_until(lambda: any(isinstance(event, ServerSuspected) for event in cell.events[S1]))
    fence(cell, S1, S0)
    cell.advance_until(lambda: b"x" in cell.payloads(S1))


def test_a_fenced_server_that_boots_cut_off_does_not_fence_the_survivor() -> None:
    """It would go on from an old log: acknowledged entries would be lost."""
    cell = cell_of()
    fence(cell, S0, S1)
    cell.advance(1_000)
    cell.propose(S0, b"acknowledged")
    cell.run()
    cell.restart(S1)
    cell.cut.add(S1)
    cell.events[S1].clear()
    cell.advance(20_000)
    assert cell.node(S1).role is Role.STARTING
    assert not any(isinstance(event, ServerSuspected) for event in cell.events[S1])
    cell.cut.clear()
    cell.advance(1_000)
    assert any(isinstance(event, Removed) for event in cell.events[S1])
    assert cell.node(S1).role is Role.LEARNER


def test_a_server_that_restarts_while_its_peer_goes_on_must_rejoin() -> None:
    """Its domains are gone, and it may have been thought dead."""
    cell = cell_of()
    cell.crash(S1)
    cell.restart(S1)
    cell.advance(1_000)
    assert RejoinNeeded(1, 0) in cell.events[S1]
    assert ServerRestarted(1, 1) in cell.events[S0]
    assert cell.node(S1).role is Role.STARTING
    cell.crash(S1)
    cell.restart_without_memory(S1, 2)
    cell.advance_until(lambda: cell.node(S0).configuration.number == 2)
    assert cell.node(S0).configuration.servers == ((0, 1),)


def test_the_highest_configuration_among_those_that_start_counts() -> None:
    """The server that had left earlier may boot first."""
    cell = cell_of(2)
    fence(cell, S0, S2)
    cell.advance(1_000)
    cell.propose(S0, b"without it")
    cell.advance(500)
    power_cut(cell, S0, S1)
    cell.restart(S2)
    cell.restart(S1)
    cell.advance(2_000)
    assert cell.node(S1).role is Role.STARTING
    assert cell.node(S2).is_removed
    cell.restart(S0)
    cell.elect()
    assert cell.node(S0).configuration.server_ids == (S0, S1)
    cell.propose(S0, b"after")
    cell.advance(3_000)
    assert cell.payloads(S1)[-1] == b"after"


def test_a_word_of_a_former_process_does_not_let_anybody_resume() -> None:
    """A server resumes only if each peer, while starting, has heard of this very process."""
    cell = cell_of()
    power_cut(cell, S0, S1)
    cell.restart(S0)
    cell.restart(S1)
    cell.advance(100)
    assert cell.node(S0).role is not Role.STARTING
    old = [flight for flight in cell.sent if isinstance(flight[2], Starting | Resume)]
    power_cut(cell, S0, S1)
    cell.pool = list(old)
    cell.restart(S0)
    cell.run()
    cell.advance(10_000)
    assert cell.node(S0).role is Role.STARTING
    assert all(not isinstance(message, Prepare) for _, _, message in cell.sent[-20:])


def test_a_fence_counts_only_on_the_own_caller_s_word() -> None:
    """A message about it may be older than the process that it says has ended."""
    cell = cell_of(2)
    leader = cell.leader.identity.member
    other, asked = [server for server in (S0, S1, S2) if server != leader]
    cell.propose_change(asked, ServerLeft(other.number, fenced=True))
    cell.advance(1_000)
    assert cell.node(leader).configuration.number == 1
    cell.propose(other, b"still here")
    cell.advance(2_000)
    assert b"still here" in cell.payloads(leader)
