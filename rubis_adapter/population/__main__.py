"""`python -m rubis_adapter.population`: fills a database, writes the files for filling one, or prints a digest."""

import sys
from pathlib import Path

import click
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from rubis_adapter.population.bulk_files import DIALECTS, digest, write_bulk_files
from rubis_adapter.population.data_sets import DATA_SETS, data_set
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population

DEFAULT_SEED = 1


@click.command()
@click.option("--data-set", "data_set_name", type=click.Choice(list(DATA_SETS)), default="tiny", show_default=True)
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True)
@click.option("--start-time-us", type=click.IntRange(0), required=True, help="Agreed start, microseconds since 1970.")
@click.option("--url", help="Fill this empty database, as SQLAlchemy names it (mariadb+pymysql://…).")
@click.option("--files", type=click.Path(path_type=Path), help="Write load.sql and one file per table to this folder.")
@click.option("--dialect", type=click.Choice(DIALECTS), default="mariadb", show_default=True, help="For --files.")
@click.option(
    "--seen-by-server", type=click.Path(path_type=Path), help="For --files: the server's path for the folder."
)
@click.option("--tables/--no-tables", default=True, show_default=True, help="For --files: create the tables too.")
def main(
    data_set_name: str,
    seed: int,
    start_time_us: int,
    url: str | None,
    files: Path | None,
    dialect: str,
    seen_by_server: Path | None,
    tables: bool,
) -> None:
    """Makes a RUBiS data set: into a database (--url), as files for a fast load (--files), or only its digest."""
    population = Population(data_set(data_set_name), seed, start_time_us)
    if url is not None:
        _fill(url, population)
    if files is not None:
        script = write_bulk_files(population, files, dialect, seen_by_server=seen_by_server, creates_tables=tables)
        click.echo(str(script))
    if url is None and files is None:
        click.echo(digest(population))


def _fill(url: str, population: Population) -> None:
    counts = population.row_counts()

    def show(table_name: str, rows: int) -> None:
        click.echo(f"\r{table_name:12} {rows:>9} of {counts[table_name]}", nl=rows == counts[table_name], err=True)

    try:
        engine = create_engine(url)
    except ArgumentError as error:
        raise click.ClickException(f"--url: {error}") from error
    try:
        load(engine, population, show)
    except SQLAlchemyError as error:
        cause = error.__cause__ or error
        raise click.ClickException(f"the database could not be filled: {str(cause).splitlines()[0]}") from error
    finally:
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
