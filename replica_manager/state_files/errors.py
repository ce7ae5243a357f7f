"""Errors of state files."""

from replica_manager.errors import ManagerError


class StateFileError(ManagerError):
    """Root of these errors; the message names the file."""


class NotAStateFile(StateFileError):
    """Raised when a file is none of this format, or of a version that is not known: the operator's mistake."""

    hint = "name a file that `spare state export` of this version has written"


class StateFileDamaged(StateFileError):
    """Raised when a file is not what was written: a torn copy, a failing disk, or somebody changed it."""

    hint = "copy the file again, or export the state again"

    def __init__(self, name: str, what: str, part: int | None = None) -> None:
        """`part`, counted from 1, is what offends; None: the head or the end record."""
        super().__init__(f"{name}: {what}")
        self.part = part


class StateFileExists(StateFileError):
    """Raised when an export would replace something: the operator's decision."""

    hint = "choose another name, or say --overwrite"


class StateUnfit(StateFileError):
    """Raised when a state that is whole cannot be that of this cell: the operator's mistake."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StateNotTaken(StateFileError):
    """Raised when a domain of a new cell does not take a state in, or gives another one back: an operating error."""

    hint = "see the domain's console in state_dir/log, and whether the service can read this state format"
