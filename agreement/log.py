"""The decided log, folded into the order: at most once, gap-free per origin, one log per configuration.

Source: design "Agreement stage", A1 to A3 and Configurations.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple

from agreement.changes import Batch, Change, Entry, ServerJoined, ServerLeft, WitnessReplaced
from agreement.configuration import Configuration
from agreement.identifiers import number_follows
from agreement.output import Delivery
from agreement.records import BaseRecord


class LogState(NamedTuple):
    """The order up to a slot boundary; all that decides what the next batch does."""

    configuration: Configuration
    next_slot: int
    """In `configuration`."""
    sequence: int
    """Of the last entry delivered."""
    origins: dict[int, int]
    """Per server of the configuration the last number delivered; missing for none.  Never changed in place."""

    def record(self) -> BaseRecord:
        """As stored and sent."""
        return BaseRecord(self.configuration, self.next_slot, self.sequence, tuple(sorted(self.origins.items())))

    @classmethod
    def of_record(cls, record: BaseRecord) -> "LogState":
        """The reverse of `record`."""
        return cls(record.configuration, record.next_slot, record.sequence, dict(record.origins))

    @property
    def position(self) -> tuple[int, int]:
        """`(configuration, next slot)`: grows with the order."""
        return self.configuration.number, self.next_slot


def fold(state: LogState, batch: Batch) -> tuple[LogState, list[Delivery]]:
    """What the next batch delivers, and the state after it.

    An entry is dropped, and takes no sequence number, if its origin is not in the configuration (any more) or if its
    number is not the origin's next one: a duplicate, or one whose predecessor was lost with an old leader.
    """
    sequence, origins = state.sequence, state.origins
    deliveries: list[Delivery] = []
    if batch.entries:
        origins = dict(origins)
        sequence = _fold_entries(state.configuration, batch.entries, sequence, origins, deliveries)
    if batch.change is None:
        return LogState(state.configuration, state.next_slot + 1, sequence, origins), deliveries
    sequence += 1
    deliveries.append(Delivery(sequence, batch.change))
    following = state.configuration.after(batch.change)
    return LogState(following, 0, sequence, _origins_after(batch.change, origins)), deliveries


def _fold_entries(
    configuration: Configuration,
    entries: Iterable[Entry],
    sequence: int,
    origins: dict[int, int],
    deliveries: list[Delivery],
) -> int:
    incarnations = dict(configuration.servers)
    for entry in entries:
        server, number = entry.server, entry.number
        last = origins.get(server, 0)
        if (number == last + 1 or number_follows(number, last)) and incarnations.get(server) == entry.incarnation:
            origins[server] = number
            sequence += 1
            deliveries.append(Delivery(sequence, entry))
    return sequence


def _origins_after(change: Change, origins: dict[int, int]) -> dict[int, int]:
    match change:
        case ServerLeft(server=server) | ServerJoined(server=server):
            return {origin: number for origin, number in origins.items() if origin != server}
        case WitnessReplaced():
            return origins


class _Boundary(NamedTuple):
    """A decided batch, and the state after it."""

    raw: bytes
    after: LogState


_BOUNDARY_BYTES = 704
"""What keeping one decided batch costs beside its bytes, measured with two origins; so that empty batches count too."""


class Log:
    """The present state of the order, and the decided batches behind it that are kept in memory for others."""

    def __init__(self, base: LogState, history_bytes_max: int) -> None:
        self.state = base
        self.base = base
        """What a restart begins with."""
        self.skip_through = 0
        """Entries up to this sequence number are covered by a snapshot and are not delivered."""
        self._above_base: deque[LogState] = deque()
        """The state after each slot above `base`."""
        self._history: OrderedDict[tuple[int, int], _Boundary] = OrderedDict()
        """By position; the newest ones, gap-free, ending at `state`."""
        self._history_start = base
        self._history_bytes = 0
        self._history_bytes_max = history_bytes_max

    @property
    def decided(self) -> int:
        """Highest slot of the present configuration up to which everything is decided; -1 for none."""
        return self.state.next_slot - 1

    @property
    def delivered(self) -> int:
        """Highest sequence number delivered."""
        return max(self.state.sequence, self.skip_through)

    @property
    def sequence_min(self) -> int:
        """A snapshot must cover at least this sequence number to be of use to a server that lags."""
        return self._history_start.sequence

    @property
    def history_bytes(self) -> int:
        """What the decided batches kept in memory cost."""
        return self._history_bytes

    def append(self, raw: bytes, batch: Batch) -> list[Delivery]:
        """Decide the next slot; what is to be delivered."""
        position = self.state.position
        self.state, deliveries = fold(self.state, batch)
        self._above_base.append(self.state)
        self._history[position] = _Boundary(raw, self.state)
        self._history_bytes += len(raw) + _BOUNDARY_BYTES
        while self._history_bytes > self._history_bytes_max:
            self._drop_oldest()
        if deliveries and deliveries[0].sequence <= self.skip_through:
            deliveries = [delivery for delivery in deliveries if delivery.sequence > self.skip_through]
        return deliveries

    def release(self, needed_from: tuple[int, int], bytes_kept: int) -> None:
        """Nobody is known to lack what is before the position `needed_from`: keep `bytes_kept` of it, for surprises."""
        while self._history_bytes > bytes_kept and next(iter(self._history)) < needed_from:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, boundary = self._history.popitem(last=False)
        self._history_bytes -= len(boundary.raw) + _BOUNDARY_BYTES
        self._history_start = boundary.after

    def compact(self, sequence: int) -> bool:
        """Move `base` to the last boundary that has nothing above `sequence`; whether it moved."""
        old = self.base
        states = self._above_base
        while states and states[0].sequence <= sequence:
            self.base = states.popleft()
        return self.base is not old

    def install(self, state: LogState, sequence: int) -> None:
        """Go on from a snapshot: `state` is a slot boundary, the application covers everything up to `sequence`.

        `base` stays until `compact` says that the application's copy is durable.
        """
        assert state.position > self.state.position, "a snapshot goes forward"
        assert sequence >= state.sequence, "the application covers the boundary"
        self.state = self._history_start = state
        self.skip_through = sequence
        self._above_base = deque([state])
        self._history.clear()
        self._history_bytes = 0

    def read_from(self, position: tuple[int, int], bytes_max: int) -> list[bytes] | None:
        """Decided batches of one configuration from `position` on: as many as fit, at least one if there is one.

        None if they are not kept any more.
        """
        if position >= self.state.position:
            return []
        batches: list[bytes] = []
        number, slot = position
        size = 0
        while (boundary := self._history.get((number, slot))) is not None:
            size += len(boundary.raw)
            if batches and size > bytes_max:
                break
            batches.append(boundary.raw)
            slot += 1
        return batches or None

    def entries_after(self, position: tuple[int, int]) -> int | None:
        """How many entries follow `position`, but for those of the batch there; None if that is not kept any more."""
        if position >= self.state.position:
            return 0
        boundary = self._history.get(position)
        return None if boundary is None else self.state.sequence - boundary.after.sequence

    def state_at(self, sequence: int) -> LogState | None:
        """The last boundary that has nothing above `sequence`, if the log from there on is kept; or None."""
        if not self.sequence_min <= sequence <= self.delivered:
            return None
        found = self._history_start
        for boundary in self._history.values():
            if boundary.after.sequence > sequence:
                break
            found = boundary.after
        return found
