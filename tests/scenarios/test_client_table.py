"""The client table: executed once, answered everywhere, nobody gets what is another's.

Source: design "Client table"; `L7` of its list of traps.
"""

import pytest

from agreement.messages import ServerLeft
from replica_manager.cell.client_table import ClientTable, Verdict
from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId, DomainId
from replica_manager.intake.port import Outcome, Submission
from replica_manager.manager_core import ManagerCore
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink, core_settings

ACTIVE_0, ACTIVE_1 = DomainId("s0.g1"), DomainId("s1.g1")


def outcomes(sink: RecordingSink) -> list[tuple[int, Outcome]]:
    return [(number, outcome) for _, number, outcome, _ in sink.replies]


def hold_answers(cell: LockstepCell) -> None:
    """Nothing becomes stable from here on."""
    cell.muted |= {ACTIVE_0, ACTIVE_1}


def test_a_the_reply_is_no_part_of_what_servers_agree_on() -> None:
    """L7 (a): a stable reply is local knowledge; a server that lacks it still has the same cell state."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.is_lost = lambda _sender, receiver, _message: receiver == 1
    cell.submit(0, sink, client, 1, b"set a 1")
    assert outcomes(sink) == [(1, Outcome.ANSWERED)]
    assert len(cell.cores[1].admission.replies) == 0
    assert cell.cores[0].cell.encode() == cell.cores[1].cell.encode()


def test_b_an_evicted_client_that_repeats_its_request_is_refused_not_executed_again() -> None:
    """L7 (b)."""
    cell = LockstepCell(1)
    for core in cell.cores:
        core.cell.clients.entries_max = 2
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    for _ in range(2):
        cell.open_client(1, RecordingSink())
    cell.submit(1, sink, client, 1, b"append a x")
    assert outcomes(sink) == [(1, Outcome.ANSWERED), (1, Outcome.UNKNOWN_CLIENT)]
    assert cell.domains[ACTIVE_0].rows[b"a"] == b"x"


def test_b_planted_a_table_that_takes_strangers_in_executes_twice() -> None:
    """The scenario above finds a table that knows no `UNKNOWN_CLIENT`."""

    class Hospitable(ClientTable):
        def judge(self, client: ClientId, number: int, payload: bytes, sequence: int) -> Verdict:
            if client not in {row[:CLIENT_ID_BYTES] for row in self.rows()}:
                self.open(client, sequence)
            return super().judge(client, number, payload, sequence)

    cell = LockstepCell(1)
    for core in cell.cores:
        core.cell.clients = Hospitable(2)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    for _ in range(2):
        cell.open_client(1, RecordingSink())
    cell.submit(1, sink, client, 1, b"append a x")
    assert cell.domains[ACTIVE_0].rows[b"a"] == b"xx"


def test_c_an_earlier_number_after_a_later_one_is_never_executed() -> None:
    """L7 (c): after a failover the order may have n + 1 before n."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 2, b"append a second")
    cell.submit(1, sink, client, 1, b"append a first")
    assert outcomes(sink) == [(2, Outcome.ANSWERED), (1, Outcome.SUPERSEDED)]
    assert cell.domains[ACTIVE_0].rows[b"a"] == b"second"


def test_d_a_reply_goes_only_to_who_sent_the_very_same_request() -> None:
    """L7 (d): somebody who knows a victim's id and number waits at another server with a payload of his own, while
    the victim's request is under way: the victim's stable reply must not go to him."""
    cell = LockstepCell(1)
    victim, thief = RecordingSink(), RecordingSink()
    client = cell.open_client(0, victim)
    cell.cores[0].submit(victim, Submission(client, 1, b"append a secret"), 5, bytes(16))
    cell.cores[1].submit(thief, Submission(client, 1, b"get a"), 5, bytes(16))
    cell.settle()
    assert outcomes(victim) == [(1, Outcome.ANSWERED)]
    assert outcomes(thief) == [(1, Outcome.SUPERSEDED)]


def test_d_a_refusal_of_another_servers_entry_ends_no_waiting_here() -> None:
    """The other half: the thief's entry is ordered behind the victim's, refused, and must not answer the victim."""
    cell = LockstepCell(1)
    victim, thief = RecordingSink(), RecordingSink()
    client = cell.open_client(0, victim)
    hold_answers(cell)
    cell.cores[0].submit(victim, Submission(client, 1, b"append a secret"), 5, bytes(16))
    cell.settle()
    cell.submit(1, thief, client, 1, b"get a")
    assert victim.replies == []
    assert outcomes(thief) == [(1, Outcome.SUPERSEDED)]


def test_d_a_high_number_silences_nobody_but_its_own_client() -> None:
    """Ids are 128 random bits: without the id there is nothing to take over."""
    cell = LockstepCell(1)
    sink, stranger = RecordingSink(), RecordingSink()
    client = cell.open_client(0, sink)
    guessed = ClientId(client[:8] + bytes(16)[:-1] + b"\x01")
    cell.submit(1, stranger, guessed, 2**62, b"get a")
    assert outcomes(stranger) == [(2**62, Outcome.UNKNOWN_CLIENT)]
    cell.submit(0, sink, client, 1, b"get a")
    assert outcomes(sink) == [(1, Outcome.ANSWERED)]


def test_e_the_same_request_over_another_server_is_answered_when_the_first_becomes_stable() -> None:
    """L7 (e) and 9.4: the client went to another server while its request was under way."""
    cell = LockstepCell(1)
    first, second = RecordingSink(), RecordingSink()
    client = cell.open_client(0, first)
    cell.is_lost = lambda *_: True
    cell.submit(0, first, client, 1, b"append a x")
    cell.submit(1, second, client, 1, b"append a x")
    assert second.replies == []
    cell.is_lost = lambda *_: False
    for _ in range(6):
        cell.tick(50)
    assert outcomes(first) == outcomes(second) == [(1, Outcome.ANSWERED)]
    assert cell.domains[ACTIVE_0].rows[b"a"] == b"x"


def test_e_a_client_of_a_dead_server_gets_its_reply_from_another_one() -> None:
    """The reply is kept by every server, not by the one where the request came in."""
    cell = LockstepCell(1)
    sink, second = RecordingSink(), RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    cell.muted |= {ACTIVE_0, DomainId("s0.g2")}
    cell.order_change(ServerLeft(0, True))
    cell.submit(1, second, client, 1, b"append a x")
    assert second.replies[0][2:] == sink.replies[0][2:]


# -- one request open per client -----------------------------------------------------------------------------------


def test_a_repetition_of_a_request_under_way_is_not_refused_though_the_cell_is_full() -> None:
    """`UNAVAILABLE` says "surely not executed"; the first submission may be."""
    cell = LockstepCell(1)
    sink, again = RecordingSink(), RecordingSink()
    client = cell.open_client(0, sink)
    hold_answers(cell)
    cell.submit(0, sink, client, 1, b"append a x")
    filler = cell.open_client(0, RecordingSink())
    for number in range(1, 502):
        cell.submit(0, RecordingSink(), filler, number, b"get a")
    refused = RecordingSink()
    cell.submit(0, refused, filler, 600, b"get a")
    assert outcomes(refused) == [(600, Outcome.UNAVAILABLE)]
    cell.submit(0, again, client, 1, b"append a x")
    assert again.replies == []


def test_a_request_that_agreement_does_not_take_is_answered_and_takes_nothing_else_with_it() -> None:
    """`ProposalQueueFull`: the entry was surely not ordered."""
    core = ManagerCore(core_settings(0, 1), 0)
    sink = RecordingSink()
    client = ClientId(bytes(24))
    core.submit(sink, Submission(client, 1, b"get a"), 1, bytes(16))
    (payload,) = core.take_output().proposals
    core.submit(sink, Submission(client, 2, b"get a"), 1, bytes(16))
    core.on_proposal_refused(payload)
    output = core.take_output()
    assert [(reply.number, reply.outcome) for reply in output.replies] == [(1, Outcome.SUPERSEDED)]
    core.on_proposal_refused(output.proposals[0])
    assert [(r.number, r.outcome) for r in core.take_output().replies] == [(2, Outcome.UNAVAILABLE)]
    assert core.admission.waiting_count == 0
    assert core.admission.waiting_bytes == 0


@pytest.mark.parametrize("late", [1, 2])
def test_an_older_submission_that_comes_late_takes_no_reply_away(late: int) -> None:
    """A delayed packet of another connection: the newest request of the client is still answered."""
    cell = LockstepCell(1)
    sink, other = RecordingSink(), RecordingSink()
    client = cell.open_client(0, sink)
    core = cell.cores[0]
    core.submit(sink, Submission(client, 2, b"set a 2"), 1, bytes(16))
    core.submit(other, Submission(client, late, b"set a 1"), 1, bytes(16))
    cell.settle()
    assert outcomes(sink) == [(2, Outcome.ANSWERED)]
    assert outcomes(other) == [(late, Outcome.SUPERSEDED)]


def test_every_submission_of_one_connection_is_answered_though_it_does_not_wait() -> None:
    """One request is open per id: the earlier one is told so, and may or may not be executed."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in (1, 2, 3):
        cell.cores[0].submit(sink, Submission(client, number, b"append a x"), 1, bytes(16))
    cell.settle()
    assert outcomes(sink) == [(1, Outcome.SUPERSEDED), (2, Outcome.SUPERSEDED), (3, Outcome.ANSWERED)]


def test_a_reply_that_the_cache_dropped_is_taken_from_the_log_while_it_is_there() -> None:
    """`REPLY_LOST` is said only when the reply is really gone."""
    cell = LockstepCell(1)
    sink, again = RecordingSink(), RecordingSink()
    client = cell.open_client(0, sink)
    cell.submit(0, sink, client, 1, b"append a x")
    cell.cores[1].admission.replies.keep(client, 10**9, b"")
    cell.submit(1, again, client, 1, b"append a x")
    assert again.replies[0][2:] == sink.replies[0][2:]
    for _ in range(30):
        cell.submit(0, RecordingSink(), cell.open_client(0, RecordingSink()), 1, b"append a y")
    cell.tick()
    cell.tick()
    cell.submit(1, again, client, 1, b"append a x")
    assert outcomes(again)[-1] == (1, Outcome.REPLY_LOST)
