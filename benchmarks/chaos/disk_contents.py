"""What the database of a domain has on its disk, read when the domain is no more, as after a power cut.

The disk is made whole by `e2fsck` and the database by its own recovery: what is read then is what was durable.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from rubis_adapter.databases import open_engine
from rubis_adapter.tiers.service_processes import (
    DATABASE_ACCOUNTS,
    DatabaseKind,
    ServiceConfiguration,
    database_server,
)

DATA_DIR = "/var/lib/rubis"
"""In the guest; see the image's recipe."""
E2FSCK_OK = (0, 1)
"""Nothing to repair, or all repaired.  Source: e2fsck(8)."""


@contextmanager
def database_on(disk: Path) -> Iterator[Connection]:
    """Start a database server on a copy of what `disk`, an overlay, holds; give a connection to it."""
    # Not below pytest's own directory: the database runs as an account that cannot enter it.
    directory = Path(tempfile.mkdtemp(prefix="spare-disk-"))
    directory.chmod(0o711)
    try:
        data = _copy_out(disk, directory)
        (directory / "run").mkdir(mode=0o711)
        server = database_server(ServiceConfiguration(DatabaseKind.MARIADB, data, directory / "run"))
        server.start()
        try:
            engine = open_engine(server.administrator_url())
            with engine.connect() as connection:
                yield connection
            engine.dispose()
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def _copy_out(disk: Path, directory: Path) -> Path:
    """Copy the database's files below `directory`; return where they are."""
    raw = directory / "disk.raw"
    _run("qemu-img", "convert", "-O", "raw", str(disk), str(raw))
    _run("e2fsck", "-f", "-y", str(raw), codes=E2FSCK_OK)
    _run("debugfs", "-R", f"rdump {DATA_DIR} {directory}", str(raw))
    raw.unlink()
    data = directory / Path(DATA_DIR).name
    # The account has another number here than in the guest.
    for path in (data, *data.rglob("*")):
        shutil.chown(path, DATABASE_ACCOUNTS[DatabaseKind.MARIADB])
    return data


def _run(*command: str, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in codes, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
