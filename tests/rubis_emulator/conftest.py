"""Fixtures: real databases, started once per test session."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from rubis_adapter.schema import metadata
from rubis_adapter.tiers.database_server import DatabaseServer
from rubis_adapter.tiers.mariadb import MariaDbServer
from rubis_adapter.tiers.postgres import PostgresServer
from rubis_adapter.tiers.tier_process import Account


@pytest.fixture(scope="session", params=["mariadb", "postgresql"])
def database_server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A running server whose database has the service's tables."""
    # Not under pytest's own directory: it is closed to the accounts that the servers run as.
    directory = Path(tempfile.mkdtemp(prefix="rubis-population-"))
    directory.chmod(0o755)
    server: DatabaseServer
    if request.param == "mariadb":
        server = MariaDbServer(directory / "data", directory / "run", Account.named("mysql"))
    else:
        server = PostgresServer(directory / "data", directory / "run", Account.named("postgres"))
    try:
        server.initialise()
        server.start()
        server.create_tables()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture
def empty_database(database_server: DatabaseServer) -> DatabaseServer:
    """The server with all tables made anew."""
    engine = create_engine(database_server.administrator_url())
    metadata.drop_all(engine)
    metadata.create_all(engine)
    engine.dispose()
    return database_server
