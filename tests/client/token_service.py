"""A web service that keeps every token it was sent, so that one that is executed twice is seen.

Runs in domains: standard library only.  `POST /TOKEN` appends it; `GET /` returns all of them, in order.
"""

from collections.abc import Iterator, Sequence

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate


class TokenAdapter:
    """The state is the list of tokens."""

    service = "tokens"
    version = "1"
    state_format = 1
    snapshot = "concurrent"

    def __init__(self) -> None:
        """Begin without any."""
        self._tokens: list[bytes] = []
        self._cursor = 1

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Append or list."""
        self._cursor = context.sequence + 1
        method, target, _ = request.split(b" ", 2)
        if method == b"POST":
            self._tokens.append(target[1:])
            return Outcome(_page(b"%s is token %d" % (target[1:], len(self._tokens))), target[1:])
        return Outcome(_page(b"\n".join(self._tokens)), b"")

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Append."""
        self._tokens += [update.update for update in updates]
        self._cursor = up_to + 1

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Return all tokens."""
        whole = b"\n".join(self._tokens)
        starts = range(0, max(1, len(whole)), part_bytes_max)
        return iter([whole[start : start + part_bytes_max] for start in starts])

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        """Take all tokens."""
        self._tokens = b"".join(parts).split()
        self._cursor = point

    def cursor(self) -> int:
        """Return the cursor."""
        return self._cursor

    def sync(self) -> int:
        """There is no disk."""
        return self._cursor


def create_adapter(_arguments: Sequence[str]) -> TokenAdapter:
    """Return the adapter for the command line."""
    return TokenAdapter()


def _page(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body
