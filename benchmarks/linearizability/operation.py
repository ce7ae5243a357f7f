"""One request as its client saw it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """A request from its first sending to its reply.

    Invariant: `replied_ns` is `None` exactly if `reply` is, and otherwise not before `invoked_ns`.
    """

    client: str
    """Who asked; only for people who read evidence."""
    payload: bytes
    invoked_ns: int
    """When it was first sent, on the one clock of the history."""
    replied_ns: int | None = None
    """When the reply came.  `None`: pending; the request may have taken effect at any time since, or never."""
    reply: bytes | None = None

    def __post_init__(self) -> None:
        """Keep the invariant."""
        assert (self.replied_ns is None) == (self.reply is None), "a reply has a time, and only a reply"
        assert self.replied_ns is None or self.replied_ns >= self.invoked_ns, "answered before it was asked"

    @property
    def is_pending(self) -> bool:
        """Whether nobody knows what became of it."""
        return self.replied_ns is None
