"""Runs inside the root file system while the image is built: fills the database, or changes it by SQL.

`data_set.py DATABASE load NAME START_TIME_US DESCRIPTION` makes the data directory, fills it, and describes it in a
JSON file.
`data_set.py DATABASE sql FILE` lets the administrator of the database execute the statements of a file, one a
paragraph.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text

from rubis_adapter.databases import open_engine
from rubis_adapter.population.bulk_files import digest
from rubis_adapter.population.data_sets import data_set
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population
from rubis_adapter.tiers.database_server import DatabaseServer
from rubis_adapter.tiers.service_processes import DatabaseKind, ServiceConfiguration, database_server

DATA_DIR = Path("/var/lib/rubis")
RUN_DIR = Path("/run/rubis-build")
SEED = 1


def main() -> None:
    """Do what the command line says."""
    database, command, *arguments = sys.argv[1:]
    server = database_server(ServiceConfiguration(DatabaseKind(database), DATA_DIR, RUN_DIR))
    if command == "load":
        name, start_time_us, description = arguments
        fill(server, name, int(start_time_us), Path(description))
    else:
        statements = Path(arguments[0]).read_text(encoding="utf-8").strip().split("\n\n")
        with_running(server, lambda engine: execute_all(engine, statements))


def fill(server: DatabaseServer, name: str, start_time_us: int, description: Path) -> None:
    """Make the data directory with the data set `name` in it."""
    population = Population(data_set(name), SEED, start_time_us)

    def show(table_name: str, rows: int) -> None:
        print(f"{table_name}: {rows} rows", flush=True)  # noqa: T201 - the builder shows it

    server.initialise()
    server.start()
    server.create_tables()
    engine = open_engine(server.administrator_url())
    load(engine, population, show)
    engine.dispose()
    server.stop()
    facts = {"name": name, "seed": SEED, "start_time_us": start_time_us, "content_sha256": digest(population)}
    description.write_text(json.dumps(facts) + "\n", encoding="utf-8")


def with_running(server: DatabaseServer, action: Callable[[Engine], None]) -> None:
    """Run `action` on the filled database."""
    server.start()
    engine = open_engine(server.administrator_url())
    try:
        action(engine)
    finally:
        engine.dispose()
        server.stop()


def execute_all(engine: Engine, statements: list[str]) -> None:
    """Execute each statement."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
            print(statement.splitlines()[0], flush=True)  # noqa: T201 - the builder shows it


if __name__ == "__main__":
    main()
