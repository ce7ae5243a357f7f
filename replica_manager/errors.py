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


class MemoryLost(ManagerError):
    """Raised at a start without `--born` over an empty log: an operating error, nothing is changed.

    A member that takes part again under its old identity without what it promised could let two histories be chosen.
    Source: design "Agreement stage", Identity (`S4`).
    """

    hint = "if this cell is new, start it with 'spare cell up', or the member with --born; otherwise its disk was lost"

    def __init__(self, directory: Path) -> None:
        """`directory` should hold the log."""
        super().__init__(f"{directory} holds no agreement log: this member has lost its memory")


class CheckpointUnderWay(ManagerError):
    """Raised when a checkpoint is asked for while domains give their state for another point, or gives way to a repair.

    Our misuse, or bad luck: try later.
    """

    hint = "wait until it is complete, see 'spare events'"

    def __init__(self, open_point: int) -> None:
        """`open_point` is the position of the open one."""
        super().__init__(f"a checkpoint or repair at {open_point} is under way")


class CannotRecord(ManagerError):
    """Raised at a start when the recording that `[service] record` asks for cannot be made: an operating error."""

    hint = "see [service] record; leave it out to run without a recording"

    def __init__(self, path: Path, reason: str) -> None:
        """`path` is the recording's file; `reason` the operating system's words."""
        super().__init__(f"the recording {path} cannot be made: {reason}")
