"""Fills one fresh domain with an agreed state, part by part, while later parts may still be voted on.

A part is handed on only if its digest is the voted one, and only as fast as the domain takes parts in: behind each part
goes a `Ping`, whose `Pong` says that the service has consumed it.  So neither this server nor the channel ever holds
more than a few parts, however large the state is.

Source: design "Lightweight", step 3; "Wrapper protocol".
"""

from collections.abc import Callable, Sequence

from exec_wrapper.wire import Ping, SetPart, SetState, ToWrapper
from replica_manager.identifiers import DomainId
from replica_manager.recovery.state_digests import part_digest

PARTS_IN_FLIGHT = 4
"""Parts asked for, or on their way into the domain."""
CHANGES_MAX = 2
"""How often every copy is asked."""


class Filling:
    """One fresh domain on its way to the state of a point."""

    def __init__(
        self,
        domain: DomainId,
        point: int,
        state_format: int,
        part_digests: Sequence[bytes],
        copies: Callable[[int], Sequence[DomainId]],
    ) -> None:
        """Begin with no part.

        Args:
            domain: the fresh domain.
            point: whose state it gets.
            state_format: of the parts.
            part_digests: the voted digests, in order; more may be added to them later.
            copies: who gave the part with an index; the first is asked first, domains of this server should lead.
        """
        self.domain = domain
        self.point = point
        self.is_whole = False
        """Whether no more digests will be added."""
        self._digests = part_digests
        self._copies = copies
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
        """Grows with every part that comes or is consumed; if it stands still, something is wrong."""

    def giver_of(self, index: int) -> DomainId:
        """Return whose copy of a part is read now."""
        holders = self._copies(index)
        return holders[self.changes % len(holders)]

    @property
    def has_tried_all(self) -> bool:
        """Whether every copy of what is missing was asked, and more than once."""
        indexes = range(self._handed, len(self._digests))
        missing = next((index for index in indexes if index not in self._arrived), None)
        return missing is not None and self.changes > CHANGES_MAX * len(self._copies(missing))

    @property
    def progress(self) -> tuple[int, int]:
        """Parts that the service has consumed, of how many that are agreed on."""
        return self._consumed, len(self._digests)

    def change_giver(self) -> None:
        """What was asked for does not come: ask another copy, for everything that has not arrived."""
        self.changes += 1
        self._asked = min([self._handed + len(self._arrived), *self._missing()])

    @property
    def waits_for_giver(self) -> bool:
        """Whether parts were asked for and have not come; else it is the fresh domain that takes nothing in."""
        return bool(self._missing())

    @property
    def waits_for_votes(self) -> bool:
        """Whether everything that is agreed on was consumed, and the end is not known."""
        return not self.is_whole and self._consumed == len(self._digests)

    def _missing(self) -> list[int]:
        return [index for index in range(self._handed, self._asked) if index not in self._arrived]

    def wanted(self) -> list[tuple[int, DomainId]]:
        """Return index and giver of the parts to be asked for now; each is returned once, until the giver changes."""
        last = min(len(self._digests), self._consumed + PARTS_IN_FLIGHT)
        indexes = [index for index in range(self._asked, last) if index not in self._arrived]
        self._asked = max(self._asked, last)
        return [(index, self.giver_of(index)) for index in indexes]

    def is_asked(self, index: int, giver: DomainId) -> bool:
        """Whether this copy is the one that is read now; what an earlier one still gives is not looked at."""
        return 0 <= index < len(self._digests) and giver == self.giver_of(index)

    def take(self, index: int, data: bytes) -> bool:
        """Take a part that was read; return whether it is the voted one."""
        is_wanted = self._handed <= index < self._asked and index not in self._arrived
        if not is_wanted:
            return True  # asked for twice
        for is_last in (False, True):
            if part_digest(self.point, index, is_last, data) == self._digests[index]:
                self._arrived[index] = (is_last, data)
                self.moved += 1
                return True
        return False

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
        if point != self.point or not self.is_whole or self._handed != len(self._digests) or self.is_set:
            return False
        self.is_set = True
        self.moved += 1
        return True
