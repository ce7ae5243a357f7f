"""Fills one fresh domain with an agreed state, part by part.

A part is handed on only if its digest is the voted one, and only as fast as the domain takes parts in: behind each part
goes a `Ping`, whose `Pong` says that the service has consumed it.  So neither this server nor the channel ever holds
more than a few parts, however large the state is.

Source: design "Lightweight", step 3; "Wrapper protocol".
"""

from collections.abc import Sequence

from exec_wrapper.wire import Ping, SetPart, SetState, ToWrapper
from replica_manager.identifiers import DomainId, server_of
from replica_manager.recovery.state_digests import part_digest

PARTS_IN_FLIGHT = 4
"""Parts asked for, or on their way into the domain."""


class Filling:
    """One fresh domain on its way to the state of a point."""

    def __init__(
        self, domain: DomainId, point: int, state_format: int, part_digests: Sequence[bytes], givers: Sequence[DomainId]
    ) -> None:
        """Begin with no part.

        Args:
            domain: the fresh domain.
            point: whose state it gets.
            state_format: of the parts.
            part_digests: the voted digests, in order.
            givers: who gave this very state; the first is asked first, domains of this server should lead.
        """
        self.domain = domain
        self.point = point
        self._digests = part_digests
        self._givers = list(givers)
        self._format = state_format
        self._asked = 0
        self._handed = 0
        self._consumed = 0
        self._arrived: dict[int, tuple[bool, bytes]] = {}
        self._has_begun = False
        self.is_set = False
        self.changes = 0
        """How often another copy was asked."""
        self.moved = 0
        """Grows with everything that happens; if it stands still, something is wrong."""

    @property
    def giver(self) -> DomainId:
        """Whose copy of the state is read now."""
        return self._givers[0]

    @property
    def has_tried_all(self) -> bool:
        """Whether every copy was asked, and more than once."""
        return self.changes > 2 * len(self._givers)

    @property
    def awaits_parts(self) -> bool:
        """Whether parts were asked for that have not come; else the domain has something to take in."""
        return bool(self._missing())

    @property
    def giver_server(self) -> int:
        """Where that copy is."""
        return int(server_of(self.giver))

    @property
    def progress(self) -> tuple[int, int]:
        """Parts that the service has consumed, of how many."""
        return self._consumed, len(self._digests)

    def change_giver(self) -> None:
        """What was asked for does not come: ask the next one, for everything that has not arrived."""
        self.changes += 1
        self._givers.append(self._givers.pop(0))
        self._asked = min([self._handed + len(self._arrived), *self._missing()])

    def _missing(self) -> list[int]:
        return [index for index in range(self._handed, self._asked) if index not in self._arrived]

    def wanted(self) -> list[int]:
        """Return the indexes of the parts to be asked for now; each is returned once per giver."""
        last = min(len(self._digests), self._consumed + PARTS_IN_FLIGHT)
        indexes = [index for index in range(self._asked, last) if index not in self._arrived]
        self._asked = max(self._asked, last)
        return indexes

    def take(self, index: int, data: bytes) -> bool:
        """Take a part that was read; return whether it is the voted one."""
        is_last = index == len(self._digests) - 1
        is_wanted = self._handed <= index < self._asked and index not in self._arrived
        if not is_wanted:
            return True  # asked for twice
        if part_digest(self.point, index, is_last, data) != self._digests[index]:
            return False
        self._arrived[index] = (is_last, data)
        self.moved += 1
        return True

    def frames(self) -> list[ToWrapper]:
        """Return what can be handed to the domain now."""
        frames: list[ToWrapper] = []
        if not self._has_begun:
            self._has_begun = True
            frames.append(SetState(self.point, self._format))
        while self._handed in self._arrived:
            is_last, data = self._arrived.pop(self._handed)
            frames.append(SetPart(self._handed, is_last, data))
            if not is_last:
                frames.append(Ping(self._handed))
            self._handed += 1
        return frames

    def on_pong(self, token: int) -> bool:
        """The service has consumed a part; return whether that was to be expected."""
        if token != self._consumed or token >= self._handed:
            return False
        self._consumed += 1
        self.moved += 1
        return True

    def on_set(self, point: int) -> bool:
        """The domain says that it holds the state; return whether that was to be expected."""
        if point != self.point or self._handed != len(self._digests) or self.is_set:
            return False
        self.is_set = True
        self.moved += 1
        return True
