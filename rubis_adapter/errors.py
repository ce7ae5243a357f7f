"""What can go wrong between the wrapper and the auction site, by whose fault it is."""


class RubisError(Exception):
    """Base of all errors of this package."""


class ServiceFailed(RubisError):
    """Raised when a tier of the service does not work: it crashed, hangs, answers nonsense, or its disk is full.

    Operating error of this domain; the wrapper reports `Failed` and ends its session.  An error page of a working
    service is an ordinary reply and never raises.
    """


class ProcessFailed(ServiceFailed):
    """Raised when a tier's process does not start, ends by itself or does not become ready in time.

    The text holds the end of its log.
    """


class MissingProgram(RubisError):
    """Raised when a program of a tier is not installed; the text names the Debian package."""


class FeedMisuse(RubisError):
    """Raised when a caller hands numbers out of order, or asks for the state of a point where it does not stand.

    The caller's mistake: nothing was executed or applied.
    """


class MalformedUpdate(RubisError):
    """Raised when bytes are not an update, or not a state part, of this format: the sender's fault.

    Nothing of the batch was applied.
    """


class UnsupportedStatement(RubisError):
    """Raised inside the application when the update manager cannot capture the effect of a statement.

    The application's mistake: the statement was not executed, or its transaction is rolled back.
    """
