"""One simulated run: draw options from the seed, let things go wrong, stop that, see everything finish, check."""

from dataclasses import asdict
from typing import Any

from agreement.identifiers import Identity, MemberId
from tests.simulation.cell import checkers, domain_checkers, rest
from tests.simulation.cell.canary import Plant
from tests.simulation.cell.checkers import Model
from tests.simulation.cell.client import SimulatedClient
from tests.simulation.cell.faults import Faults
from tests.simulation.cell.history import History
from tests.simulation.cell.member import SimulatedWitness
from tests.simulation.cell.network import Network, NetworkFaults
from tests.simulation.cell.options import CLIENT_TABLE_ENTRIES_MAX, Options, draw_options
from tests.simulation.cell.rules import RuleBroken
from tests.simulation.cell.server import SimulatedServer
from tests.simulation.cell.world import World

SAFETY_PHASE_US = 6_500_000
LIVENESS_PHASE_US = 60_000_000
REST_US = 40_000_000
"""Time to declare a server crashed, to report and drop what need not be kept, and to restore redundancy."""
NUDGE_US = 10_000_000
SETTLING_US = 400_000
"""What was ordered last is delivered everywhere by then."""
QUIET_US = 600_000
"""Managers at rest have nothing to say to each other."""


class Run:
    """A cell and its clients under one seed."""

    def __init__(self, seed: int, options: Options, plant: Plant | None = None) -> None:
        """Boot the cell."""
        self.options = options
        self.world = World(seed)
        self.history = History()
        faults = NetworkFaults(options.loss, options.duplication, spike=options.spike)
        self.network = Network(self.world, faults)
        self.network.on_healed = self._healed
        servers = [MemberId.server(number) for number in range(options.f + 1)]
        witnesses = [MemberId.witness(number) for number in range(options.f)]
        members = [Identity(member, 1) for member in servers + witnesses]
        settings = options.agreement_settings()
        self.witnesses = [SimulatedWitness(self.world, self.network, own, settings, members) for own in witnesses]
        self.servers = [
            SimulatedServer(self.world, self.network, own.number, members, options, self.history, plant)
            for own in servers
        ]
        for server in self.servers:
            server.peers = self.servers
        self.clients = [
            SimulatedClient(
                self.world, self.servers, self.history, f"c{number}", options.requests_per_client, options.think_us
            )
            for number in range(options.clients)
        ]
        self.faults = Faults(
            self.world, self.network, self.servers, self.witnesses, self.clients, options, self.history
        )

    def _healed(self, sender: MemberId, receiver: MemberId) -> None:
        for server in self.servers:
            if server.own in (sender, receiver):
                server.on_link_new(receiver if server.own == sender else sender)

    # -- phases ------------------------------------------------------------------------------------------------

    def _is_finished(self) -> bool:
        return all(client.is_done for client in self.clients)

    def go(self) -> None:
        """Run both phases and the checkers."""
        self.world.run_until(SAFETY_PHASE_US, self._is_quietly_finished)
        domain_checkers.check_can_go_on(self.live, self.history)
        self.network.heal_all()
        is_finished = not self._is_lost() and self.world.run_until(
            self.world.now_us + LIVENESS_PHASE_US, lambda: self._is_finished() or self._is_lost()
        )
        if self._is_lost():
            self.history.event(-1, "lost")
            domain_checkers.check_held(self.history)
            self.world.run_until(self.world.now_us + REST_US, lambda: False)
            self.check_safety()
            return
        if not is_finished:
            waiting = [client for client in self.clients if not client.is_done]
            raise RuleBroken(f"liveness: {len(waiting)} of {len(self.clients)} clients wait")
        domain_checkers.check_can_go_on(self.live, self.history)
        self.world.run_until(self.world.now_us + SETTLING_US, lambda: False)
        self._come_to_rest()
        self.check()
        sent, ordered = self.history.manager_messages, len(self.history.longest_order)
        self.world.run_until(self.world.now_us + QUIET_US, lambda: False)
        rest.check_quiet(
            self.history.manager_messages - sent, self.history.longest_order[ordered:], self.history.faulty
        )

    def _come_to_rest(self) -> None:
        """Whoever is to be demoted waits until those who stay have voted, so now and then there is a request."""
        for _ in range(REST_US // NUDGE_US):
            if self.world.run_until(self.world.now_us + NUDGE_US, self._is_at_rest):
                return
            self.clients[0].send_one_more()
        self.world.run_until(self.world.now_us + NUDGE_US, self._is_at_rest)

    def _is_quietly_finished(self) -> bool:
        return self.faults.pending_count == 0 and not self.faults.budget.is_poisoned and self._is_finished()

    def _is_lost(self) -> bool:
        """Whether a request killed more domains than the cell can go on without: it answers nothing then."""
        return self.faults.operator.has_lost

    def _is_at_rest(self) -> bool:
        lost = self.faults.budget.lost
        up = [server.number for server in self.live]
        if up != [server.number for server in self.servers if server.number not in lost]:
            return False
        has_settled = all(list(server.core.cell.live_servers) == up for server in self.live)
        return has_settled and all(rest.unrest(server, self.options) is None for server in self.live)

    @property
    def live(self) -> list[SimulatedServer]:
        """Servers that run."""
        return [server for server in self.servers if server.is_up]

    def check(self) -> None:
        """Apply every checker."""
        self.check_safety()
        domain_checkers.check_retirement(self.live, self.history)
        rest.check_rest(self.servers, self.faults.budget.lost, self.options)

    def check_safety(self) -> None:
        """Apply the checkers of what must hold even when the bound was exceeded."""
        checkers.check_order(self.history)
        checkers.check_at_most_once(self.history)
        model = Model(self.history, self.options.f, CLIENT_TABLE_ENTRIES_MAX)
        checkers.check_linearizable(self.history, model)
        checkers.check_client_history(self.history)
        checkers.check_timestamps(self.history, model)
        checkers.check_cell_states(self.live)
        checkers.check_stable(self.history, model)
        checkers.check_exports(self.history, model)
        domain_checkers.check_domains(self.live, self.history, model)
        domain_checkers.check_only_updates(self.live, self.history)
        domain_checkers.check_points(self.live, self.history)
        domain_checkers.check_no_accusation(self.history)
        domain_checkers.check_kept_without_proof(self.history)


def run_seed(seed: int, plant: Plant | None = None) -> dict[str, Any]:
    """Run one seed; return what happened.

    Raises:
        RuleBroken: with the seed and the options in its notes.
    """
    options = draw_options(seed)
    run = Run(seed, options, plant)
    try:
        run.go()
    except Exception as error:
        error.add_note(f"seed {seed}: {options}")
        raise
    return {
        "seed": seed,
        "options": asdict(options),
        "events": {kind: count for kind, count in run.history.events.items() if count},
        "faulty": dict(run.history.faulty),
        "requests": len(run.history.operations),
        "world_events": run.world.event_count,
        "virtual_s": run.world.now_us / 1e6,
    }


__all__ = ["CLIENT_TABLE_ENTRIES_MAX", "Options", "Plant", "Run", "draw_options", "run_seed"]
