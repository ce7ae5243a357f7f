"""The replica manager's core in the normal case and after a server left.  Source: design sections 6 to 8."""

import pytest

from agreement.messages import Entry, ServerLeft
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import ClientIssued, RequestAccepted
from replica_manager.cell.entries import OpenClient, Request, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.execution.feed import Power, PowerAction
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome, Submission
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import StableNotice
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink, core_settings
from tests.simulation.fake_domain import FakeDomain


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


def run_requests(cell: LockstepCell, sink: RecordingSink, count: int, *, server: int = 0) -> bytes:
    client = cell.open_client(server, sink)
    for number in range(1, count + 1):
        cell.submit(server, sink, client, number, b"append k%d v%d" % (number % 3, number))
    return client


@pytest.mark.parametrize("f", [1, 2, 3])
def test_a_request_is_answered_once_with_the_stable_reply(f: int, sink: RecordingSink) -> None:
    cell = LockstepCell(f)
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"set a 1")
    assert [(c, n, o) for c, n, o, _ in sink.replies] == [(client, 1, Outcome.ANSWERED)]
    assert sink.replies[0][3].endswith(b":1")


@pytest.mark.parametrize("f", [1, 2])
def test_passive_domains_are_woken_only_for_batches_and_end_with_the_same_state(f: int, sink: RecordingSink) -> None:
    cell = LockstepCell(f)
    run_requests(cell, sink, 40)
    passive = DomainId("s0.g2")
    assert cell.domains[passive].executed == []
    assert len(cell.domains[passive].applied) >= 20
    assert not cell.running[passive]
    resumes = [action for domain, action in cell.power_actions if domain == passive and action is PowerAction.RESUME]
    assert 2 <= len(resumes) <= 5


def test_refreshes_are_staggered_over_the_servers(sink: RecordingSink) -> None:
    """Server i starts with U_max·(i+1)/(f'+1)."""
    cell = LockstepCell(1)
    run_requests(cell, sink, 6)
    assert len(cell.domains[DomainId("s0.g2")].applied) == 5
    assert cell.domains[DomainId("s1.g2")].applied == []


def test_a_checkpoint_gives_equal_digests_of_all_domains_at_one_position(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    run_requests(cell, sink, 33)
    cell.cores[1].order_checkpoint(7)
    cell.settle()
    point = next(data["point"] for _, kind, data in cell.events if kind == "checkpoint_ordered")
    assert isinstance(point, int)
    for core in cell.cores:
        digests = core.board.digests(point)
        assert digests is not None
        assert sorted(digests) == ["s0.g1", "s0.g2", "s1.g1", "s1.g2"]
        assert len(set(digests.values())) == 1
    assert not cell.running[DomainId("s0.g2")], "a passive domain sleeps again after giving its state"


def test_a_checkpoint_after_a_command_leaves_no_gap_in_an_open_feed(sink: RecordingSink) -> None:
    """A domain that gives its state has been moved before the point: the next frame follows on from there."""
    cell = LockstepCell(1)
    client = cell.open_client(0, sink)
    cell.muted.add(DomainId("s1.g1"))
    cell.submit(0, sink, client, 1, b"set a 1")
    other = cell.open_client(0, RecordingSink())
    cell.cores[0].order_checkpoint(7)
    cell.settle()
    cell.submit(0, sink, other, 1, b"set b 2")
    assert cell.domains[DomainId("s0.g1")].executed == [2, 5]


def test_refreshes_are_staggered_again_after_a_checkpoint(sink: RecordingSink) -> None:
    """M8: a point wakes all sleepers at once; from there they would be stale and busy together for ever."""
    cell = LockstepCell(1)
    client = run_requests(cell, sink, 33)
    cell.cores[1].order_checkpoint(7)
    cell.settle()
    before = [len(cell.domains[DomainId(f"s{server}.g2")].applied) for server in (0, 1)]
    for number in range(34, 41):
        cell.submit(0, sink, ClientId(client), number, b"append a x")
    after = [len(cell.domains[DomainId(f"s{server}.g2")].applied) for server in (0, 1)]
    assert before == [33, 33]
    assert after == [38, 33]


def test_a_domain_that_ended_before_its_hello_was_heard_stays_gone() -> None:
    """Its feed would hold updates for ever."""
    core = ManagerCore(core_settings(0, 1), 0)
    core.on_domain_gone(DomainId("s0.g2"), "its channel ended")
    core.on_domain_linked(DomainId("s0.g2"), FakeDomain("s0.g2").hello())
    assert [event.kind for event in core.take_output().events] == ["domain_gone"]
    assert core.feeds[DomainId("s0.g2")].power is Power.GONE


def test_entries_of_the_manager_go_before_requests_of_clients_when_agreement_was_full(sink: RecordingSink) -> None:
    """The entry that replaces a dead domain must not wait for an overload to end: it may be what ends it."""
    core = ManagerCore(core_settings(0, 1), 0)
    core.on_domain_gone(DomainId("s0.g1"), "killed")
    (stopped,) = core.take_output().proposals
    core.on_proposal_refused(stopped)
    core.submit(sink, Submission(ClientId(bytes(24)), 1, b"get a"), 1, bytes(16))
    output = core.take_output()
    assert output.proposals == []
    assert [reply.outcome for reply in output.replies] == [Outcome.UNAVAILABLE]
    core.deliver(1, Entry(1, 1, 1, encode_entry(OpenClient(bytes(16), 1))))
    core.submit(sink, Submission(ClientId(bytes(24)), 1, b"get a"), 1, bytes(16))
    assert core.take_output().proposals[0] == stopped


def test_two_servers_that_believed_different_domains_are_an_alarm() -> None:
    """Honesty: more than f faults; what was answered cannot be taken back, but it is said."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"set a 1")
    sequence = cell.cores[0].requests.last
    cell.cores[0].on_peer_message(1, StableNotice([sequence], b"d" * 32), 0)
    cell.settle()
    assert (0, "vote_exceeded") in [(server, kind) for server, kind, _ in cell.events]


def test_a_repeated_request_is_answered_from_the_table_and_not_executed(sink: RecordingSink) -> None:
    """L7: the last number with the same payload is answered by whichever server proposed it."""
    cell = LockstepCell(1)
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    other = RecordingSink()
    cell.submit(1, other, client, 1, b"append a x")
    assert other.replies[0][2:] == sink.replies[0][2:]
    assert cell.domains[DomainId("s0.g1")].rows[b"a"] == b"x"


def test_another_payload_under_a_used_number_is_refused(sink: RecordingSink) -> None:
    """L7 (d): nobody reads another client's reply with its id and number."""
    cell = LockstepCell(1)
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"set a secret")
    cell.submit(0, sink, client, 1, b"get a")
    assert sink.replies[-1][2:] == (Outcome.SUPERSEDED, b"")


def test_a_request_of_an_unknown_client_is_refused_and_never_executed(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    stranger = bytes(24)
    cell.submit(0, sink, stranger, 1, b"set a 1")  # type: ignore[arg-type]
    assert sink.replies[-1][2] is Outcome.UNKNOWN_CLIENT
    assert cell.domains[DomainId("s0.g1")].rows == {}


def test_records_are_dropped_once_every_server_has_them_stable_and_every_domain_was_handed_them(
    sink: RecordingSink,
) -> None:
    cell = LockstepCell(1)
    run_requests(cell, sink, 200)
    for _ in range(5):
        cell.tick()
    for core in cell.cores:
        assert core.requests.last - core.requests.first < 40
        assert core.buffer.entry_count < 20


def test_an_idle_cell_comes_to_rest(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    run_requests(cell, sink, 10)
    for _ in range(10):
        cell.tick()
    before = cell.sequence
    for _ in range(20):
        cell.tick()
    assert cell.sequence == before


def test_votes_that_came_before_their_entry_count(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    core = cell.cores[0]
    sequence = core.requests.last + 2
    core.voter.record_vote(DomainId("s1.g1"), sequence, b"x" * 32)
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"get a")
    record = core.requests.get(sequence)
    assert record is not None
    assert record.votes[DomainId("s1.g1")] == b"x" * 32
    assert record.is_contested


def test_a_server_that_left_leaves_two_votes_to_be_found_on_the_other(sink: RecordingSink) -> None:
    """S2: T stays at f'+2 when the departed server may in truth be running; its passive domain is activated."""
    cell = LockstepCell(1)
    run_requests(cell, sink, 7, server=1)
    cell.muted |= {DomainId("s0.g1"), DomainId("s0.g2")}
    cell.order_change(ServerLeft(0, False))
    survivor = cell.cores[1]
    assert survivor.cell.threshold == 2
    assert cell.running[DomainId("s1.g2")]
    second = RecordingSink()
    client = cell.open_client(1, second)
    cell.submit(1, second, client, 1, b"append k1 z")
    assert second.replies[-1][2] is Outcome.ANSWERED
    assert cell.domains[DomainId("s1.g1")].rows == cell.domains[DomainId("s1.g2")].rows


def test_after_a_fenced_departure_one_vote_suffices(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    cell.muted |= {DomainId("s0.g1"), DomainId("s0.g2")}
    cell.order_change(ServerLeft(0, True))
    assert cell.cores[1].cell.threshold == 1
    client = cell.open_client(1, sink)
    cell.submit(1, sink, client, 1, b"set a 1")
    assert sink.replies[-1][2] is Outcome.ANSWERED
    assert not cell.running[DomainId("s1.g2")]


def test_a_stopped_active_domain_is_replaced_by_the_minimum_of_passive_ones(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    run_requests(cell, sink, 3)
    cell.cores[0].on_domain_gone(DomainId("s0.g1"), "killed")
    cell.settle()
    active = [record.domain for record in cell.cores[1].cell.domains.values() if record.role.value == "active"]
    assert len(active) == 2
    second = RecordingSink()
    client = cell.open_client(0, second)
    cell.submit(0, second, client, 1, b"append k1 z")
    assert second.replies[-1][2] is Outcome.ANSWERED


def test_a_lying_domain_is_outvoted_by_a_sleeper_and_convicted(sink: RecordingSink) -> None:
    """Detected, replaced for the vote, proven: no timer passes here."""
    cell = LockstepCell(1)
    liar = DomainId("s1.g1")
    client = cell.open_client(0, sink)
    cell.domains[liar].rows[b"a"] = b"planted"
    cell.submit(0, sink, client, 1, b"get a")
    assert [(outcome, reply) for _, _, outcome, reply in sink.replies] == [(Outcome.ANSWERED, b"")]
    assert any(kind == "vote_diverged" for _, kind, _ in cell.events)
    for core in cell.cores:
        assert core.cell.domains[liar].role is Role.RETIRED
        assert not core.cell.is_counted(liar)


def test_lying_domains_beyond_the_bound_keep_their_request_open_and_are_named(sink: RecordingSink) -> None:
    """Honesty: three domains say three things; nothing is answered, also later."""
    cell = LockstepCell(1)
    client = cell.open_client(0, sink)
    for domain in ("s1.g1", "s0.g2", "s1.g2"):
        cell.domains[DomainId(domain)].rows[b"a"] = domain.encode()
    cell.submit(0, sink, client, 1, b"get a")
    for _ in range(50):
        cell.tick(50)
    assert sink.replies == []
    assert any(kind == "vote_exceeded" for _, kind, _ in cell.events)
    assert all(core.cell.is_counted(domain) for core in cell.cores for domain in core.cell.domains)


def test_a_full_cell_refuses_and_the_request_is_surely_not_executed(sink: RecordingSink) -> None:
    cell = LockstepCell(1)
    client = cell.open_client(0, sink)
    cell.muted.add(DomainId("s1.g1"))
    clients = [cell.open_client(0, RecordingSink()) for _ in range(600)]
    refused = RecordingSink()
    for other in clients:
        cell.submit(0, refused, other, 1, b"get a")
    assert any(outcome is Outcome.UNAVAILABLE for _, _, outcome, _ in refused.replies)
    assert client


def test_the_service_clock_may_start_at_another_time() -> None:
    """A data set of the past stays young: the clock starts there and runs on like the intake servers'."""
    state = CellState(1, 10, clock_start_us=5_000)
    client = open_in(state, 1)
    first = state.apply(2, request_entry(client, 1, 1_000_000))[0]
    second = state.apply(3, request_entry(client, 2, 1_000_250))[0]
    assert isinstance(first, RequestAccepted)
    assert isinstance(second, RequestAccepted)
    assert (first.timestamp_us, second.timestamp_us) == (5_000, 5_250)
    restored = CellState.decode(state.encode())
    third = restored.apply(4, request_entry(client, 3, 1_000_300))[0]
    assert isinstance(third, RequestAccepted)
    assert third.timestamp_us == 5_300
    assert restored.encode() != state.encode()
    state.apply(4, request_entry(client, 3, 1_000_300))
    assert restored.encode() == state.encode()


def open_in(state: CellState, sequence: int) -> ClientId:
    effect = state.apply(sequence, Entry(0, 1, sequence, encode_entry(OpenClient(bytes(16), 1))))[0]
    assert isinstance(effect, ClientIssued)
    return effect.client


def request_entry(client: ClientId, number: int, timestamp_us: int) -> Entry:
    return Entry(0, 1, number + 1, encode_entry(Request(client, number, timestamp_us, bytes(16), b"get a")))
