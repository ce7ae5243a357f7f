"""A service that speaks HTTP, for cells that are attacked: counts what it was sent, answers anything.

Runs in domains: standard library only.
"""

from collections.abc import Iterator, Sequence

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate

READS = (b"GET ", b"HEAD")


class WebAdapter:
    """The state is the number of requests that were no reads."""

    service = "counting-web"
    version = "1"
    state_format = 1
    snapshot = "concurrent"

    def __init__(self) -> None:
        """Begin at zero."""
        self._count = 0
        self._cursor = 1

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Answer with the request's target and the count."""
        self._cursor = context.sequence + 1
        is_read = request[:4] in READS
        self._count += not is_read
        target = request.split(b" ", 2)[1] if request.count(b" ") >= 2 else b"?"
        body = b"%s %d\n" % (target, self._count)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
        is_bodiless = request[:4] == b"HEAD"
        return Outcome(head if is_bodiless else head + body, b"" if is_read else b"%d" % self._count)

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Take the last count."""
        if updates:
            self._count = int(updates[-1].update)
        self._cursor = up_to + 1

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Return the count."""
        return iter([b"%d" % self._count])

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        """Take the count."""
        self._count = int(b"".join(parts))
        self._cursor = point

    def cursor(self) -> int:
        """Return the cursor."""
        return self._cursor

    def sync(self) -> int:
        """There is no disk."""
        return self._cursor


def create_adapter(_arguments: Sequence[str]) -> WebAdapter:
    """Return the adapter for the command line."""
    return WebAdapter()
