"""Exit codes of `spare`, for scripts and monitoring."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command says with its exit code."""

    OK = 0
    ERROR = 1
    USAGE = 2
    """Wrong command line or configuration."""
    DEGRADED = 3
    """The cell serves, but tolerates fewer faults than configured."""
    NOT_SERVING = 4
    TIMEOUT = 5
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM, as shells report it."""
