"""The keeper's process: started by `spare cell up`, found and ended by `spare cell down`."""

import os
import sys
from collections.abc import Sequence

import msgspec

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.cell_network import CELL_MARK, Reporter
from replica_manager.control.member_process import start_detached
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.processes import ProcessIdentity, end_all, is_alive

PATIENCE_S = 5.0
"""The keeper has nothing to finish."""


def keeper_command(paths: CellPaths) -> Sequence[str]:
    """Return the command of the keeper's process."""
    program = (sys.executable, "-P", "-m", "replica_manager")
    return (*program, "cell", "keep", "--runtime-dir", str(paths.runtime_dir))


def find_keeper(paths: CellPaths) -> ProcessIdentity | None:
    """Return the keeper that runs; `None` if none does."""
    try:
        identity = msgspec.json.decode(paths.keeper_record.read_bytes(), type=ProcessIdentity)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return identity if is_alive(identity) else None


def ensure_keeper(paths: CellPaths, report: Reporter) -> None:
    """Start the keeper unless it runs.

    Raises:
        ProcessError: it cannot be started.
    """
    if find_keeper(paths) is not None:
        return
    identity, _ = start_detached(
        "the keeper", keeper_command(paths), paths.keeper_log, {CELL_MARK: str(paths.runtime_dir)}
    )
    temporary = paths.keeper_record.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(identity))
    temporary.replace(paths.keeper_record)
    report(f"keeper: process {identity.pid}, log {paths.keeper_log}")


def restart_what_ended(config: Config, report: Reporter) -> bool:
    """If a part of the cell has ended, and its keeper too, have a new keeper start it; say whether that was so.

    Raises:
        ProcessError: the keeper cannot be started.
    """
    paths = CellPaths.of(config)
    records = ProcessRecords(paths.processes)
    wanted = [record for record in records.read() if not records.is_held(record.kind, record.member)]
    ended = [record.name for record in wanted if not record.is_alive]
    if not ended or len(ended) == len(wanted) or find_keeper(paths) is not None:
        return False
    report(f"cell {config.cell.name} runs without {', '.join(ended)}: the keeper starts them, see spare status")
    ensure_keeper(paths, report)
    return True


def end_keeper(paths: CellPaths, report: Reporter) -> None:
    """End the keeper, so that it starts nothing again; one that was killed is passed over."""
    identity = find_keeper(paths)
    if identity is not None:
        end_all([identity], PATIENCE_S, lambda pid: report(f"the keeper, process {pid}, did not end and was killed"))
    paths.keeper_record.unlink(missing_ok=True)
