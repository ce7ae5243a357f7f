"""Errors of the ordering room, and the reasons for which a peer's connection is ended."""

import enum


class RefusalReason(enum.Enum):
    """Why a connection on the peer port was ended by us: the name of the event, in words of an operator."""

    TLS = "tls"
    """No TLS 1.3 handshake, or a certificate that the cell's authority did not issue or that has run out."""
    IDENTITY = "identity"
    """A good certificate of the wrong member, of another cell, or of nobody in the configuration."""
    PROTOCOL = "protocol"
    """The first frame is not this version's greeting."""
    FRAME_TOO_LARGE = "frame-too-large"
    FRAME_EMPTY = "frame-empty"
    MESSAGE = "message"
    """A frame that is not an array of known messages."""
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    TOO_MANY_HANDSHAKES = "too-many-handshakes"
    """The oldest connection that has not greeted gives way to a new one: a flood cannot keep members out."""
    OWN_KEYS = "own-keys"
    """Our fault: the key files of this member cannot be loaded."""

    def __str__(self) -> str:
        """Return the word, for events."""
        return self.value


class OrderingError(Exception):
    """Root of this room's errors."""


class LinkRefused(OrderingError):
    """Raised by the link's core when the other end misbehaves: its fault; the connection must be ended."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class MessageTooLarge(OrderingError):
    """Raised when a message of our own does not fit into a frame: our misuse.

    Every sender bounds its messages below `frame_bytes_max`; the near case, a peer's frame over the limit, is
    `LinkRefused`.
    """


class TransportError(OrderingError):
    """Raised when the peer port cannot be opened or our own key files cannot be loaded: an operating error."""
