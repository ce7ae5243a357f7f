"""The frames between a replica manager and a domain, as values and as bytes.

A frame is `length: u32 | kind: u8 | body`, big-endian; `length` counts `kind` and `body`.
`docs/wrapper-protocol.md` gives the same layout byte by byte, for wrappers written in other languages.

Sequence numbers are 1-based. A feed frame (`Execute`, `ApplyUpdates`, `TakeState`) names in `previous`
the last number covered by the feed frame before it on this connection (for the first one: the wrapper's own
cursor − 1), so that a wrapper notices a gap.  A wrapper's *cursor* is the first number that it has not been handed.
"""

from typing import NamedTuple, Tuple, Union

PROTOCOL_VERSION = 1
EPOCH_BYTES = 16
SEED_BYTES = 32
FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Default bound of one frame: the largest reply or update that a domain may produce, plus its header."""
TEXT_BYTES_MAX = 1024


class WireError(Exception):
    """Raised when received bytes are not a frame of this protocol: the other side's fault.

    The reader ends the connection; a replica manager also records it as misbehaviour of that domain.
    """

    messages: Tuple[object, ...] = ()
    """Complete messages that came before the offending bytes in the same read; the reader may still use them."""


class Hello(NamedTuple):
    """First frame of every connection, manager → wrapper.  Everything before its echo is discarded."""

    epoch: bytes
    """16 random bytes of the manager, echoed by the wrapper."""
    frame_bytes_max: int
    """Bound of the `length` field in both directions."""
    state_part_bytes_max: int
    protocol: int = PROTOCOL_VERSION
    former_epoch: bytes = bytes(EPOCH_BYTES)
    """Last epoch that this wrapper echoed to this manager; zeros: none.  By this secret the wrapper finds the frame
    even within another one, which the end of the former connection has cut off."""


class Ping(NamedTuple):
    """Asks for a `Pong` with the same token."""

    token: int


class Execute(NamedTuple):
    """Execute one request.  Requests execute one at a time, in order."""

    previous: int
    sequence: int
    timestamp_us: int
    """Agreed time, microseconds since 1970-01-01 UTC; the only clock the service may use."""
    seed: bytes
    """32 bytes; the only randomness the service may use."""
    payload: bytes


class ApplyUpdates(NamedTuple):
    """Apply the effects of requests that other domains executed; covers all numbers up to and including `up_to`.

    Numbers without an update (read-only requests, commands) leave gaps.
    """

    previous: int
    up_to: int
    updates: Tuple[Tuple[int, bytes], ...]


class TakeState(NamedTuple):
    """Give the state after every entry before `point`; parts are pulled with `NextPart`."""

    previous: int
    point: int
    state_format: int


class NextPart(NamedTuple):
    """Credit for `count` more state parts."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls


class CancelState(NamedTuple):
    """Stop the state stream of `point`."""

    point: int


class SetState(NamedTuple):
    """Replace the whole state by the parts that follow; afterwards the cursor is `point`."""

    point: int
    state_format: int


class SetPart(NamedTuple):
    """One part of the state that `SetState` announced."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    is_last: bool
    data: bytes


class Sync(NamedTuple):
    """Make everything executed or applied so far durable; answered by `Synced`."""


class WrapperHello(NamedTuple):
    """The wrapper's answer to `Hello`."""

    epoch: bytes
    cursor: int
    """First sequence number whose effects are not in the service's state."""
    state_format: int
    is_snapshot_concurrent: bool
    """Whether the service goes on executing while it streams its state."""
    service: str
    version: str
    image: str
    protocol: int = PROTOCOL_VERSION


class Pong(NamedTuple):
    """Answer to `Ping`."""

    token: int


class Executed(NamedTuple):
    """The outcome of `Execute(sequence)`, sent after the service has committed."""

    sequence: int
    reply: bytes
    update: bytes
    """Empty if the request changed nothing."""


class Applied(NamedTuple):
    """Every update up to and including `up_to` is committed."""

    up_to: int


class Synced(NamedTuple):
    """Everything before `cursor` is on the domain's disk."""

    cursor: int


class StatePart(NamedTuple):
    """One part of the state at `point`."""

    point: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    is_last: bool
    data: bytes


class StateSet(NamedTuple):
    """The state of `point` is in place and committed."""

    point: int


class Failed(NamedTuple):
    """The wrapper cannot go on: the service broke, or a feed frame left a gap.  It ends the connection."""

    text: str


ToWrapper = Union[Hello, Ping, Execute, ApplyUpdates, TakeState, NextPart, CancelState, SetState, SetPart, Sync]
FromWrapper = Union[WrapperHello, Pong, Executed, Applied, Synced, StatePart, StateSet, Failed]
