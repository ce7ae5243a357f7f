"""Errors of the wrapper.  `wire.WireError` (bytes that are no frame) stands with the frames."""


class WrapperError(Exception):
    """Root of this package's errors."""


class ProtocolError(WrapperError):
    """Raised when a frame does not fit the state of the session, for instance leaves a gap: the manager's fault.

    The wrapper answers `Failed` and ends the connection; the service is as it was.
    """


class StateInterrupted(WrapperError):
    """Raised when something else than the next part comes in the middle of `SetState`: the manager's fault.

    Unlike after a `ProtocolError` the wrapper ends, because half a state is none.
    """


class LinkClosed(WrapperError):
    """Raised when the connection ends while more input is needed or output is left: an operating error.

    Inside `set_state` it ends the wrapper, because half a state is none.
    """


class AdapterError(WrapperError):
    """Raised when an adapter breaks its contract, for instance with an oversized reply: the operator's adapter's fault.

    The wrapper answers `Failed` and ends.
    """


class UsageError(WrapperError):
    """Raised for a wrong command line: the caller's mistake.  The message is one sentence with the offending value."""
