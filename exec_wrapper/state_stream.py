"""Streams the parts of a state by credit, in line or in a thread beside the execution of requests."""

import threading
from typing import Callable, Iterator, List, Protocol, Tuple

from exec_wrapper.encoding import encode_frame
from exec_wrapper.errors import AdapterError, LinkClosed
from exec_wrapper.wire import StatePart

Emit = Callable[[bytes], None]


class PartReader:
    """Turns the iterator of `take_state` into `StatePart` frames.  Reads one part ahead, to know the last one."""

    def __init__(self, point: int, parts: Iterator[bytes], part_bytes_max: int) -> None:
        """`parts` is what `take_state(point, …)` returned."""
        self.point = point
        self._parts = parts
        self._part_bytes_max = part_bytes_max
        self._index = 0
        self._ahead: List[bytes] = []

    def read(self) -> Tuple[bytes, bool]:
        """Return the next frame and whether it is the last.

        Raises:
            AdapterError: a part is too long.
        """
        if not self._ahead:
            # An empty state still has one, empty, part: its end has to be voted on too.
            self._ahead.append(next(self._parts, b""))
        self._ahead.extend(self._next_part())
        data = self._ahead.pop(0)
        if len(data) > self._part_bytes_max:
            raise AdapterError("a state part of %d bytes, allowed are %d" % (len(data), self._part_bytes_max))
        is_last = not self._ahead
        frame = encode_frame(StatePart(self.point, self._index, is_last, bytes(data)))
        self._index += 1
        return frame, is_last

    def close(self) -> None:
        """Let the adapter free its snapshot."""
        if self._index == 0 and not self._ahead:
            next(self._parts, None)  # a generator that was never started would skip its `finally`
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()

    def _next_part(self) -> List[bytes]:
        for part in self._parts:
            return [part]
        return []


class StateStream(Protocol):
    """One state on its way to the manager."""

    @property
    def point(self) -> int:
        """The point that was asked for."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether parts are left."""
        ...

    def give_credit(self, count: int) -> None:
        """Allow `count` more parts."""
        ...

    def cancel(self) -> None:
        """Send nothing more; on return no frame of this stream is emitted any more."""
        ...


class InlineStream:
    """Reads and emits within `give_credit`: for adapters that cannot execute meanwhile."""

    def __init__(self, reader: PartReader, emit: Emit) -> None:
        """Parts go to `emit` as frames."""
        self.point = reader.point
        self.is_open = True
        self._reader = reader
        self._emit = emit

    def give_credit(self, count: int) -> None:
        """Emit up to `count` parts now."""
        while count > 0 and self.is_open:
            frame, is_last = self._reader.read()
            self._emit(frame)
            count -= 1
            if is_last:
                self.cancel()

    def cancel(self) -> None:
        """Free the snapshot."""
        if self.is_open:
            self.is_open = False
            self._reader.close()


class ThreadStream:
    """Reads and emits in a thread of its own: for adapters with concurrent snapshots."""

    def __init__(self, reader: PartReader, emit: Emit, on_failure: Callable[[BaseException], None]) -> None:
        """Start the thread.

        Args:
            reader: used by the thread alone.
            emit: called in the thread; must be safe beside the main thread's writes.
            on_failure: called in the thread with whatever the adapter raised.
        """
        self.point = reader.point
        self.is_open = True
        self._reader = reader
        self._emit = emit
        self._on_failure = on_failure
        self._credit = 0
        self._changed = threading.Condition()
        # A daemon: a reader that hangs must not keep a wrapper alive that has ended.
        self._thread = threading.Thread(target=self._run, name="state-stream", daemon=True)
        self._thread.start()

    def give_credit(self, count: int) -> None:
        """Wake the thread for `count` more parts."""
        with self._changed:
            self._credit += count
            self._changed.notify()

    def cancel(self) -> None:
        """Let the thread end; it frees the snapshot by itself, for a database may take its time."""
        with self._changed:
            self.is_open = False
            self._changed.notify()

    def _run(self) -> None:
        try:
            try:
                while self._wait_for_credit():
                    frame, is_last = self._reader.read()
                    self._emit_while_open(frame, is_last)
            finally:
                self._reader.close()
        except LinkClosed:
            self.cancel()
        except Exception as error:  # noqa: BLE001 - the supervisor of this thread: an adapter may raise anything
            self.cancel()
            self._on_failure(error)

    def _emit_while_open(self, frame: bytes, is_last: bool) -> None:
        # Under the lock, so that nothing follows a `cancel`.  Closed before the last part leaves: the manager may
        # ask for the next state as soon as it has it.
        with self._changed:
            if self.is_open:
                self.is_open = not is_last
                self._emit(frame)

    def _wait_for_credit(self) -> bool:
        with self._changed:
            while self.is_open and self._credit == 0:
                self._changed.wait()
            self._credit -= 1
            return self.is_open
