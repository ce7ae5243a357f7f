"""Whatever servers and networks do, a request is executed at most once; its client is told one thing, a true one."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from replica_manager.client.failover_core import FailoverCore, _Errand
from replica_manager.client.failover_values import Decided, FailoverSettings, Send
from replica_manager.identifiers import ClientId
from replica_manager.intake.framed_messages import ClientOpened, Reply, Request
from replica_manager.intake.port import Outcome
from tests.client.unreliable_cell import UnreliableCell

SETTINGS = FailoverSettings()
HASTY = FailoverSettings(deadline_ms=4000, attempt_ms=400)
"""Everything comes to its end within a few steps."""
SERVERS = st.integers(0, 2)


def new_cell(server_count: int = 2, seed: int = 1, settings: FailoverSettings = SETTINGS) -> UnreliableCell:
    """Return a cell whose servers are all about to be connected."""
    core = FailoverCore(server_count, settings, random.Random(seed), 0.0)
    core.on_timer(0.0)
    return UnreliableCell(core, server_count)


def connected_cell(server_count: int = 2, clients: int = 1, settings: FailoverSettings = SETTINGS) -> UnreliableCell:
    """Return one that is connected and has issued ids."""
    cell = new_cell(server_count, settings=settings)
    for number in range(server_count):
        cell.connect(number)
    for _ in range(clients):
        cell.open_client()
        cell.heal_for(1000)
    assert len(cell.clients) == clients
    return cell


def place_of_the_request(cell: UnreliableCell) -> int:
    """Return the only server that has something to read."""
    (number,) = (number for number, server in enumerate(cell.servers) if server.arriving)
    return number


class Failover(RuleBasedStateMachine):
    """Everything that may happen, in any order."""

    kind = FailoverCore

    @initialize(
        server_count=st.integers(1, 3),
        seed=st.integers(0, 2**32),
        clients=st.integers(0, 3),
        hangup_ms=st.sampled_from([2500, 60_000]),
    )
    def begin(self, server_count: int, seed: int, clients: int, hangup_ms: int) -> None:
        core = self.kind(server_count, replace(HASTY, hangup_ms=hangup_ms), random.Random(seed), 0.0)
        core.on_timer(0.0)
        self.cell = UnreliableCell(core, server_count)
        for _ in range(clients):
            self.cell.open_client()
            self.cell.heal_for(1000)

    def number(self, server: int) -> int:
        return server % len(self.cell.servers)

    @rule()
    def open_client(self) -> None:
        self.cell.open_client()

    @precondition(lambda self: self.cell.idle_clients())
    @rule(which=st.integers(0, 10))
    def submit(self, which: int) -> None:
        idle = self.cell.idle_clients()
        self.cell.submit(idle[which % len(idle)])

    @rule(server=SERVERS)
    def connect(self, server: int) -> None:
        if self.cell.servers[self.number(server)].is_wanted:
            self.cell.connect(self.number(server))

    @rule(server=SERVERS)
    def lose(self, server: int) -> None:
        state = self.cell.servers[self.number(server)]
        if state.is_open or state.is_wanted:
            self.cell.lose(self.number(server))

    @rule(server=SERVERS, is_kept=st.booleans())
    def process(self, server: int, is_kept: bool) -> None:
        if self.cell.servers[self.number(server)].arriving:
            self.cell.process(self.number(server), is_kept=is_kept)

    @rule(server=SERVERS)
    def refuse(self, server: int) -> None:
        if self.cell.servers[self.number(server)].arriving:
            self.cell.refuse(self.number(server))

    @rule(server=SERVERS)
    def answer(self, server: int) -> None:
        self.process(server, is_kept=True)
        self.deliver(server, is_repeated=False)

    @rule(server=SERVERS)
    def swallow(self, server: int) -> None:
        if self.cell.servers[self.number(server)].arriving:
            self.cell.swallow(self.number(server))

    @rule(server=SERVERS, is_repeated=st.booleans())
    def deliver(self, server: int, is_repeated: bool) -> None:
        if self.cell.servers[self.number(server)].leaving:
            self.cell.deliver(self.number(server), is_repeated=is_repeated)

    @precondition(lambda self: len(self.cell.table))
    @rule()
    def forget_client(self) -> None:
        self.cell.forget_client()

    @rule(ms=st.sampled_from([1, 30, 500, 3000, 5000]))
    def advance(self, ms: int) -> None:
        self.cell.advance(ms)

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "cell"):
            self.cell.check()

    def teardown(self) -> None:
        """When the faults stop, every request is decided, and what was on its way changes nothing any more."""
        if not hasattr(self, "cell"):
            return
        self.cell.heal_for(HASTY.deadline_ms + 1000)
        assert self.cell.core.open_count == 0
        for number, server in enumerate(self.cell.servers):
            while server.arriving:
                self.cell.process(number)
        self.cell.check()


TestFailover = Failover.TestCase
TestFailover.settings = settings(max_examples=300)


class ForgetsLostAttempts(FailoverCore):
    """Takes an attempt whose connection broke for one that never was."""

    def _repeat_spread(self, errands: list[_Errand], now_ms: float) -> None:
        for errand in errands:
            errand.may_be_taken = False
        super()._repeat_spread(errands, now_ms)


class BelievesRefusals(FailoverCore):
    """Takes the latest refusal for the whole truth."""

    def _finish(self, errand: _Errand, outcome: Outcome, reply: bytes = b"") -> None:
        super()._finish(errand, Outcome.UNKNOWN_CLIENT if outcome is Outcome.UNDECIDED else outcome, reply)


class ForgetsWhatIsUnderWay(FailoverCore):
    """Gives up as if the latest attempt had not been sent."""

    def _give_up(self, errand: _Errand) -> None:
        errand.server = None
        super()._give_up(errand)


class NumbersAnew(FailoverCore):
    """Repeats under another number."""

    def _attempt(self, errand: _Errand, avoid: int | None, now_ms: float) -> None:
        if errand.attempts and isinstance(errand.message, Request):
            errand.message = Request(errand.message.client, errand.message.number + 1, errand.message.payload)
        super()._attempt(errand, avoid, now_ms)


@pytest.mark.parametrize("kind", [ForgetsLostAttempts, BelievesRefusals, ForgetsWhatIsUnderWay, NumbersAnew])
def test_each_rule_that_is_taken_out_is_missed(kind: type[FailoverCore]) -> None:
    """The search above finds what it is made for."""
    machine = type("Planted", (Failover,), {"kind": kind})
    # Without shrinking: that takes minutes, and nobody reads the example.
    search = settings(max_examples=3000, database=None, phases=[Phase.generate], verbosity=Verbosity.quiet)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=search)


# -- one rule at a time ----------------------------------------------------------------------------------------


def test_a_request_whose_server_dies_is_repeated_to_another_one_and_executed_once() -> None:
    """The same id, number and payload."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    first = place_of_the_request(cell)
    sent = cell.servers[first].arriving[0][1]
    cell.process(first)
    cell.lose(first)
    cell.advance(SETTINGS.spread_ms + 1)
    assert [message for _, message in cell.servers[1 - first].arriving] == [sent]
    cell.process(1 - first)
    cell.deliver(1 - first)
    assert [decided.outcome for decided in cell.decided] == [Outcome.ANSWERED]


def test_requests_go_to_the_good_server_until_it_is_not_good_any_more() -> None:
    """Sticky: a server that came back is not asked again for no reason."""
    cell = connected_cell(clients=2)
    cell.submit(cell.clients[0])
    first = place_of_the_request(cell)
    cell.lose(first)
    cell.heal_for(1000)
    cell.advance(1000)
    cell.connect(first)
    for client in cell.clients:
        cell.submit(client)
    assert place_of_the_request(cell) == 1 - first


def test_a_silent_server_is_left_for_another_one() -> None:
    """It may be frozen with its sockets open."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    first = place_of_the_request(cell)
    cell.advance(SETTINGS.attempt_ms * 1.3)
    assert cell.servers[1 - first].arriving
    cell.process(1 - first)
    cell.deliver(1 - first)
    cell.process(first)
    cell.deliver(first)  # a late answer to a request that is decided
    assert [decided.outcome for decided in cell.decided] == [Outcome.ANSWERED]


def test_a_request_waits_at_the_only_server_instead_of_queueing_behind_itself() -> None:
    """While the cell declares the other server crashed."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    first = place_of_the_request(cell)
    cell.lose(1 - first)
    cell.advance(SETTINGS.hangup_ms - 1000)
    assert len(cell.servers[first].arriving) == 1
    cell.process(first)
    cell.deliver(first)
    assert cell.core.repeated == 0


def test_a_connection_that_nobody_ends_is_ended_by_the_client() -> None:
    """A server that lost its power says nothing for ever."""
    cell = connected_cell(server_count=1)
    cell.submit(cell.clients[0])
    cell.swallow(0)
    cell.advance(SETTINGS.hangup_ms + 3 * SETTINGS.attempt_ms)
    assert cell.servers[0].is_wanted
    assert "silent" in [note.kind for note in cell.notes]
    cell.heal_for(5000)
    assert [decided.outcome for decided in cell.decided] == [Outcome.ANSWERED]


def test_without_any_server_the_client_is_told_that_nothing_was_executed() -> None:
    """After the deadline, not before."""
    cell = connected_cell()
    for number in range(2):
        cell.lose(number)
    cell.submit(cell.clients[0])
    cell.advance(SETTINGS.deadline_ms - 1)
    assert cell.decided == []
    cell.advance(1)
    assert [decided.outcome for decided in cell.decided] == [Outcome.UNAVAILABLE]


def test_a_cell_that_refuses_all_the_time_has_surely_not_executed() -> None:
    """Every attempt was answered."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    while not cell.decided:
        for number, server in enumerate(cell.servers):
            while server.arriving:
                cell.refuse(number)
                cell.deliver(number)
        cell.advance(10)
    assert [decided.outcome for decided in cell.decided] == [Outcome.UNAVAILABLE]
    assert cell.now_ms <= SETTINGS.deadline_ms + 2000


def test_one_lost_attempt_makes_the_outcome_unknown_for_ever() -> None:
    """Refusals of later attempts say nothing about it."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    cell.lose(place_of_the_request(cell))
    while not cell.decided:
        for number, server in enumerate(cell.servers):
            while server.is_open and server.arriving:
                cell.refuse(number)
                if server.leaving:
                    cell.deliver(number)
        cell.advance(10)
    assert [decided.outcome for decided in cell.decided] == [Outcome.UNDECIDED]


def test_an_id_that_was_evicted_is_told_so_only_if_nothing_was_executed() -> None:
    """The first attempt may have been executed before the eviction."""
    for is_lost in (False, True):
        cell = connected_cell()
        cell.submit(cell.clients[0])
        first = place_of_the_request(cell)
        if is_lost:
            cell.process(first)
            cell.lose(first)
            cell.advance(100)
        cell.forget_client()
        place = place_of_the_request(cell)
        cell.process(place)
        cell.deliver(place)
        expected = Outcome.UNDECIDED if is_lost else Outcome.UNKNOWN_CLIENT
        assert [decided.outcome for decided in cell.decided] == [expected]


def test_a_request_that_was_given_up_is_not_executed_behind_its_successor() -> None:
    """The next number fences it off."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    first = place_of_the_request(cell)
    held = cell.servers[first].arriving[0]
    cell.swallow(first)
    for number in range(2):
        cell.lose(number)
    cell.advance(SETTINGS.deadline_ms)
    assert [decided.outcome for decided in cell.decided] == [Outcome.UNDECIDED]
    cell.submit(cell.clients[0])
    cell.heal_for(5000)
    cell.servers[first].arriving.append(held)
    cell.process(first)
    assert cell.decided[-1].outcome is Outcome.ANSWERED
    assert sum(cell.executed.values()) == 1


def test_the_requests_of_a_dead_server_come_to_the_next_one_spread_over_time() -> None:
    """No herd."""
    cell = connected_cell(clients=1000)
    for client in cell.clients:
        cell.submit(client)
    first = place_of_the_request(cell)
    cell.lose(first)
    assert cell.servers[1 - first].arriving == []
    arrived = []
    for _ in range(12):
        cell.advance(10)
        arrived.append(len(cell.servers[1 - first].arriving))
    assert arrived[-1] == 1000
    assert max(later - earlier for earlier, later in pairwise([0, *arrived])) < 200


def test_pauses_between_connections_grow_and_differ() -> None:
    """Many clients of a dead server do not come back in step."""
    tries: dict[int, list[float]] = {}
    for seed in range(5):
        cell = new_cell(server_count=1, seed=seed)
        tries[seed] = []
        while cell.now_ms < 20_000:
            if cell.servers[0].is_wanted:
                tries[seed].append(cell.now_ms)
                cell.lose(0)
            cell.advance(1)
    for times in tries.values():
        assert 10 < len(times) < 40
        gaps = [after - before for before, after in pairwise(times)]
        assert max(gaps) <= SETTINGS.backoff_ms_max + 2
        assert gaps[0] < SETTINGS.backoff_ms + 2 < gaps[-1]
    assert len({tuple(times) for times in tries.values()}) == 5


def test_more_than_may_be_under_way_is_refused_at_once() -> None:
    """In number and in bytes; nothing was sent."""
    few = connected_cell(clients=3, settings=FailoverSettings(open_requests_max=2))
    for client in few.clients:
        few.submit(client)
    assert [decided.outcome for decided in few.decided] == [Outcome.UNAVAILABLE]
    core = FailoverCore(1, FailoverSettings(open_bytes_max=10), random.Random(1), 0.0)
    core.on_timer(0.0)
    core.on_connected(0, 0.0)
    core.open_client(1, 0.0)
    core.on_message(0, ClientOpened(1, b"c" * 24), 0.0)
    core.take_output()
    core.submit(ClientId(b"c" * 24), b"x" * 11, 0.0)
    assert core.take_output() == [Decided(ClientId(b"c" * 24), 1, Outcome.UNAVAILABLE, b"")]


@pytest.mark.parametrize(
    "message",
    [
        Reply(b"?" * 24, 1, 99, b""),
        Reply(b"?" * 24, 1, -1, b""),
        Reply(b"?" * 24, 1, int(Outcome.UNDECIDED), b""),
        ClientOpened(2, b"short"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_hung_up_on(message: Reply | ClientOpened) -> None:
    """And its requests go elsewhere."""
    cell = connected_cell()
    cell.open_client()
    place = place_of_the_request(cell)
    cell.core.on_message(place, message, cell.now_ms)
    cell.carry_out()
    assert not cell.servers[place].is_open
    assert "misbehaved" in [note.kind for note in cell.notes]
    cell.heal_for(5000)
    assert len(cell.clients) == 2


def test_an_answer_that_nobody_waits_for_is_ignored() -> None:
    """Late answers are no misbehaviour; neither may they decide another number."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    place = place_of_the_request(cell)
    for message in (
        Reply(cell.clients[0], 2, int(Outcome.ANSWERED), b"of a number to come"),
        Reply(b"?" * 24, 1, int(Outcome.ANSWERED), b"of somebody else"),
        ClientOpened(77, b"x" * 24),
    ):
        cell.core.on_message(place, message, cell.now_ms)
        cell.carry_out()
    assert cell.decided == []
    assert cell.servers[place].is_open


def test_a_fact_counts_whichever_attempt_brings_it() -> None:
    """`SKIPPED` by an operator is one."""
    cell = connected_cell()
    cell.submit(cell.clients[0])
    first = place_of_the_request(cell)
    cell.advance(SETTINGS.attempt_ms * 1.3)
    cell.core.on_message(first, Reply(cell.clients[0], 1, int(Outcome.SKIPPED), b""), cell.now_ms)
    assert Decided(cell.clients[0], 1, Outcome.SKIPPED, b"") in cell.core.take_output()


def test_a_server_that_accepts_and_drops_connections_does_not_keep_a_request_for_ever_busy() -> None:
    """Attempts are bounded too."""
    cell = connected_cell(settings=FailoverSettings(attempts_max=5, deadline_ms=10_000_000))
    cell.submit(cell.clients[0])
    sent = 1
    while not cell.decided:
        for number, server in enumerate(cell.servers):
            if server.is_open or server.is_wanted:
                sent += len(server.arriving)
                server.arriving.clear()
                cell.connect(number) if server.is_wanted else cell.lose(number)
        cell.advance(10)
    assert [decided.outcome for decided in cell.decided] == [Outcome.UNDECIDED]
    assert sent <= 7


def test_sending_needs_no_server_at_the_time_of_the_call() -> None:
    """A proxy starts before its cell."""
    cell = new_cell()
    cell.open_client()
    assert not any(isinstance(action, Send) for action in cell.core.take_output())
    cell.advance(5000)
    cell.heal_for(2000)
    assert len(cell.clients) == 1
