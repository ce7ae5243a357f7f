"""Stops a one-machine cell and removes what it made, also after all its processes were killed.  Idempotent."""

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.cell_network import CellNetwork, Reporter
from replica_manager.control.errors import ProcessError
from replica_manager.control.keeper_process import end_keeper, find_keeper
from replica_manager.control.leftovers import SERVED_MARK, STATE_MARK, end_leftovers, find_machines, find_mounts
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.control.processes import ProcessIdentity, end_all, wait_until_ended
from replica_manager.control.state_disks import find_state_disks

PATIENCE_S = 30.0
"""Time for a server to end its domains and its log by itself."""


@dataclass(frozen=True, slots=True)
class DownPlan:
    """What `spare cell down` is about to do."""

    keeper: ProcessIdentity | None
    members: Sequence[ProcessRecord]
    machine_count: int
    mounts: Sequence[Path]
    removed: Sequence[Path]
    """Directories that go with everything in them."""

    @property
    def lines(self) -> Sequence[str]:
        """The plan for the operator, a line per step."""
        return [
            *([f"end the keeper (process {self.keeper.pid})"] if self.keeper else []),
            *(f"end {record.name} (process {record.identity.pid})" for record in self.members),
            *([f"destroy {self.machine_count} virtual machines"] if self.machine_count else []),
            *(f"unmount {mount}" for mount in self.mounts),
            "remove the cell's networks and runtime files",
            *(f"delete {directory} with everything in it" for directory in self.removed),
        ]


def plan_down(config: Config, *, purge: bool) -> DownPlan:
    """Return what ending the cell means now.

    Args:
        config: complete configuration.
        purge: also delete the durable state.

    Raises:
        ProcessError: a directory to delete was not made by a cell.
    """
    paths = CellPaths.of(config)
    members = [record for record in ProcessRecords(paths.processes).read() if record.is_alive]
    removed = _purged(config, paths) if purge else ()
    mounts = [*find_mounts(paths.runtime_dir), *find_state_disks(paths)]
    return DownPlan(find_keeper(paths), members, len(find_machines(paths)), mounts, removed)


def take_down(
    config: Config, network: CellNetwork, plan: DownPlan, report: Reporter, patience_s: float = PATIENCE_S
) -> None:
    """Carry out `plan`; what ended meanwhile is passed over.

    Args:
        config: complete configuration.
        network: of the cell.
        plan: what to do.
        report: takes progress lines.
        patience_s: time for members to end by themselves.

    Raises:
        ProcessError: something cannot be removed.
    """
    paths = CellPaths.of(config)
    end_keeper(paths, report)
    # Read again: until its end the keeper may have started somebody whom the plan does not know.
    records = {record.identity: record for record in (*plan.members, *ProcessRecords(paths.processes).read())}
    identities = list(records)
    end_all(identities, patience_s, lambda pid: report(f"process {pid} did not end in {patience_s:g} s and was killed"))
    end_leftovers(paths, network, report)
    network.down(report)
    wait_until_ended(identities, patience_s=5.0)
    discard(plan.removed)


def take_down_whole(config: Config, network: CellNetwork, report: Reporter, *, purge: bool = False) -> None:
    """End the cell; a Ctrl-C meanwhile changes nothing.  For the main thread.

    Args:
        config: complete configuration.
        network: of the cell.
        report: takes progress lines.
        purge: also delete the durable state.

    Raises:
        ProcessError: something cannot be removed.
    """
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        take_down(config, network, plan_down(config, purge=purge), report)
    finally:
        signal.signal(signal.SIGINT, former)


def plan_fresh(config: Config) -> Sequence[Path]:
    """Return what holds the state of an earlier run: agreement logs and disks of domains; not keys, logs, events."""
    paths = CellPaths.of(config)
    if not (paths.state_dir / STATE_MARK).exists():
        return []
    members = sorted(path for pattern in ("s[0-9]*", "w[0-9]*") for path in paths.state_dir.glob(pattern))
    served = [mark for mark in (paths.state_dir / SERVED_MARK,) if mark.exists()]
    return [*members, *_domain_disks(config, paths), *served]


def discard(directories: Sequence[Path]) -> None:
    """Delete files and directories; what is gone already is passed over.

    Raises:
        ProcessError: something cannot be deleted.
    """
    for path in directories:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ProcessError(f"{error.filename} cannot be deleted: {error.strerror}") from error


def _purged(config: Config, paths: CellPaths) -> Sequence[Path]:
    """Return the directories of durable state: only what cells made themselves."""
    removed = []
    if paths.state_dir.exists():
        if not (paths.state_dir / STATE_MARK).exists():
            hint = "delete it by hand if it is the cell's"
            raise ProcessError(f"{paths.state_dir} was not made by a cell: it has no {STATE_MARK}", hint)
        removed.append(paths.state_dir)
    return [*removed, *_domain_disks(config, paths)]


def _domain_disks(config: Config, paths: CellPaths) -> Sequence[Path]:
    """Return the disks of domains that are not below the state directory."""
    storages = [(server.id, Path(storage)) for server in config.server for storage in server.storage]
    return [
        disk
        for number, storage in storages
        if not storage.is_relative_to(paths.state_dir)
        for disk in sorted(storage.glob(f"s{number}.g[0-9]*"))
    ]
