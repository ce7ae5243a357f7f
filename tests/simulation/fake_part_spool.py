"""State parts in memory; see `replica_manager.part_spool`."""

from replica_manager.identifiers import DomainId


class MemorySpool:
    """A `PartSpool` without a disk."""

    def __init__(self) -> None:
        """Keep nothing."""
        self._parts: dict[tuple[int, DomainId], list[bytes]] = {}
        self.is_full = False
        """Whether the disk takes no more."""

    def keep(self, point: int, domain: DomainId, data: bytes) -> None:
        """Append the next part."""
        if self.is_full:
            raise OSError("no space left on the simulated disk")
        self._parts.setdefault((point, domain), []).append(data)

    def read(self, point: int, domain: DomainId, part_index: int) -> bytes | None:
        """Return a part, if it is there."""
        parts = self._parts.get((point, domain), [])
        return parts[part_index] if 0 <= part_index < len(parts) else None

    def drop(self, point: int) -> None:
        """Forget the parts of a point."""
        for key in [key for key in self._parts if key[0] == point]:
            del self._parts[key]

    def close(self) -> None:
        """Forget everything."""
        self._parts.clear()
