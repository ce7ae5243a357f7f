"""Filling real databases: whatever the way, the rows in them are those of the population."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine, inspect, select

from rubis_adapter.population.__main__ import main
from rubis_adapter.population.bulk_files import write_bulk_files
from rubis_adapter.population.data_sets import data_set
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population
from rubis_adapter.schema import metadata
from rubis_adapter.tiers.database_server import DatabaseServer
from rubis_adapter.tiers.mariadb import MariaDbServer

pytestmark = pytest.mark.db

START_US = 1_900_000_000_000_000


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(data_set("tiny"), 3, START_US)


@pytest.fixture
def engine(empty_database: DatabaseServer) -> Iterator[Engine]:
    engine = create_engine(empty_database.administrator_url())
    yield engine
    engine.dispose()


def assert_filled(engine: Engine, population: Population) -> None:
    """Every table holds the population's rows, value by value, and has its indexes."""
    with engine.connect() as connection:
        for name in population.row_counts():
            table = metadata.tables[name]
            stored = connection.execute(select(table).order_by(table.c.id)).all()
            assert [tuple(row) for row in stored] == list(population.rows(name)), name
    inspector = inspect(engine)
    for name, table in metadata.tables.items():
        assert {index["name"] for index in inspector.get_indexes(name)} == {index.name for index in table.indexes}


def run_script(server: DatabaseServer, script: Path) -> None:
    url = server.administrator_url()
    if isinstance(server, MariaDbServer):
        socket = str(url.query["unix_socket"])
        command = ["mariadb", "--no-defaults", "--local-infile=1", f"--socket={socket}", "--user=root", "rubis"]
    else:
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(url.query["host"]), "-U"]
        command += [str(url.username), "rubis"]
    with script.open("rb") as text:
        done = subprocess.run(command, stdin=text, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()


def dialect_of(server: DatabaseServer) -> str:
    return "mariadb" if isinstance(server, MariaDbServer) else "postgresql"


def test_inserting_fills_all_tables(engine: Engine, population: Population) -> None:
    told: dict[str, int] = {}
    load(engine, population, told.__setitem__)
    assert told == population.row_counts()
    assert_filled(engine, population)


def test_the_command_fills_a_database_and_refuses_one_that_is_not_empty(engine: Engine, population: Population) -> None:
    url = engine.url.render_as_string(hide_password=False)
    arguments = ["--data-set", "tiny", "--seed", "3", "--start-time-us", str(START_US), "--url", url]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert_filled(engine, population)
    second = CliRunner().invoke(main, arguments)
    assert second.exit_code == 1
    assert "the database could not be filled" in second.output
    assert "Traceback" not in second.output
    assert_filled(engine, population)


def test_files_read_by_the_client_fill_existing_tables(
    empty_database: DatabaseServer, engine: Engine, population: Population, tmp_path: Path
) -> None:
    script = write_bulk_files(population, tmp_path, dialect_of(empty_database), creates_tables=False)
    run_script(empty_database, script)
    assert_filled(engine, population)


def test_files_read_by_the_server_create_and_fill_the_tables(
    empty_database: DatabaseServer, engine: Engine, population: Population
) -> None:
    """The way of an image's build: the server sees the files under a path of its own."""
    metadata.drop_all(engine)
    run_directory = Path(str(engine.url.query.get("host") or engine.url.query["unix_socket"]))
    directory = next(path for path in run_directory.parents if (path / "data").is_dir()) / "files"
    seen = directory.with_name("seen")
    directory.mkdir()
    seen.symlink_to(directory)
    script = write_bulk_files(population, directory, dialect_of(empty_database), seen_by_server=seen)
    run_script(empty_database, script)
    assert_filled(engine, population)
