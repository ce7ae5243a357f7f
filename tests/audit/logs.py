"""Audit logs on a disk, as servers write them, and hands that change them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from replica_manager.audit.audit_file import AuditFile
from replica_manager.audit.audit_log import AuditLog
from replica_manager.audit.chain import Chain, read_chain
from replica_manager.cell.cell_state import CellState

Change = tuple[str, Mapping[str, Any]]
RETIRED: Change = (
    "role_changed",
    {"domain": "s0.g1", "role": "retired", "reason": "convicted: differs", "sequence": 9},
)
STARTING: Change = (
    "role_changed",
    {"domain": "s0.g3", "role": "starting", "reason": "to be filled", "sequence": 12},
)
FILLED: Change = ("role_changed", {"domain": "s0.g3", "role": "passive", "reason": "repaired", "sequence": 15})
LEFT: Change = (
    "membership_changed",
    {"live_servers": (0,), "f_prime": 0, "threshold": 2, "left_server": 1, "sequence": 20},
)


def cell_at(sequence: int = 0) -> CellState:
    """Return the state of a cell of two servers as it is at `sequence`."""
    cell = CellState(1, 10)
    cell.sequence = sequence
    return cell


class ServerLog:
    """The audit log of one server; every `run` is one life of its process."""

    def __init__(self, directory: Path, server: int = 0) -> None:
        self.path, self.head_path = directory / f"audit-{server}.log", directory / f"audit-{server}.head"
        self.server = server
        self.now_us = 1_700_000_000_000_000
        self.failures: list[str] = []

    def start(self, standing: str = "serving", cell: CellState | None = None, *, is_loss: bool = False) -> AuditLog:
        """Begin a life of the process."""
        file = AuditFile(self.path, self.head_path)
        log = AuditLog(self.server, self._tick, file, lambda kind, data: self.failures.append(f"{kind}: {data}"))
        log.open(standing, cell or cell_at(), is_loss=is_loss)
        return log

    def run(self, *changes: Change, standing: str = "serving", cell: CellState | None = None) -> None:
        """Live, record `changes`, end in good order."""
        log = self.start(standing, cell)
        for kind, data in changes:
            log.note(kind, data)
        log.close()

    def kill(self, *changes: Change, standing: str = "serving") -> None:
        """Live, record `changes`, and be killed when they are on the disk."""
        log = self.start(standing)
        for kind, data in changes:
            log.note(kind, data)
        log.sync()

    def _tick(self) -> int:
        self.now_us += 1000
        return self.now_us

    @property
    def chain(self) -> Chain:
        """What the file holds."""
        return read_chain(self.path.read_bytes(), self.server)

    @property
    def kinds(self) -> list[str]:
        """The kinds of its records."""
        return [record.kind for record in self.chain.records]

    def edit(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Have somebody change the lines of the file."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.path.write_bytes(b"".join(change(lines)))
