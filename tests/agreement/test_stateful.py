"""Any order of deliveries, losses, duplicates, syncs, ticks, crashes, lost memories, departures and joins.

After every step the checkers of the simulation hold; at the end everything heals, and the cell must become whole.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agreement.errors import ProposalError
from agreement.identifiers import MemberId
from agreement.messages import ServerJoined, ServerLeft
from agreement.settings import AgreementSettings
from tests.agreement.local_cell import LocalCell

SETTINGS = AgreementSettings(
    heartbeat_ms=100,
    election_timeout_min_ms=400,
    election_timeout_max_ms=500,
    witness_timeout_ms=300,
    startup_grace_ms=500,
    crash_timeout_ms=2_000,
    slots_in_flight_max=3,
    batch_entries_max=2,
    part_bytes_max=200,
    own_entries_max=50,
)


class AgreementMachine(RuleBasedStateMachine):
    """The adversary schedules everything."""

    @initialize(tolerated_faults=st.integers(1, 2), seed=st.integers(0, 1_000))
    def begin(self, tolerated_faults: int, seed: int) -> None:
        self.cell = LocalCell(tolerated_faults, settings=SETTINGS, seed=seed)
        self.incarnations = {identity.member: 1 for identity in self.cell.members}
        self.has_lost_memory = False
        self.count = 0

    def _member(self, index: int) -> MemberId:
        members = sorted(self.incarnations)
        return members[index % len(members)]

    @rule(index=st.integers(0, 9), count=st.integers(1, 4))
    def propose(self, index: int, count: int) -> None:
        member = MemberId.server(index % sum(known.is_server for known in self.incarnations))
        for _ in range(count):
            self.count += 1
            if member in self.cell.cores:
                self._try_to_propose(member)

    def _try_to_propose(self, member: MemberId) -> None:
        try:
            self.cell.propose(member, b"%d" % self.count)
        except ProposalError:
            assert self.cell.node(member).undelivered_count == 50 or not self.cell.node(member).is_member

    @precondition(lambda self: self.cell.pool)
    @rule(index=st.integers(0, 50), count=st.integers(1, 30))
    def deliver(self, index: int, count: int) -> None:
        for _ in range(count):
            if self.cell.pool:
                self.cell.deliver(index % len(self.cell.pool))

    @precondition(lambda self: self.cell.pool)
    @rule(index=st.integers(0, 50))
    def duplicate(self, index: int) -> None:
        self.cell.deliver(index % len(self.cell.pool), is_kept=True)

    @precondition(lambda self: self.cell.pool)
    @rule(index=st.integers(0, 50), count=st.integers(1, 10))
    def lose(self, index: int, count: int) -> None:
        del self.cell.pool[index % len(self.cell.pool) :][:count]

    @rule(index=st.integers(0, 9))
    def sync(self, index: int) -> None:
        self.cell.sync(self._member(index))

    @rule(duration_ms=st.sampled_from((50, 100, 500, 2_100)))
    def tick(self, duration_ms: int) -> None:
        self.cell.now_ms += duration_ms
        self.cell.fire_timers()

    @rule(duration_ms=st.sampled_from((100, 1_000, 3_000)))
    def let_time_pass(self, duration_ms: int) -> None:
        self.cell.advance(duration_ms)

    @rule(index=st.integers(0, 9))
    def cut_or_heal(self, index: int) -> None:
        self.cell.cut ^= {self._member(index)}

    @rule(index=st.integers(0, 9))
    def crash(self, index: int) -> None:
        member = self._member(index)
        if member in self.cell.cores:
            self.cell.sync(member)  # its birth is durable: a crash before is tried in the simulation
            self.cell.crash(member)

    @rule(index=st.integers(0, 9))
    def restart(self, index: int) -> None:
        member = self._member(index)
        if member not in self.cell.cores:
            self.cell.restart(member, self.incarnations[member])

    @precondition(lambda self: not self.has_lost_memory)
    @rule(index=st.integers(0, 9))
    def lose_memory(self, index: int) -> None:
        """One memory is within every bound, as long as nobody has left."""
        if self.cell.checkers.membership.latest.number > 1:
            return
        self.has_lost_memory = True
        self._forget(self._member(index))

    def _forget(self, member: MemberId) -> None:
        if member in self.cell.cores:
            self.cell.crash(member)
        self.incarnations[member] += 1
        self.cell.restart_without_memory(member, self.incarnations[member])

    @rule(asked=st.integers(0, 2), leaving=st.integers(0, 2))
    def order_departure(self, asked: int, leaving: int) -> None:
        if not self.has_lost_memory and MemberId.server(asked) in self.cell.cores:
            self.has_lost_memory = True
            self.cell.propose_change(MemberId.server(asked), ServerLeft(leaving, fenced=False))

    @invariant()
    def servers_agree_on_configurations(self) -> None:
        if hasattr(self, "cell"):
            for node in self.cell.nodes:
                if node.delivered_sequence <= len(self.cell.checkers.order.history):
                    self.cell.checkers.membership.check(node.identity, node.configuration)

    def teardown(self) -> None:
        if not hasattr(self, "cell"):
            return
        self.cell.cut.clear()
        for member in sorted(self.incarnations):
            if member not in self.cell.cores:
                self.cell.restart(member, self.incarnations[member])
        if self._has_quorum():
            self.cell.advance_until(self._is_whole_again, limit_ms=120_000)

    def _has_quorum(self) -> bool:
        """Whether the drawn faults stayed within the bound: the members with a present memory are a quorum."""
        latest = self.cell.checkers.membership.latest
        present = [member for member, known in latest.incarnations.items() if self.incarnations[member] == known]
        return len(present) >= latest.rule.needed

    def _is_whole_again(self) -> bool:
        self._rejoin()
        latest = self.cell.checkers.membership.latest
        return len(latest.servers) == len(self.cell.nodes) and all(
            node.configuration == latest and node.leader is not None and not node.undelivered_count
            for node in self.cell.nodes
        )

    def _rejoin(self) -> None:
        """What an operator does: bring back who was removed, and have learners join."""
        for node in self.cell.learners():
            number, incarnation = node.identity.member.number, node.identity.incarnation
            if node.is_removed:
                self._forget(node.identity.member)
            else:
                self.cell.propose_change(node.identity.member, ServerJoined(number, incarnation, b""))


AgreementMachine.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestAgreement = AgreementMachine.TestCase
