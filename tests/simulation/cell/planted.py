"""Rules taken out, one at a time, to see that a checker of the simulation finds each.

A mistake is planted by giving a part of a server's core a subclass that leaves its rule out.
"""

from collections.abc import Mapping
from typing import Any

from exec_wrapper.wire import Execute, Executed, StatePart, ToWrapper
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.client_table import ClientTable, Verdict
from replica_manager.cell.effects import Effect, RoleChanged
from replica_manager.cell.entries import Progress
from replica_manager.cell.roles import Role
from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import Feed, Power
from replica_manager.execution.request_log import RequestLog, RequestRecord
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.admission import Admission
from replica_manager.intake.port import ReplySink, Submission
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import StableNotice
from replica_manager.updates.retention import Retention
from replica_manager.updates.update_buffer import UpdateBuffer
from replica_manager.voting.catch_up import CatchUp
from replica_manager.voting.value_exchange import ValueExchange
from replica_manager.voting.voter import Voter
from tests.simulation.cell.canary import Canary, Plant, in_part
from tests.simulation.cell.planted_faults import FAULT_CANARIES, has
from tests.simulation.cell.planted_restarts import RESTART_CANARIES
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.fake_domain import FakeDomain


class BelievesTheFirst(Voter):
    """One vote is enough."""

    def record_vote(self, domain: DomainId, sequence: int, digest: bytes) -> None:
        """Count, then make stable whatever came."""
        super().record_vote(domain, sequence, digest)
        record = self._requests.get(sequence)
        if record is not None and record.stable_digest is None:
            self._make_stable(record, digest, ())


class LyingDomain(FakeDomain):
    """Replies wrongly to every write."""

    def _execute(self, frame: Execute) -> Executed:
        honest = super()._execute(frame)
        return Executed(honest.sequence, b"lie", honest.update) if honest.update else honest


def believe_the_first(server: SimulatedServer) -> None:
    """Plant a liar on server 0, and voters that believe it."""
    server.core.voter.__class__ = BelievesTheFirst
    if server.number == 0:
        liar = DomainId("s0.g1")
        server.domains[liar] = LyingDomain(liar)


class ForgetfulTable(ClientTable):
    """Takes a repetition for a new request."""

    def judge(self, client: ClientId, number: int, payload: bytes, sequence: int) -> Verdict:
        """Execute it again."""
        verdict = super().judge(client, number, payload, sequence)
        return Verdict(is_new=True) if verdict.repeats_sequence else verdict


class PrivateOpinion(CellState):
    """Has a server's own knowledge decide."""

    def _apply_progress(self, sequence: int, server: int, entry: Progress) -> tuple[Effect, ...]:
        effects = super()._apply_progress(sequence, server, entry)
        self.members[server].durable += 1
        return effects


def have_an_opinion(server: SimulatedServer) -> None:
    """Only one server has it."""
    if server.number == 1:
        server.core.cell.__class__ = PrivateOpinion


class KeepsValuesToItself(ValueExchange):
    """Neither asks nor sends."""

    def push(self, record: RequestRecord, output: CoreOutput) -> None:
        """Send nothing."""

    def maybe_ask(self, record: RequestRecord, output: CoreOutput) -> None:
        """Ask nobody."""

    def on_timer(self, now_ms: int, voter: Voter, output: CoreOutput) -> None:
        """Ask nobody."""


class KeepsEverything(Retention):
    """Drops nothing."""

    def drop(self) -> None:
        """Drop nothing."""


class HelpsTheHealthy(CatchUp):
    """Sends to peers that lack nothing, too."""

    def on_timer(
        self,
        now_ms: int,
        requests: RequestLog,
        buffer: UpdateBuffer,
        feeds: Mapping[DomainId, Feed],
        output: CoreOutput,
    ) -> None:
        """Send to everybody."""
        for server in self._peers:
            output.sends.append((server, StableNotice([buffer.prefix], bytes(32))))


class ForgetsOwnEntries(ManagerCore):
    """What agreement refuses is gone."""

    def on_proposal_refused(self, payload: bytes) -> None:
        """Answer a client; forget the rest."""
        self.admission.withdraw(self._output, payload)


class SkipsAtActivation(ManagerCore):
    """A domain is active from the present position, not from its cursor."""

    def _on_role_changed(self, effect: RoleChanged) -> None:
        feed = self.feeds.get(effect.domain)
        if feed is not None and effect.role is Role.ACTIVE:
            feed.cursor = self.requests.last + 1
        super()._on_role_changed(effect)


class FeedsSleepers(Feed):
    """Does not wait for the hypervisor."""

    def pump(self, requests: RequestLog, buffer: UpdateBuffer, out: list[ToWrapper]) -> None:
        """Hand out as if the domain were awake."""
        power = self.power
        if power is not Power.GONE:
            self.power = Power.RUNNING
        super().pump(requests, buffer, out)
        self.power = power


class HasSleepersExecute(Feed):
    """Treats a passive domain as an active one while it is awake."""

    def _step_passive(self, buffer: UpdateBuffer, out: list[ToWrapper]) -> bool:
        return self._step_active(self.requests, buffer, out)

    def pump(self, requests: RequestLog, buffer: UpdateBuffer, out: list[ToWrapper]) -> None:
        """Remember where requests are."""
        self.requests = requests
        super().pump(requests, buffer, out)


class ShortensRequests(Admission):
    """Orders something else than the client asked for; replies, votes and order agree on that perfectly."""

    def maybe_join(self, sink: ReplySink, submission: Submission) -> bool:
        """Compare as it was ordered."""
        return super().maybe_join(sink, _shortened(submission))

    def admit(self, output: CoreOutput, sink: ReplySink, submission: Submission, now_us: int, random: bytes) -> bytes:
        """Order without the last byte."""
        return super().admit(output, sink, _shortened(submission), now_us, random)


def _shortened(submission: Submission) -> Submission:
    is_get = submission.payload.startswith(b"get ")
    return submission if is_get else submission._replace(payload=submission.payload[:-1])


class StateOfItsOwn(FakeDomain):
    """Has something in its state that the others do not have."""

    def _state(self, point: int) -> Any:
        for part in super()._state(point):
            yield StatePart(part.point, part.index, part.is_last, part.data + self.name.encode())


def differ_in_state(server: SimulatedServer) -> None:
    """Every domain has its name in its state."""
    for domain in server.domains.values():
        domain.__class__ = StateOfItsOwn


def for_every_feed(planted: type[Feed]) -> Plant:
    """Plant in every feed of a server."""

    def plant(server: SimulatedServer) -> None:
        for feed in server.core.feeds.values():
            feed.__class__ = planted

    return plant


def trust_every_clock(server: SimulatedServer) -> None:
    """The leader lowers no timestamp."""
    server.lower_timestamp = lambda payload: payload  # type: ignore[method-assign]


def forget_own_entries(server: SimulatedServer) -> None:
    """See `ForgetsOwnEntries`."""
    server.core.__class__ = ForgetsOwnEntries


def skip_at_activation(server: SimulatedServer) -> None:
    """See `SkipsAtActivation`."""
    server.core.__class__ = SkipsAtActivation


def repeat_executions(server: SimulatedServer) -> None:
    """See `ForgetfulTable`."""
    server.core.cell.clients.__class__ = ForgetfulTable


CANARIES = {
    "believes-the-first": Canary(believe_the_first, "linearizable|only what is right"),
    "executes-twice": Canary(
        repeat_executions, "linearizable|state|vote|only what is right", lambda options: options.loss > 0
    ),
    "private-opinion": Canary(have_an_opinion, "cell state"),
    "keeps-values": Canary(in_part("values", KeepsValuesToItself), "rest", has("votes")),
    "keeps-everything": Canary(in_part("retention", KeepsEverything), "rest: .* kept"),
    "trusts-clocks": Canary(trust_every_clock, "leader's clock", lambda options: options.clock_steps > 1),
    "forgets-own-entries": Canary(
        forget_own_entries, "liveness|rest", lambda options: options.own_entries_max == 1 and options.domain_kills > 0
    ),
    "skips-at-activation": Canary(
        skip_at_activation, "can go on|liveness", lambda options: options.domain_kills + options.crashes > 0
    ),
    "helps-the-healthy": Canary(in_part("catch_up", HelpsTheHealthy), "quiet|no conviction"),
    "feeds-sleepers": Canary(for_every_feed(FeedsSleepers), "asleep"),
    "sleepers-execute": Canary(for_every_feed(HasSleepersExecute), "passive domains execute nothing"),
    "shortens-requests": Canary(in_part("admission", ShortensRequests), "client history"),
    "states-differ": Canary(differ_in_state, "checkpoints agree", lambda options: options.checkpoints > 0),
    **FAULT_CANARIES,
    **RESTART_CANARIES,
}
