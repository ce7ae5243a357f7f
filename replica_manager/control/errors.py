"""Errors of the operator's side."""


class ControlError(Exception):
    """Root of this room's errors: one sentence with the offending value, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RequestRefused(ControlError):
    """Raised by a handler, and by the client that asked: the process answers, but not what was asked.

    `code` is a word for programs: `not_found`, `bad_request`, `not_ready`, `internal`.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class ControlUnavailable(ControlError):
    """Raised by the client when nobody answers on a control socket: the process does not run, or is not ours."""


class ControlTimeout(ControlUnavailable):
    """Raised by the client when the process took the request and did not answer in time: it hangs or is overloaded."""


class AlreadyRuns(ControlError):
    """Raised when a second process of the same member is started: the operator's mistake; the first one goes on."""


class ProcessError(ControlError):
    """Raised when a process of the cell cannot be started or ends before it serves: an operating error."""


class RefusedByOperator(ControlError):
    """Raised when the operator answers no, or when there is nobody to ask: nothing was changed."""
