"""What a member wants done: one frozen value, and the buffer it is made from.

The caller's order is fixed: hand `writes` to storage (in a worker thread; batches that come meanwhile may be merged,
in order), send `sends`, deliver `deliveries`, act on `events`, re-arm the timer.  Messages that rely on `writes` are
not in `sends`: they come out after `on_persisted(token)`.

Source: SPARE §4.2.4; design "Agreement stage", A4.
"""

from collections import deque
from dataclasses import dataclass

import msgspec

from agreement.changes import Change, Entry
from agreement.configuration import Configuration
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message
from agreement.storage import Write


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """The next entry of the agreed order."""

    sequence: int
    """1-based, dense; the same on every server."""
    entry: Entry | Change


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """This server now follows (or is) another leader, or none."""

    configuration: int
    leader: MemberId | None


@dataclass(frozen=True, slots=True)
class ConfigurationChanged:
    """A change was delivered; the members are these from now on."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class SnapshotWanted:
    """`member` lacks entries that are not kept here any more: call `provide_snapshot`, with a state that covers at
    least `sequence_min`; one that covers everything delivered is best."""

    member: MemberId
    sequence_min: int


@dataclass(frozen=True, slots=True)
class SnapshotInstalled:
    """Replace the application's state by `application`, which covers everything up to `sequence`; then, when that is
    durable, call `compact(sequence)`.  All deliveries of the same output, and later ones, are above `sequence`."""

    sequence: int
    application: bytes


@dataclass(frozen=True, slots=True)
class WitnessUsed:
    """The leader asks witnesses from now on, because `silent` servers do not answer."""

    silent: tuple[MemberId, ...]


@dataclass(frozen=True, slots=True)
class ServerSuspected:
    """The leader has not heard of `server` for `crash_timeout_ms`; said again once per that time while it lasts."""

    server: int
    silent_ms: int


@dataclass(frozen=True, slots=True)
class ServerRestarted:
    """A server of the configuration speaks with a new incarnation, or as one that starts: its former process ended."""

    server: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Removed:
    """This incarnation is in no configuration any more: rejoin with a new one."""

    configuration: int
    latest_incarnation: int
    """Of this server, that any configuration has named: the new one has to be higher."""


@dataclass(frozen=True, slots=True)
class RejoinNeeded:
    """In a cell without witnesses this server restarted while `peer` went on: rejoin with a new incarnation."""

    configuration: int
    peer: int


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """A change asked for is impossible, or not justified yet; `reason` is a sentence."""

    change: Change
    reason: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Something was refused because of a limit of `AgreementSettings`."""

    limit: str
    detail: str


Event = (
    LeaderChanged
    | ConfigurationChanged
    | SnapshotWanted
    | SnapshotInstalled
    | WitnessUsed
    | ServerSuspected
    | ServerRestarted
    | Removed
    | RejoinNeeded
    | ChangeRefused
    | LimitReached
)


@dataclass(frozen=True, slots=True)
class Output:
    """Everything that came out since the last one."""

    sends: tuple[tuple[MemberId, Message], ...] = ()
    """May go out at once."""
    writes: tuple[Write, ...] = ()
    """One atomic batch."""
    token: int | None = None
    """To give back when `writes` is durable; None if there are none.  Grows; a token stands for all smaller ones."""
    deliveries: tuple[Delivery, ...] = ()
    events: tuple[Event, ...] = ()


NOTHING = Output()


class Outbox:
    """Collects what a member wants done; holds back the messages that rely on writes that are not durable."""

    def __init__(self, own: Identity) -> None:
        self._own = own.member
        self._sends: list[tuple[MemberId, Message]] = []
        self._writes: list[Write] = []
        self._deliveries: list[Delivery] = []
        self._events: list[Event] = []
        self._held: deque[tuple[int, MemberId, Message]] = deque()
        self._token = 0
        self._persisted = 0
        self.local: deque[Message] = deque()
        """Messages of this member to itself, to be received before the caller gets control again."""

    def send(self, to: MemberId, message: Message) -> None:
        """Send as soon as the caller takes the output."""
        if to == self._own:
            self.local.append(message)
        else:
            self._sends.append((to, message))

    def send_when_durable(self, to: MemberId, message: Message) -> None:
        """Send once everything written so far is durable."""
        token = self.pending_token
        if token <= self._persisted:
            self.send(to, message)
        else:
            self._held.append((token, to, message))

    @property
    def pending_token(self) -> int:
        """The token that will stand for everything written so far."""
        return self._token + 1 if self._writes else self._token

    def is_durable(self, token: int) -> bool:
        """Whether everything up to `token` is durable."""
        return token <= self._persisted

    def write(self, write: Write) -> None:
        """Add to the batch of the next output."""
        self._writes.append(write)

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Hand entries to the application, in order."""
        self._deliveries += deliveries

    def report(self, event: Event) -> None:
        """Tell the caller."""
        self._events.append(event)

    def replace_deliveries(self, sequence: int) -> None:
        """Forget deliveries not taken yet: a snapshot covers everything up to `sequence`."""
        assert not self._deliveries or self._deliveries[-1].sequence <= sequence, "a snapshot goes forward"
        self._deliveries.clear()

    def persisted(self, token: int) -> None:
        """Everything up to `token` is durable: let go what waited for it."""
        assert token <= self._token, f"token {token} was never given out"
        self._persisted = max(self._persisted, token)
        held = self._held
        while held and held[0][0] <= self._persisted:
            _, to, message = held.popleft()
            self.send(to, message)

    def take(self) -> Output:
        """Everything collected, as one value."""
        if not (self._sends or self._writes or self._deliveries or self._events):
            return NOTHING
        token = None
        if self._writes:
            self._token += 1
            token = self._token
        output = Output(tuple(self._sends), tuple(self._writes), token, tuple(self._deliveries), tuple(self._events))
        for collected in (self._sends, self._writes, self._deliveries, self._events):
            collected.clear()
        return output
