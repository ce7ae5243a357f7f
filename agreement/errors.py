"""Errors of the agreement stage."""


class AgreementError(Exception):
    """Root of this package's errors."""


class StorageError(AgreementError):
    """Raised when the durable medium refuses a write or cannot be read: an operating error.

    The caller ends the process; the member then counts as crashed.
    """


class ProposalQueueFull(AgreementError):
    """Raised by `Node.propose` when too many own entries await their delivery.

    The entry was surely not ordered; the caller may refuse its client or try later.
    """
