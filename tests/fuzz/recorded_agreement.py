"""Agreement's traffic, recorded from real members in memory: election, requests, a silent server, its departure."""

import random

from agreement.changes import Batch, Entry, ServerJoined, ServerLeft, WitnessReplaced, encode_batch
from agreement.configuration import Configuration
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.messages import (
    Accept,
    Accepted,
    Announce,
    CatchUp,
    Decision,
    Forward,
    ForwardChange,
    Heartbeat,
    HeartbeatAck,
    LogPart,
    Message,
    Nack,
    Prepare,
    Promise,
    Release,
    Released,
    Resume,
    SnapshotPart,
    SnapshotPull,
    Starting,
    Superseded,
    VoteReport,
)
from agreement.node import Node
from agreement.settings import AgreementSettings
from agreement.witness import Witness

S0, S1, W0 = MemberId.server(0), MemberId.server(1), MemberId.witness(0)
MEMBERS = [Identity(member, 1) for member in (S0, S1, W0)]
SETTINGS = AgreementSettings(crash_timeout_ms=2000, startup_grace_ms=1000)
STEP_MS = 50
SILENT_STEPS = 400
OF_A_KIND_MAX = 8
"""A long silence is mostly heartbeats; they would crowd out the rest."""


class _Members:
    """Two servers and a witness that hear each other at once."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.recorded: dict[Message, None] = {}
        self.deaf: set[MemberId] = set()
        self.members: dict[MemberId, Node | Witness] = {
            S0: Node.born(MEMBERS[0], SETTINGS, MEMBERS, random.Random(0), 0),
            S1: Node.born(MEMBERS[1], SETTINGS, MEMBERS, random.Random(1), 0),
            W0: Witness.born(MEMBERS[2], SETTINGS, MEMBERS, 0),
        }

    def run(self, steps: int) -> None:
        """Let time pass."""
        for _ in range(steps):
            self.now_ms += STEP_MS
            for member in self.members.values():
                member.on_timer(self.now_ms)
            while sum(self._drain(own) for own in self.members):
                pass

    def _drain(self, own: MemberId) -> bool:
        member = self.members[own]
        output = member.take_output()
        if output.token is not None:
            member.on_persisted(output.token, self.now_ms)
        for target, message in output.sends:
            self.recorded[message] = None
            if not self.deaf & {own, target}:
                self.members[target].receive(own, message, self.now_ms)
        return bool(output.sends) or output.token is not None

    def propose(self, payloads: list[bytes]) -> None:
        """Have both servers propose."""
        for index, payload in enumerate(payloads):
            node = self.members[(S0, S1)[index % 2]]
            assert isinstance(node, Node)
            node.propose(payload, self.now_ms)


def record_agreement(payloads: list[bytes]) -> list[Message]:
    """Return distinct messages of a short life of a cell that orders `payloads`."""
    members = _Members()
    members.run(100)
    members.propose(payloads)
    members.run(20)
    members.deaf = {S1}
    members.propose(payloads[::2])
    members.run(SILENT_STEPS)
    members.deaf = set()
    members.run(20)
    kept: dict[str, list[Message]] = {}
    for message in members.recorded:
        kept.setdefault(type(message).__name__, []).append(message)
    return [message for messages in kept.values() for message in messages[-OF_A_KIND_MAX:]]


def rare_messages(payloads: list[bytes]) -> list[Message]:
    """Return one message of every kind, with every optional field set."""
    configuration = Configuration(2, ((0, 1), (1, 7)), ((0, 1),), ((1, 1),))
    ballot = Ballot(3, S1)
    entries = tuple(Entry(number % 2, 1, number + 1, payload) for number, payload in enumerate(payloads))
    batches = [
        encode_batch(Batch(entries, change))
        for change in (None, ServerLeft(1, True), ServerJoined(1, 7, b"joiner"), WitnessReplaced(0, 9))
    ]
    return [
        Prepare(2, 1, ballot, 17, configuration),
        Promise(2, 1, ballot, 16, 0, 2, (VoteReport(17, ballot, batches[0]), VoteReport(18, ballot, batches[1]))),
        *(Accept(2, 1, ballot, 17, 20, 19, batch, configuration, 15) for batch in batches),
        Accepted(2, 1, ballot, 17, 20),
        Nack(2, 1, ballot, Ballot(4, S0)),
        Decision(2, 1, ballot, 20),
        Forward(2, 1, entries),
        ForwardChange(2, 1, ServerJoined(1, 7, b"joiner")),
        Heartbeat(2, 1, ballot, 20, 5),
        HeartbeatAck(2, 1, ballot, 5, 17, 20, 19, 2),
        CatchUp(2, 1, 3),
        LogPart(2, 1, 3, tuple(batches), True, S1),
        SnapshotPart(2, 1, 77, 1000, 1, 3, b"state " * 20),
        SnapshotPull(2, 1, 77, 2),
        Superseded(2, 1, configuration),
        Release(2, 1, configuration, 15),
        Released(2, 1, 15),
        Announce(2, 9),
        Starting(2, 1, 1 << 60, ((1, 1 << 59),)),
        Resume(2, 1, 1 << 60, ((0, 5), (1, 1 << 59))),
    ]
