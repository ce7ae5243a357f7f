"""State parts on this server's own disk, from the domain's giving to the end of the point.

The state of a domain is given once, at one position; who needs it, and from which copy, is known only when the states
have been voted on.  Keeping the parts on disk bounds the manager's memory, whatever the size of the state.

Source: design "Repair", "Proactive recovery" ("Memory of the managers stays bounded").
"""

import os
from pathlib import Path
from typing import NamedTuple, Protocol

from replica_manager.identifiers import DomainId


class PartSpool(Protocol):
    """Keeps parts by point, domain and index."""

    def keep(self, point: int, domain: DomainId, data: bytes) -> None:
        """Append the next part.

        Raises:
            OSError: the disk does not take it; the part is missing from then on.
        """
        ...

    def read(self, point: int, domain: DomainId, part_index: int) -> bytes | None:
        """Return a part; None: it is not there or cannot be read."""
        ...

    def drop(self, point: int) -> None:
        """Forget all parts of a point."""
        ...

    def close(self) -> None:
        """Forget everything."""
        ...


class _Spooled(NamedTuple):
    descriptor: int
    offsets: list[int]
    """Begin of each part, and the end of the last one."""


class DirectorySpool:
    """Parts in one file per point and domain, unlinked at once: no crash leaves one behind."""

    def __init__(self, directory: Path) -> None:
        """Keep parts on the disk of `directory`."""
        self._directory = directory
        self._files: dict[tuple[int, DomainId], _Spooled] = {}

    def keep(self, point: int, domain: DomainId, data: bytes) -> None:
        """See `PartSpool`."""
        spooled = self._files.get((point, domain))
        if spooled is None:
            spooled = self._files[point, domain] = _Spooled(self._open(), [0])
        begin = spooled.offsets[-1]
        written = 0
        while written < len(data):
            written += os.pwrite(spooled.descriptor, data[written:], begin + written)
        spooled.offsets.append(begin + len(data))

    def _open(self) -> int:
        return os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def read(self, point: int, domain: DomainId, part_index: int) -> bytes | None:
        """See `PartSpool`."""
        spooled = self._files.get((point, domain))
        if spooled is None or not 0 <= part_index < len(spooled.offsets) - 1:
            return None
        begin, end = spooled.offsets[part_index : part_index + 2]
        try:
            data = os.pread(spooled.descriptor, end - begin, begin)
        except OSError:
            return None  # the reader has other copies, and says so
        return data if len(data) == end - begin else None

    def drop(self, point: int) -> None:
        """See `PartSpool`."""
        for key in [key for key in self._files if key[0] == point]:
            os.close(self._files.pop(key).descriptor)

    def close(self) -> None:
        """See `PartSpool`."""
        for point in {key[0] for key in self._files}:
            self.drop(point)
