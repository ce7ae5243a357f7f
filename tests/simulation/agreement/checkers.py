"""What must hold of every schedule, told from the deliveries alone."""

import hashlib
from collections.abc import Iterable

import msgspec

from agreement.changes import Change, Entry
from agreement.configuration import Configuration
from agreement.identifiers import Identity, number_follows
from agreement.output import Delivery

_encode = msgspec.msgpack.Encoder().encode


class Violation(AssertionError):
    """Raised by a checker: the schedule has broken a promise of the agreement stage."""


class TwoHistories(Violation):
    """Raised when the cell has split: two servers have delivered different entries under one sequence number."""


def chained(digest: bytes, entry: Entry | Change) -> bytes:
    """The state of an application that only remembers everything: a digest of the former state and the entry."""
    kind = type(entry).__name__.encode()
    return hashlib.blake2b(digest + kind + _encode(entry), digest_size=16).digest()


class OrderChecker:
    """A1, A4: one gap-free history, the same wherever and whenever it is delivered."""

    def __init__(self) -> None:
        self.history: list[Entry | Change] = []
        self.digests = [b""]
        """The state after 0, 1, … entries."""

    def record(self, identity: Identity, expected: int, delivery: Delivery) -> bool:
        """`identity` delivers, and should deliver the sequence number `expected`; whether nobody did before."""
        if delivery.sequence != expected:
            raise Violation(f"{identity} delivers {delivery.sequence} after {expected - 1}")
        index = delivery.sequence - 1
        if index == len(self.history):
            self.history.append(delivery.entry)
            self.digests.append(chained(self.digests[-1], delivery.entry))
            return True
        if self.history[index] != delivery.entry:
            raise TwoHistories(
                f"{identity} delivers {delivery.entry} as {delivery.sequence}, "
                f"another server has delivered {self.history[index]}"
            )
        return False

    def check_snapshot(self, identity: Identity, sequence: int, digest: bytes) -> None:
        """`identity` was given the application's state after `sequence` entries."""
        if sequence >= len(self.digests) or self.digests[sequence] != digest:
            raise Violation(f"{identity} was given a state that is not that after {sequence}")


class OriginChecker:
    """A2: what an origin proposed, at most once, in order and without gaps within one life of it."""

    def __init__(self) -> None:
        self._proposed: dict[tuple[int, int, int], set[bytes]] = {}
        self._last: dict[tuple[int, int], int] = {}

    def record_proposal(self, identity: Identity, number: int, payload: bytes) -> None:
        """`identity` was given `number` for `payload`.

        A crash before anything has left the process makes the next one give the same number again.
        """
        self._proposed.setdefault((identity.member.number, identity.incarnation, number), set()).add(payload)

    def record_first_delivery(self, entry: Entry) -> None:
        """Somebody delivers `entry` as the first one."""
        origin = (entry.server, entry.incarnation)
        if entry.payload not in self._proposed.get((*origin, entry.number), ()):
            raise Violation(f"{entry} was never proposed")
        last = self._last.get(origin, 0)
        if not number_follows(entry.number, last):
            raise Violation(f"{entry} is delivered after number {last}")
        self._last[origin] = entry.number


class MembershipChecker:
    """A3: the configuration that the order makes, and that every server is in after the same sequence number."""

    def __init__(self, cell: Configuration) -> None:
        self.configurations = [cell]
        self._starts = [0]

    def record_first_delivery(self, sequence: int, change: Change) -> None:
        """Somebody delivers a change as the first one."""
        objection = self.latest.objection(change)
        if objection is not None:
            raise Violation(f"{change} at {sequence}: {objection}")
        self.configurations.append(self.latest.after(change))
        self._starts.append(sequence)

    @property
    def latest(self) -> Configuration:
        """The newest configuration that anybody has reached."""
        return self.configurations[-1]

    def check(self, identity: Identity, configuration: Configuration) -> None:
        """`identity` believes to be in `configuration`."""
        if configuration.number > len(self.configurations):
            raise Violation(f"{identity} is in {configuration}, which nobody has delivered")
        if self.configurations[configuration.number - 1] != configuration:
            raise TwoHistories(f"{identity} is in {configuration}, another server in one of the same number")


class Checkers:
    """All of them, fed by every server."""

    def __init__(self, cell: Configuration) -> None:
        self.order = OrderChecker()
        self.origins = OriginChecker()
        self.membership = MembershipChecker(cell)

    def record(self, identity: Identity, delivered: int, deliveries: Iterable[Delivery]) -> int:
        """`identity`, which has delivered up to `delivered`, delivers more; up to where."""
        for delivery in deliveries:
            delivered += 1
            if not self.order.record(identity, delivered, delivery):
                continue
            if isinstance(delivery.entry, Entry):
                self.origins.record_first_delivery(delivery.entry)
            else:
                self.membership.record_first_delivery(delivery.sequence, delivery.entry)
        return delivered
