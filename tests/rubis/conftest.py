"""Fixtures: one replica per database, started once per test session and set back before every test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rubis_adapter.tiers.service_processes import DatabaseKind
from tests.rubis.running_replica import RunningReplica


def _running(kind: DatabaseKind) -> Iterator[RunningReplica]:
    # Not below pytest's own directory: databases run as accounts that cannot enter it.
    directory = Path(tempfile.mkdtemp(prefix=f"rubis-{kind}-"))
    directory.chmod(0o711)
    replica = RunningReplica(kind, directory)
    try:
        replica.create()
        yield replica
    finally:
        replica.replica.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def running_mariadb() -> Iterator[RunningReplica]:
    yield from _running(DatabaseKind.MARIADB)


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[RunningReplica]:
    yield from _running(DatabaseKind.POSTGRESQL)


@pytest.fixture(params=list(DatabaseKind))
def site(request: pytest.FixtureRequest) -> RunningReplica:
    """A replica on each of the databases in turn, with the data set as it was made."""
    name = "running_mariadb" if request.param == DatabaseKind.MARIADB else "running_postgres"
    replica: RunningReplica = request.getfixturevalue(name)
    replica.reset()
    return replica


@pytest.fixture
def both(running_mariadb: RunningReplica, running_postgres: RunningReplica) -> tuple[RunningReplica, RunningReplica]:
    """Two replicas on different databases, with the data set as it was made."""
    running_mariadb.reset()
    running_postgres.reset()
    return running_mariadb, running_postgres
