"""What clients have sent and no request is made of yet: bounded in time per request, in bytes over all clients.  Pure.

A limit per connection alone would allow their product: with thousands of connections more than any memory.
"""

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Bytes over all connections of a listener."""
PARTIAL_MS_MAX = 30_000
"""A request must be complete this long after its first byte."""


class HeldBytes:
    """Counts for one listener."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        """Allow `bytes_max` bytes at a time."""
        self.bytes_max = bytes_max
        self.byte_count = 0


class Arrival:
    """Of one connection: what it holds, and since when the newest request is incomplete."""

    def __init__(self, held: HeldBytes) -> None:
        """Hold nothing yet of `held`."""
        self._held = held
        self._byte_count = 0
        self._began_ms: float | None = None

    def hold(self, byte_count: int) -> bool:
        """Note how many bytes the connection holds; say whether all of them together are still allowed."""
        self._held.byte_count += byte_count - self._byte_count
        self._byte_count = byte_count
        return self._held.byte_count <= self._held.bytes_max

    def note(self, *, is_partial: bool, is_new: bool, now_ms: float) -> None:
        """The connection was read from.

        Args:
            is_partial: whether the newest request is incomplete.
            is_new: whether another one was completed, so that this one has just begun.
            now_ms: monotonic time.
        """
        if not is_partial:
            self._began_ms = None
        elif is_new or self._began_ms is None:
            self._began_ms = now_ms

    def restart_clock(self, now_ms: float) -> None:
        """The connection was not read from for a while: that is not the client's slowness."""
        if self._began_ms is not None:
            self._began_ms = now_ms

    def is_late(self, now_ms: float) -> bool:
        """Whether the newest request should have been complete by now."""
        return self._began_ms is not None and now_ms - self._began_ms > PARTIAL_MS_MAX

    def end(self) -> None:
        """The connection is gone; idempotent."""
        self._held.byte_count -= self._byte_count
        self._byte_count = 0
