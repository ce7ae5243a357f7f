"""Members of the agreement stage whose every message is carried, lost or held by the test; disks are instant."""

import random
from collections import deque
from collections.abc import Callable

from agreement.changes import Change, Entry
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message
from agreement.node import Node
from agreement.output import NOTHING
from agreement.settings import AgreementSettings
from agreement.witness import Witness

STEP_MS = 10

Lost = Callable[[MemberId, MemberId, Message], bool]


class AgreementBench:
    """A cell of `f + 1` servers and `f` witnesses; `is_lost` decides about every message."""

    def __init__(self, f: int = 1) -> None:
        """Start every member and let the first server lead."""
        settings = AgreementSettings()
        self.now_ms = 0
        servers = [MemberId.server(number) for number in range(f + 1)]
        witnesses = [MemberId.witness(number) for number in range(f)]
        members = [Identity(member, 1) for member in servers + witnesses]
        self.nodes = {m: Node.born(Identity(m, 1), settings, members, random.Random(m.number), 0) for m in servers}
        self.witnesses = {m: Witness.born(Identity(m, 1), settings, members, 0) for m in witnesses}
        self.delivered: dict[MemberId, list[Entry | Change]] = {member: [] for member in self.nodes}
        self.is_lost: Lost = lambda _sender, _receiver, _message: False
        self.down: set[MemberId] = set()
        self._wire: deque[tuple[MemberId, MemberId, Message]] = deque()
        self.run(100)

    def propose(self, server: int, payload: bytes) -> None:
        """Have an entry ordered, and carry what follows."""
        self.nodes[MemberId.server(server)].propose(payload, self.now_ms)
        self.settle()

    def payloads(self, server: int) -> list[bytes]:
        """What a server has delivered, without changes of the configuration."""
        return [entry.payload for entry in self.delivered[MemberId.server(server)] if isinstance(entry, Entry)]

    def run(self, ms: int) -> None:
        """Let time pass."""
        for _ in range(ms // STEP_MS):
            self.now_ms += STEP_MS
            for member in [*self.nodes, *self.witnesses]:
                core = self._core(member)
                due_ms = core.next_timer_ms()
                if member not in self.down and due_ms is not None and due_ms <= self.now_ms:
                    core.on_timer(self.now_ms)
            self.settle()

    def settle(self) -> None:
        """Carry messages until nothing is left to do."""
        is_busy = True
        while is_busy:
            is_busy = bool(self._wire)
            for member in [*self.nodes, *self.witnesses]:
                is_busy |= member not in self.down and self._turn(member)
            while self._wire:
                sender, receiver, message = self._wire.popleft()
                if receiver not in self.down and not self.is_lost(sender, receiver, message):
                    self._core(receiver).receive(sender, message, self.now_ms)

    def _core(self, member: MemberId) -> Node | Witness:
        return self.nodes[member] if member.is_server else self.witnesses[member]

    def _turn(self, member: MemberId) -> bool:
        core = self._core(member)
        output = core.take_output()
        if output is NOTHING:
            return False
        self._wire.extend((member, receiver, message) for receiver, message in output.sends)
        if output.deliveries:
            self.delivered[member] += [delivery.entry for delivery in output.deliveries]
        if output.token is not None:
            core.on_persisted(output.token, self.now_ms)
        return True
