"""The mark that a member leaves when it has ended in good order and everything that it wrote is on the disk.

With `durability = "sync"` a log is complete after any end.  With `async` and `none` it is after a clean one only: then
the mark says so, and is taken away before the next process writes anything.

Source: design "Agreement stage", Identity and A4 (`S4` of its list of traps).
"""

import os
from pathlib import Path

MARK = "clean-stop"


def leave_mark(directory: Path) -> None:
    """Bring everything to the disk, then say so.

    Raises:
        OSError: the mark cannot be written; without it the log counts as incomplete.
    """
    # The disks of domains count too, and nobody knows all files that are theirs.
    os.sync()
    descriptor = os.open(directory / MARK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_directory(directory)


def has_mark(directory: Path) -> bool:
    """Say whether the last process ended in good order."""
    return (directory / MARK).exists()


def take_mark(directory: Path) -> bool:
    """Take the mark away, for good, and say whether it was there.

    Raises:
        OSError: it cannot be removed: an unclean end would count as a clean one.
    """
    if not has_mark(directory):
        return False
    (directory / MARK).unlink()
    _sync_directory(directory)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
