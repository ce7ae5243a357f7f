"""`fencing = "local"`: ends another server of this machine, its replica manager and its virtual machines."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from replica_manager.cell_paths import CellPaths
from replica_manager.control.leftovers import find_machines
from replica_manager.control.process_records import ProcessRecords
from replica_manager.control.processes import ProcessIdentity, end_all, identify, is_alive


def fence_local(paths: CellPaths, server: int) -> str:
    """Kill everything of `server`; return why it may still run, or an empty text.

    Its keeper may start it again at once: that one is nobody, and finds that the cell goes on.

    Args:
        paths: of the cell.
        server: whom.
    """
    found = {identity.pid: identity for identity in _processes(paths, server)}
    try:
        end_all(found.values(), 0.0, lambda _pid: None)
    except PermissionError:
        return f"server {server} belongs to another user"
    remaining = [identity.pid for identity in found.values() if is_alive(identity)]
    return f"process {remaining[0]} of server {server} does not end" if remaining else ""


def _processes(paths: CellPaths, server: int) -> Sequence[ProcessIdentity]:
    """Return the server's manager, as recorded and as the owner of its log, and its machines."""
    records = ProcessRecords(paths.processes).read()
    recorded = [record.identity for record in records if (record.kind, record.member) == ("server", server)]
    # One that an operator started by hand is on no record, but it has the log, which only one process can have.
    owners = [identify(pid) for pid in lock_holders(paths.state("server", server) / "agreement.db")]
    return [*recorded, *(owner for owner in owners if owner is not None), *find_machines(paths, server)]


def lock_holders(path: Path) -> Sequence[int]:
    """Return the processes that hold a lock on the file `path`, this one excepted.

    Source: proc(5), /proc/locks: the fifth field is the process, the sixth is major:minor:inode, in hexadecimal
    but for the inode.
    """
    with suppress(FileNotFoundError):
        status = path.stat()
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return sorted({int(row[4]) for row in rows if row[1] != "->" and row[5] == wanted} - {os.getpid(), -1})
    return []
