"""One seed: a safety phase in which anything may happen, then a liveness phase in which everything must finish."""

import random
from dataclasses import dataclass

from agreement.identifiers import MemberId
from agreement.messages import ServerJoined, ServerLeft, WitnessReplaced
from agreement.node import Node
from tests.simulation.agreement.checkers import Violation
from tests.simulation.agreement.cluster import Cluster
from tests.simulation.agreement.faults import Faults, Operator
from tests.simulation.agreement.options import Options

LIVENESS_MS = 120_000
"""After the last fault everything must be done within this time."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a schedule came to."""

    seed: int
    options: Options
    delivered: int
    configurations: int
    departures: int
    joins: int
    witness_replacements: int
    recovered_after_ms: int
    """Virtual time from the last fault until everything was done."""


class Liveness(Violation):
    """Raised when the faults have ended and something still does not happen."""


class Clients:
    """Propose at random servers."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._count = 0
        self._is_over = False
        self._go_on()

    def stop(self) -> None:
        """Propose nothing any more."""
        self._is_over = True

    def _go_on(self) -> None:
        if self._is_over:
            return
        for _ in range(self._rng.choice((1, 1, 1, 3, 12))):
            self.propose_anywhere()
        interval_ms = self._cluster.options.proposal_interval_ms
        self._cluster.after(self._rng.randint(1, 2 * interval_ms), self._go_on)

    def propose_anywhere(self) -> None:
        """One entry at one running server."""
        servers = self._cluster.servers
        if servers:
            self._count += 1
            self._rng.choice(servers).propose(b"%d" % self._count)

    def propose_everywhere(self) -> None:
        """One entry at each running server."""
        for server in self._cluster.servers:
            self._count += 1
            server.propose(b"%d" % self._count)


def run_seed(
    seed: int,
    cluster_type: type[Cluster] = Cluster,
    options: Options | None = None,
    liveness_ms: int = LIVENESS_MS,
) -> Report:
    """Run one schedule.

    Raises:
        Violation: a promise was broken; `Liveness` if only progress is missing.
    """
    rng = random.Random(seed)
    drawn = Options.draw(rng)
    options = drawn if options is None else options
    cluster = cluster_type(options, random.Random(rng.getrandbits(32)))
    clients = Clients(cluster, random.Random(rng.getrandbits(32)))
    operator = Operator(cluster)
    faults = Faults(cluster, random.Random(rng.getrandbits(32)))
    cluster.run_until(options.safety_ms)
    faults.stop()
    clients.stop()
    operator.restarts_all = True
    recovered_after_ms = _run_liveness_phase(cluster, clients, liveness_ms)
    return _report(seed, cluster, recovered_after_ms)


def _run_liveness_phase(cluster: Cluster, clients: Clients, liveness_ms: int) -> int:
    began_ms = cluster.now_ms
    cluster.network.heal()
    cluster.network.is_perfect = True
    for process in list(cluster.processes.values()):
        process.resume()
    for member in sorted(cluster.disks):
        cluster.restart(member)
    if not cluster.run_until(began_ms + liveness_ms, lambda: _is_complete(cluster)):
        raise Liveness(f"not whole again: {_describe(cluster)}")
    clients.propose_everywhere()
    if not cluster.run_until(cluster.now_ms + liveness_ms, lambda: _is_quiet(cluster)):
        raise Liveness(f"entries are missing: {_describe(cluster)}")
    return cluster.now_ms - began_ms


def _is_complete(cluster: Cluster) -> bool:
    """Every server and witness is named with its present incarnation, and every server knows it."""
    latest = cluster.checkers.membership.latest
    witnesses = {MemberId.witness(number): incarnation for number, incarnation in latest.witnesses}
    named = dict(latest.incarnations) | witnesses
    nodes = cluster.nodes()
    return named == cluster.incarnations and all(node.configuration == latest and node.leader for node in nodes)


def _is_quiet(cluster: Cluster) -> bool:
    """Everything proposed by a present incarnation is delivered everywhere."""
    delivered = {node.delivered_sequence for node in cluster.nodes()}
    is_even = delivered == {len(cluster.checkers.order.history)}
    return is_even and _is_complete(cluster) and not any(node.undelivered_count for node in cluster.nodes())


def _describe(cluster: Cluster) -> str:
    lines = [f"latest {cluster.checkers.membership.latest}", f"incarnations {cluster.incarnations}"]
    lines += [
        f"{node.identity} {node.role.value} in {node.configuration.number}, leader {node.leader}, "
        f"delivered {node.delivered_sequence}, undelivered {node.undelivered_count}"
        for node in cluster.nodes()
    ]
    return "\n  ".join(lines)


def _report(seed: int, cluster: Cluster, recovered_after_ms: int) -> Report:
    history = cluster.checkers.order.history
    return Report(
        seed=seed,
        options=cluster.options,
        delivered=len(history),
        configurations=cluster.checkers.membership.latest.number,
        departures=sum(isinstance(entry, ServerLeft) for entry in history),
        joins=sum(isinstance(entry, ServerJoined) for entry in history),
        witness_replacements=sum(isinstance(entry, WitnessReplaced) for entry in history),
        recovered_after_ms=recovered_after_ms,
    )


__all__ = ["Clients", "Liveness", "Node", "Report", "run_seed"]
