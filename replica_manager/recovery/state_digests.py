"""Digests of a domain's state, computed part by part.

A part's digest binds point, index and end flag, so that the number of parts is voted on too; the content digest
leaves the point out, so that states of different points can be compared.

Source: design "Proactive recovery", Lightweight (`L11`: digests that bind none of these allow truncation).
"""

from collections import OrderedDict
from hashlib import sha256
from struct import Struct

from exec_wrapper.wire import StatePart
from replica_manager.identifiers import DomainId

_PART_HEAD = Struct(">QIB")
PARTS_MAX = 400_000
"""Parts of one state: their digests must fit into one message between servers (16 MiB)."""
POINTS_KEPT = 16
"""Checkpoints whose digests are kept for the operator."""


def part_digest(point: int, index: int, is_last: bool, data: bytes) -> bytes:
    """Return SHA-256(point ‖ index ‖ end flag ‖ bytes)."""
    return sha256(_PART_HEAD.pack(point, index, is_last) + data).digest()


class StateOrderError(Exception):
    """Raised when a domain's parts do not come in order: the domain's fault."""


class StateReader:
    """Takes the parts of one domain's state at one point."""

    def __init__(self, point: int) -> None:
        """Expect part 0 of the state at `point`."""
        self.point = point
        self.part_digests: list[bytes] = []
        self.is_complete = False
        self._content = sha256()

    @property
    def content_digest(self) -> bytes:
        """Digest over the parts so far."""
        return self._content.digest()

    def take(self, part: StatePart) -> None:
        """Hash the next part.

        Raises:
            StateOrderError: another point, a part out of order, one after the last, or too many.
        """
        expected = len(self.part_digests)
        if self.is_complete or part.point != self.point or part.index != expected or expected >= PARTS_MAX:
            raise StateOrderError(f"part {part.index} of point {part.point}, expected {expected} of {self.point}")
        self.part_digests.append(part_digest(part.point, part.index, part.is_last, part.data))
        self._content.update(len(part.data).to_bytes(8))
        self._content.update(part.data)
        self.is_complete = part.is_last


class CheckpointBoard:
    """What every domain's state was at the last checkpoints."""

    def __init__(self) -> None:
        """Know of no checkpoint."""
        self._points: OrderedDict[int, tuple[frozenset[DomainId], dict[DomainId, bytes]]] = OrderedDict()

    def open(self, point: int, expected: frozenset[DomainId]) -> None:
        """A checkpoint was ordered at `point`; `expected` domains give their state."""
        self._points[point] = (expected, {})
        while len(self._points) > POINTS_KEPT:
            self._points.popitem(last=False)

    def report(self, domain: DomainId, point: int, content_digest: bytes) -> bool:
        """Note a domain's digest; return whether the checkpoint just became complete."""
        if point not in self._points:
            return False
        expected, digests = self._points[point]
        if domain not in expected or domain in digests:
            return False
        digests[domain] = content_digest
        return len(digests) == len(expected)

    def excuse(self, domain: DomainId) -> list[int]:
        """A domain is gone: expect nothing more of it; return points that became complete by that."""
        done = []
        for point, (expected, digests) in list(self._points.items()):
            if domain in expected and domain not in digests:
                remaining = expected - {domain}
                self._points[point] = (remaining, digests)
                if len(digests) == len(remaining):
                    done.append(point)
        return done

    def digests(self, point: int) -> dict[DomainId, bytes] | None:
        """Return what is known of a point; None if it is unknown."""
        found = self._points.get(point)
        return None if found is None else dict(found[1])

    def missing(self, point: int) -> frozenset[DomainId]:
        """Return the domains that have not given their state at `point`."""
        expected, digests = self._points[point]
        return expected - digests.keys()
