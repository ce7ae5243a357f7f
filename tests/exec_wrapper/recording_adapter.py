"""A service that writes down what it was asked, and misbehaves on request."""

from collections.abc import Iterator, Sequence

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate, Snapshot


class ServiceBroke(Exception):
    """What this service raises when it is told to break."""


class RecordingAdapter:
    """The state is the list of all effects; `b"break"` as a request breaks the service."""

    service = "recording"
    version = "7"
    state_format = 3

    def __init__(self, snapshot: Snapshot = "blocking", cursor: int = 1) -> None:
        """Begin empty at `cursor`."""
        self.snapshot: Snapshot = snapshot
        self.effects: list[bytes] = []
        self.contexts: list[RequestContext] = []
        self.batches: list[tuple[tuple[SequencedUpdate, ...], int]] = []
        self.syncs = 0
        self.closed_snapshots = 0
        self.reply_bytes = 0
        self.part_error_at = -1
        """The part at which `take_state` breaks."""
        self.parts_wanted = 1 << 30
        """How many parts `set_state` reads."""
        self._cursor = cursor

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Append the request, unless it begins with `r` (read)."""
        if request == b"break":
            raise ServiceBroke("told to break")
        self.contexts.append(context)
        self._cursor = context.sequence + 1
        update = b"" if request[:1] == b"r" else request
        if update:
            self.effects.append(update)
        return Outcome(b"reply to " + request + b"." * self.reply_bytes, update)

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Append the effects."""
        self.batches.append((tuple(updates), up_to))
        self.effects.extend(update for _, update in updates)
        self._cursor = up_to + 1

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Give one effect a part."""
        assert (point, state_format) == (self._cursor, self.state_format)
        return self._parts(list(self.effects))

    def _parts(self, effects: list[bytes]) -> Iterator[bytes]:
        try:
            for index, effect in enumerate(effects):
                if index == self.part_error_at:
                    raise ServiceBroke("no more parts")
                yield effect
        finally:
            self.closed_snapshots += 1

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        """Take one effect a part."""
        effects = [part for part, _ in zip(parts, range(self.parts_wanted), strict=False)]
        self.effects = effects
        self._cursor = point

    def cursor(self) -> int:
        """Return the cursor."""
        return self._cursor

    def sync(self) -> int:
        """Count."""
        self.syncs += 1
        return self._cursor


def create_adapter(arguments: Sequence[str]) -> RecordingAdapter:
    """Return an adapter for the command line `[SNAPSHOT [PART-ERROR-AT]]`."""
    adapter = RecordingAdapter("concurrent" if arguments[:1] == ["concurrent"] else "blocking")
    if len(arguments) > 1:
        adapter.part_error_at = int(arguments[1])
    return adapter
