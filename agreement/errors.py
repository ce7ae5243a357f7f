"""Errors of the agreement stage."""


class AgreementError(Exception):
    """Root of this package's errors."""


class StorageError(AgreementError):
    """Raised when the durable medium refuses a write or cannot be read: an operating error.

    The caller ends the process; the member then counts as crashed.
    """


class AmnesiaError(AgreementError):
    """Raised when a member is started with a memory that does not fit its identity: our own misuse.

    The storage is empty where there should be a memory, holds one where there should be none, or is another member's.
    The caller starts the member as `amnesiac`, with an incarnation that it has never used.
    """


class ProposalError(AgreementError):
    """Raised when an entry is refused; it was surely not ordered."""


class ProposalQueueFull(ProposalError):
    """Raised by `Node.propose` when too many own entries await their delivery.

    The entry was surely not ordered; the caller may refuse its client or try later.
    """


class EntryTooLarge(ProposalError):
    """Raised by `Node.propose` for a payload above `entry_bytes_max`: the caller's mistake; do not try again."""


class NotAMember(ProposalError):
    """Raised by `Node.propose` on a server that is in no configuration: a learner, or one that was declared gone.

    The caller rejoins, or sends its client to another server.
    """


class MalformedMessage(AgreementError):
    """Raised by `decode_message` for bytes that are no message: the peer's fault; the caller ends the connection."""
