"""Errors of the replica manager that an operator sees; the rooms have their own."""

from pathlib import Path


class ManagerError(Exception):
    """Root of these errors; the message is one sentence, `hint` says what to do."""

    hint = ""


class CellHasServed(ManagerError):
    """Raised at a start over the state of a cell that has served: an operating error, nothing is changed."""

    hint = "start a new cell with 'spare cell up --fresh', which discards that state"

    def __init__(self, state_dir: Path) -> None:
        """`state_dir` holds the state."""
        super().__init__(f"{state_dir} holds the state of a cell that has served")


class CheckpointUnderWay(ManagerError):
    """Raised when a checkpoint is asked for while domains still give their state for another: our misuse, try later."""

    hint = "wait until it is complete, see 'spare events'"

    def __init__(self, open_point: int) -> None:
        """`open_point` is the position of the open one."""
        super().__init__(f"a checkpoint at {open_point} is under way")
