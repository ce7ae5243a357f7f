"""What the parts of one server share: its identity, its log, its votes, its role, the present time.

The parts (`voting`, `electing`, `leading`, `learning`, `origin`, `changing`) are objects of their own; each changes
its own state and what is here, and `node` passes every input to the one that is concerned.
"""

import random
from enum import Enum

from agreement.acceptor import Acceptor
from agreement.configuration import Configuration
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.log import Log
from agreement.messages import Message
from agreement.output import Outbox
from agreement.proposer import Campaign, Proposer
from agreement.records import StoredConfiguration
from agreement.settings import AgreementSettings
from agreement.tally import Tally


class Role(Enum):
    """What a server does at present."""

    STARTING = "starting"
    """Without witnesses, after a restart: neither votes nor proposes until all servers have started."""
    LEARNER = "learner"
    """In no configuration: only learns what is decided."""
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Context:
    """The shared state of one server."""

    def __init__(
        self,
        identity: Identity,
        settings: AgreementSettings,
        cell: Configuration,
        log: Log,
        rng: random.Random,
        now_ms: int,
    ) -> None:
        self.identity = identity
        self.own: MemberId = identity.member
        self.settings = settings
        self.cell = cell
        """The configuration that the cell was born with: names every server and witness that there is."""
        self.log = log
        self.rng = rng
        self.now_ms = now_ms
        self.started_ms = now_ms
        self.outbox = Outbox(identity)
        self.role = Role.LEARNER
        self.leader: MemberId | None = None
        self.leader_ballot: Ballot | None = None
        """The ballot in which `leader` leads."""
        self.ballot: Ballot | None = None
        """The ballot of the own campaign or leadership."""
        self.campaign: Campaign | None = None
        self.proposer: Proposer | None = None
        self.fenced: set[MemberId] = set()
        """Servers of this configuration that have surely stopped for ever; of use only without witnesses."""
        self.is_removed = False
        """A later configuration does not name this incarnation."""
        self.gap: tuple[int, int] | None = None
        """Where a snapshot that is not durable yet left the log."""
        self.decided_written = -1
        """The highest decided slot that a record written so far tells of."""
        self.stored: dict[int, StoredConfiguration] = {}
        """What was found in the storage about configurations that are not reached yet."""
        self.enter(log.state.configuration)

    def enter(self, configuration: Configuration, stored: StoredConfiguration | None = None) -> None:
        """Take up the log of `configuration` with the votes that were stored for it."""
        number = configuration.number
        self.configuration = configuration
        self.acceptor = Acceptor(number, stored, self.log.decided)
        self.tally = Tally()
        self.decided_written = -1
        self.fenced.clear()
        self.is_member = configuration.names(self.identity) and not self.is_removed
        self.peers = tuple(member for member in configuration.server_ids if member != self.own)
        self.set_rule()

    def set_rule(self) -> None:
        """Recompute the quorum rule, after `configuration` or `fenced` changed."""
        rule = self.configuration.rule
        self.rule = rule.without(self.fenced) if self.fenced and not self.configuration.witnesses else rule

    @property
    def number(self) -> int:
        """Number of the present configuration."""
        return self.configuration.number

    @property
    def durable_configuration(self) -> int:
        """Where a restart would begin, once everything written so far is durable."""
        return self.number if self.gap is None else self.gap[0]

    @property
    def decided_durable(self) -> int:
        """Up to which slot a restart would know everything decided, once everything written so far is durable."""
        if self.gap is None:
            return self.decided_written
        return min(self.decided_written, self.gap[1] - 1) if self.gap[0] == self.number else -1

    def send_to_peers(self, message: Message) -> None:
        """Send to every other server of the configuration."""
        for peer in self.peers:
            self.outbox.send(peer, message)
