"""Errors of the replica manager that an operator sees; the rooms have their own."""

from collections.abc import Sequence
from pathlib import Path


class ManagerError(Exception):
    """Root of these errors; the message is one sentence, `hint` says what to do."""

    hint = ""


class CellHasServed(ManagerError):
    """Raised when a member is started as a new one over a log that is not empty: the operator's mistake.

    Nothing is changed.  A start without `--born` goes on with that log.
    """

    hint = "start it without --born; or discard the cell's state with 'spare cell up --fresh'"

    def __init__(self, state_dir: Path) -> None:
        """`state_dir` holds the state."""
        super().__init__(f"{state_dir} holds the state of a cell that has served")


class LogsIncomplete(ManagerError):
    """Raised at the restart of a whole cell whose logs may miss what clients were told: an operating error.

    Nothing is changed.  A single server in this state comes back as a learner; if all are, nobody can teach them.
    Source: design "Agreement stage", Identity (`S4`).
    """

    hint = (
        "'spare cell up --accept-loss' goes on with what is there, 'spare cell up --fresh' begins a new cell;"
        ' with durability = "sync" this cannot happen'
    )

    def __init__(self, servers: Sequence[int], durability: str) -> None:
        """`servers` ended without syncing their logs."""
        names = ", ".join(f"server {server}" for server in servers)
        super().__init__(
            f'with durability = "{durability}" the logs of {names} may miss the last requests that clients were'
            " told of: there was no clean stop"
        )


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
