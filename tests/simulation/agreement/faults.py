"""What goes wrong during the safety phase, and the operator who brings members back."""

import random

from agreement.context import Role
from agreement.identifiers import MemberId
from agreement.node import Node
from tests.simulation.agreement.cluster import Cluster

OPERATOR_INTERVAL_MS = 500


class Faults:
    """Draws one fault after the other until `stop`."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._is_over = False
        self._actions = [
            (self._crash_and_restart, 6),
            (self._isolate_server, 4),
            (self._turn_partition, 5),
            (self._cut_one_way, 4),
            (self._heal, 4),
            (self._pause, 3),
            (self._stall_disk, 2),
            (self._lose_memory, 3),
            (self._order_departure, 2),
            (self._crash_several, 1),
        ]
        self._schedule_next()

    def stop(self) -> None:
        """Let nothing go wrong any more."""
        self._is_over = True

    def _schedule_next(self) -> None:
        interval_ms = self._cluster.options.fault_interval_ms
        self._cluster.after(self._rng.randint(1, 2 * interval_ms), self._strike)

    def _strike(self) -> None:
        if self._is_over:
            return
        actions, weights = zip(*self._actions, strict=True)
        self._rng.choices(actions, weights)[0]()
        self._schedule_next()

    def _any_member(self) -> MemberId:
        return self._rng.choice(sorted(self._cluster.disks))

    def _any_server(self) -> MemberId:
        return self._rng.choice([member for member in sorted(self._cluster.disks) if member.is_server])

    def _crash_and_restart(self) -> None:
        self._down_for(self._any_member(), self._rng.choice((1, 300, 3_000)))

    def _crash_several(self) -> None:
        for member in sorted(self._cluster.disks):
            if self._rng.random() < 0.7:
                self._down_for(member, self._rng.choice((1, 1_000)))

    def _down_for(self, member: MemberId, duration_ms: int) -> None:
        self._cluster.crash(member)
        self._cluster.after(duration_ms, lambda: self._cluster.restart(member))

    def _pause(self) -> None:
        process = self._cluster.processes.get(self._any_member())
        if process is not None:
            process.pause()
            self._cluster.after(self._rng.choice((100, 700, 3_000)), process.resume)

    def _stall_disk(self) -> None:
        process = self._cluster.processes.get(self._any_member())
        if process is not None:
            process.stall_disk(self._rng.choice((200, 1_000, 5_000)))

    def _isolate_server(self) -> None:
        """Cut one server from the other servers, but not from the witnesses."""
        server = self._any_server()
        others = [member for member in self._cluster.disks if member.is_server]
        self._cluster.network.heal()
        self._cluster.network.cut([server], others)
        self._cluster.network.cut(others, [server])

    def _turn_partition(self) -> None:
        """Split all members into two sides anew: the witnesses may come to the other one."""
        sides: tuple[list[MemberId], list[MemberId]] = ([], [])
        for member in sorted(self._cluster.disks):
            sides[self._rng.randrange(2)].append(member)
        self._cluster.network.split(sides)

    def _cut_one_way(self) -> None:
        sender, receiver = self._any_member(), self._any_member()
        self._cluster.network.cut([sender], [receiver])

    def _heal(self) -> None:
        self._cluster.network.heal()

    def _lose_memory(self) -> None:
        member = self._any_member()
        if self._cluster.may_lose_memory(member):
            self._cluster.lose_memory(member)

    def _order_departure(self) -> None:
        if self._cluster.options.has_witnesses:
            self._cluster.order_departure(self._any_server(), self._any_server())


class Operator:
    """Brings back who has left: with an empty disk and a new incarnation, as a learner that asks to join."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._starting_since: dict[MemberId, int] = {}
        self.restarts_all = False
        """Whether every member that does not run is started again: one may have been fenced."""
        self._act()

    def _act(self) -> None:
        for member in sorted(self._cluster.disks) if self.restarts_all else ():
            self._cluster.restart(member)
        for process in list(self._cluster.servers):
            if process.is_rejoin_wanted:
                self._cluster.lose_memory(process.identity.member)
            else:
                process.maybe_ask_to_join()
                self._maybe_vouch(process.identity.member)
        self._cluster.after(OPERATOR_INTERVAL_MS, self._act)

    def _maybe_vouch(self, member: MemberId) -> None:
        """Without witnesses: a cell that waits for a server whose memory is gone needs somebody to say so."""
        cluster = self._cluster
        node = cluster.processes[member].node
        if not isinstance(node, Node) or node.role is not Role.STARTING:
            self._starting_since.pop(member, None)
            return
        since_ms = self._starting_since.setdefault(member, cluster.now_ms)
        lost = [number for number, incarnation in node.configuration.servers
                if cluster.incarnations[MemberId.server(number)] != incarnation]  # fmt: skip
        if lost and cluster.now_ms - since_ms > 5_000:
            del self._starting_since[member]
            cluster.crash(member)
            cluster.restart(member, vouched=tuple(lost))
