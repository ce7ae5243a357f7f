"""RUBiS in child processes: a data set that is made once, and the command of a domain that begins with a copy of it.

`python -m benchmarks.native_rubis DATABASE DIRECTORY DOMAIN CHANNEL` copies the data set and becomes the domain.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rubis_adapter.databases import open_engine
from rubis_adapter.population.data_sets import data_set
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population
from rubis_adapter.tiers.service_processes import DatabaseKind, ServiceConfiguration, database_server

DATA_SET = "tiny"
SEED = 1
START_TIME_US = 1_700_000_000_000_000
"""Data set, seed and start are those of the images of RUBiS: the states of all are the same."""


@dataclass(frozen=True)
class NativeRubis:
    """Where the data set of one database and the domains that began with it are."""

    kind: DatabaseKind
    directory: Path
    """Databases run as accounts of their own, which have to reach it: not below a directory that is closed to them."""

    @property
    def data_set(self) -> Path:
        """The database's files as they were filled."""
        return self.directory / f"data-set-{self.kind}"

    def create(self) -> None:
        """Make and fill the data set.

        Raises:
            MissingProgram, ProcessFailed: the database cannot be run here.
        """
        server = database_server(ServiceConfiguration(self.kind, self.data_set, self.directory / "filling"))
        server.initialise()
        server.start()
        try:
            server.create_tables()
            engine = open_engine(server.administrator_url())
            load(engine, Population(data_set(DATA_SET), SEED, START_TIME_US))
            engine.dispose()
        finally:
            server.stop()

    def command(self) -> list[str]:
        """Return the wrapper command for `[service] command`."""
        module = [sys.executable, "-P", "-m", "benchmarks.native_rubis"]
        return [*module, str(self.kind), str(self.directory), "{domain}", "{channel}"]

    def become(self, domain: str, channel: str) -> None:
        """Replace this process by the domain `domain`, with the data set as it was made."""
        place = self.directory / f"{self.kind}-{domain}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o711)
        # Only `cp` keeps owners, holes and, where the file system can, shares the blocks.
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.data_set), str(place / "data")], check=True)
        guest = [sys.executable, "-P", "-m", "rubis_adapter.guest", "--link", f"unix:{channel}"]
        files = ["--database", str(self.kind), "--data-dir", str(place / "data"), "--run-dir", str(place / "run")]
        os.execv(sys.executable, [*guest, *files])  # noqa: S606


@contextmanager
def native_rubis(kind: DatabaseKind) -> Iterator[NativeRubis]:
    """Make a data set in a directory of its own; it and its domains' files are gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="spare-rubis-"))
    directory.chmod(0o711)
    try:
        rubis = NativeRubis(kind, directory)
        rubis.create()
        yield rubis
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    database, where, name, socket = sys.argv[1:]
    NativeRubis(DatabaseKind(database), Path(where)).become(name, socket)
