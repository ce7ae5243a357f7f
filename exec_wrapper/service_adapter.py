"""What an operator writes to wrap a service: the border between the generic wrapper and one service.

Contract suite: `exec_wrapper/adapter_contract.py`, to be run over every adapter.

The *cursor*: the first sequence number that the service has not been handed.  A new service has cursor 1.
Numbers without effect (read-only requests, commands of the cell) never reach an adapter alone; the cursor passes
them with the next call that names a later number.  It is committed with the state: after a crash, state and
`cursor()` belong together, and both may be older than before by what was not made durable with `sync()`.

Source: SPARE Fig. 4.2; design "Service adapter".
"""

from typing import Iterator, Literal, NamedTuple, Protocol, Sequence

Snapshot = Literal["concurrent", "blocking"]


class RequestContext(NamedTuple):
    """Everything besides the request that the service may depend on.  Equal in every domain."""

    sequence: int
    """Position of the request in the agreed order, 1-based."""
    timestamp_us: int
    """Agreed time, microseconds since 1970-01-01 UTC; grows with `sequence`.  The only clock the service may use."""
    seed: bytes
    """32 bytes; the only randomness the service may use."""


class Outcome(NamedTuple):
    """What a request did."""

    reply: bytes
    """For the client; identical in every correct domain."""
    update: bytes
    """The effects on the state in the uniform representation; empty if the request changed nothing."""


class SequencedUpdate(NamedTuple):
    """The effects of the request `sequence`, executed and voted on by other domains."""

    sequence: int
    update: bytes


class ServiceAdapter(Protocol):
    """A service as the wrapper sees it.

    Calls come one at a time, but for the iterator of a concurrent `take_state`.
    An exception from any method means that this domain cannot go on: the wrapper reports `Failed` and ends.
    A request that the service refuses is no exception; its refusal is the reply.
    """

    @property
    def service(self) -> str:
        """Name of the service."""
        ...

    @property
    def version(self) -> str:
        """Version of service and adapter, for people."""
        ...

    @property
    def state_format(self) -> int:
        """Number of the uniform representation that this adapter writes; it may read older ones."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """Whether `execute` may go on while the iterator of `take_state` runs in another thread."""
        ...

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Execute one request and commit; afterwards `cursor() == context.sequence + 1`."""
        ...

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Apply a batch and commit it at once; afterwards `cursor() == up_to + 1`.

        Args:
            updates: in ascending order, each non-empty, all in `cursor() … up_to`; the sequence may be empty.
                They may be merged if the resulting state is the same.
            up_to: the last number that the batch stands for.
        """
        ...

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Return the canonical state after every number before `point`, which equals `cursor()`.

        The snapshot is fixed on return.  With `snapshot == "concurrent"` the iterator runs in another thread
        beside `execute`; its `close()`, if it has one, is called in that thread, also when it is given up early.

        Returns:
            Parts of at most `part_bytes_max` bytes; equal in number and content for equal states.
        """
        ...

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        """Replace the whole state and commit; afterwards `cursor() == point`.

        Args:
            point: the cursor of the state.
            state_format: its format number.
            parts: to be consumed to the end, in order.  It raises if the link breaks; the wrapper then ends.
        """
        ...

    def cursor(self) -> int:
        """Return the cursor; cheap, called once a batch."""
        ...

    def sync(self) -> int:
        """Make state and cursor durable; return the durable cursor."""
        ...
