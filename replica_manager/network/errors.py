"""Errors of networks and keys."""


class NetworkError(Exception):
    """Raised when the kernel refuses a namespace, bridge or address: an operating error.

    The message is one sentence with the name of the thing and the kernel's words.
    """


class KeysError(Exception):
    """Raised when a key or certificate is missing, unreadable or of another cell: an operating error.

    The message is one sentence with the file and a hint.  A peer that presents a wrong certificate is not this error
    but a named event of the transport.
    """
