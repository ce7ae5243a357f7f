"""What waits between us and another member: frames for its socket, pauses between attempts to reach it.  Pure."""

import random
from collections import deque


class SendQueue:
    """Frames that wait for one member's socket, bounded in bytes; the oldest give way."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames: deque[bytes] = deque()
        self._byte_count = 0
        self.dropped_count = 0
        """Frames dropped since the last `take_dropped`."""

    def __bool__(self) -> bool:
        return bool(self._frames)

    def push(self, frame: bytes) -> bool:
        """Add a frame; tell whether this dropped the first frame since `take_dropped`."""
        self._frames.append(frame)
        self._byte_count += len(frame)
        if self._byte_count <= self._bytes_max:
            return False
        was_complete = self.dropped_count == 0
        while self._byte_count > self._bytes_max:
            self._byte_count -= len(self._frames.popleft())
            self.dropped_count += 1
        return was_complete

    def take(self, bytes_max: int) -> list[bytes]:
        """Remove and return the oldest frames: all that fit into `bytes_max`, but at least one."""
        if self._byte_count <= bytes_max:
            frames = list(self._frames)
            self._frames.clear()
            self._byte_count = 0
            return frames
        frames = [self._frames.popleft()]
        taken = len(frames[0])
        while self._frames and taken + len(self._frames[0]) <= bytes_max:
            taken += len(self._frames[0])
            frames.append(self._frames.popleft())
        self._byte_count -= taken
        return frames

    def take_dropped(self) -> int:
        """Return how many frames were dropped since the last call."""
        count, self.dropped_count = self.dropped_count, 0
        return count

    def clear(self) -> int:
        """Forget everything; return how many frames that were."""
        count = len(self._frames)
        self._frames.clear()
        self._byte_count = 0
        self.dropped_count = 0
        return count


class Backoff:
    """Growing, jittered pauses between attempts."""

    FIRST_S = 0.05
    LAST_S = 1.0

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self._next_s = self.FIRST_S

    def reset(self) -> None:
        """Begin again with a short pause."""
        self._next_s = self.FIRST_S

    def pause_s(self) -> float:
        """Return the next pause: half of it fixed, half drawn."""
        pause_s = self._next_s
        self._next_s = min(self._next_s * 2, self.LAST_S)
        return pause_s * (0.5 + 0.5 * self._generator.random())
