"""Errors of the client library; the outcome of a request is no error, see `intake.port.Outcome`."""


class ClientError(Exception):
    """Root of these errors; the message is one sentence, `hint` says what to do."""

    hint = ""


class CellUnreachable(ClientError):
    """Raised when no server issued a client id in time: an operating error, nothing was executed, try again later."""


class SessionBusy(ClientError):
    """Raised when a session is given a request before its former one is decided: the caller's mistake.

    A client has one request at a time, by the protocol; open a session per strand of requests.
    """


class ClientClosed(ClientError):
    """Raised when the client was closed while a request waited: its outcome is unknown."""


class NoFramedPort(ClientError):
    """Raised when the servers of a cell have no port for the framed protocol: the operator's choice."""

    hint = "give every [[server]] a `framed_address`, and start the servers again"

    def __init__(self, cell: str) -> None:
        """`cell` is its name."""
        super().__init__(f"the cell {cell} speaks HTTP only: its servers have no port for the framed protocol")


class CellNotHere(ClientError):
    """Raised when the network namespaces of a one-machine cell are not there: an operating error."""

    hint = "start it with 'spare cell up'; the cell of another machine is described with kind = \"hosts\""

    def __init__(self, cell: str) -> None:
        """`cell` is its name."""
        super().__init__(f"the cell {cell} does not run on this machine")
