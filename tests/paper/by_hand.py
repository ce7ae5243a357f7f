"""An acceptor that is asked one thing at a time, and the few ways to move single messages of a cell."""

from agreement.changes import Batch, Entry, encode_batch
from agreement.configuration import Configuration
from agreement.identifiers import Ballot, Identity, MemberId
from agreement.messages import Accept, Message, Prepare
from agreement.output import Output
from agreement.records import PREFIX, PREFIX_END
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from tests.agreement.local_cell import LocalCell
from tests.simulation.fake_storage import FakeStableStorage

S0, S1, S2 = (MemberId.server(number) for number in range(3))
W0, W1 = (MemberId.witness(number) for number in range(2))
MEMBERS = [Identity(S0, 1), Identity(S1, 1), Identity(W0, 1)]
CELL = Configuration.first(MEMBERS)

MessageKind = type[Message]


def batch_of(text: bytes) -> bytes:
    """An encoded batch of one entry."""
    return encode_batch(Batch((Entry(0, 1, 1, text),)))


def prepare(ballot: Ballot, configuration: Configuration = CELL) -> Prepare:
    """Phase 1a for all slots."""
    return Prepare(configuration.number, 1, ballot, 0, configuration)


def accept(ballot: Ballot, slot: int, text: bytes) -> Accept:
    """Phase 2a for one slot."""
    return Accept(1, 1, ballot, 0, slot, -1, batch_of(text), CELL)


class AcceptorByHand:
    """The acceptor of a cell of two servers and a witness; between two questions no leader counts as living."""

    def __init__(self) -> None:
        self.storage = FakeStableStorage(is_synced=False)
        self.now_ms = 0
        self._core = Witness.born(Identity(W0, 1), AgreementSettings(), MEMBERS, self.now_ms)
        self.persist(self._take())

    def ask(self, message: Message) -> list[Message]:
        """What the acceptor answers in the end."""
        at_once = self.ask_only(message)
        return [answer for _, answer in (*at_once.sends, *self.persist(at_once).sends)]

    def ask_only(self, message: Message) -> Output:
        """What comes out before anything is durable."""
        self.now_ms += 10_000
        sender = message.ballot.member if isinstance(message, Prepare | Accept) else S0
        self._core.receive(sender, message, self.now_ms)
        return self._take()

    def _take(self) -> Output:
        output = self._core.take_output()
        if output.token is not None:
            self.storage.write(output.writes)
        return output

    def persist(self, output: Output) -> Output:
        """Make the writes of an output durable; what comes out then."""
        self.storage.sync(self.storage.unsynced_count)
        if output.token is not None:
            self._core.on_persisted(output.token, self.now_ms)
        return self._core.take_output()

    def restart(self) -> None:
        """End the process and start it with what is durable."""
        content = list(self.storage.scan_durable(PREFIX, PREFIX_END))
        self._core = Witness.recovered(Identity(W0, 1), AgreementSettings(), MEMBERS, content, self.now_ms)
        self.persist(self._take())


def deliver_all(
    cell: LocalCell, kind: MessageKind, *, sender: MemberId | None = None, receiver: MemberId | None = None
) -> int:
    """Deliver every message of this kind that is under way now; how many."""
    chosen = [flight for flight in cell.pool if _fits(flight, kind, sender, receiver)]
    for flight in chosen:
        cell.deliver(cell.pool.index(flight))
    return len(chosen)


def sent(
    cell: LocalCell, kind: MessageKind, *, sender: MemberId | None = None, receiver: MemberId | None = None
) -> list[Message]:
    """Every message of this kind that ever left a member."""
    return [flight[2] for flight in cell.sent if _fits(flight, kind, sender, receiver)]


def _fits(
    flight: tuple[MemberId, MemberId, Message], kind: MessageKind, sender: MemberId | None, receiver: MemberId | None
) -> bool:
    return isinstance(flight[2], kind) and sender in (None, flight[0]) and receiver in (None, flight[1])


def elected_cell(tolerated_faults: int = 1, settings: AgreementSettings | None = None) -> LocalCell:
    """A cell that server 0 leads, with nothing under way."""
    cell = LocalCell(tolerated_faults, settings=settings)
    assert cell.elect().identity.member == S0
    cell.run()
    return cell


def sync_all(cell: LocalCell) -> None:
    """Make everything durable that anybody has written; deliver nothing."""
    for member in sorted(cell.tokens):
        cell.sync(member)


def start_campaign(cell: LocalCell, member: MemberId) -> None:
    """Let a server find its leader silent for long enough."""
    node = cell.node(member)
    due_ms = node.next_timer_ms()
    while not sent(cell, Prepare, sender=member) and due_ms is not None:
        cell.now_ms = max(cell.now_ms, due_ms)
        node.on_timer(cell.now_ms)
        cell.pump(member)
        cell.sync(member)
        due_ms = node.next_timer_ms()
