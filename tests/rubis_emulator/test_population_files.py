"""The files for a fast load, and the command that writes them."""

from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from rubis_adapter.population.__main__ import main
from rubis_adapter.population.bulk_files import DIALECTS, digest, script_text, write_bulk_files
from rubis_adapter.population.data_sets import data_set
from rubis_adapter.population.errors import UnknownDialect
from rubis_adapter.population.rows import Population

START_US = 1_900_000_000_000_000


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(data_set("tiny"), 3, START_US)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_there_is_one_file_with_one_line_per_row(population: Population, tmp_path: Path, dialect: str) -> None:
    script = write_bulk_files(population, tmp_path, dialect)
    for name, count in population.row_counts().items():
        lines = (tmp_path / f"{name}.tsv").read_text().splitlines()
        assert len(lines) == count
        first = next(population.rows(name))
        assert len(lines[0].split("\t")) == len(first)
        assert str(tmp_path / f"{name}.tsv") in script.read_text()


def test_prices_and_times_are_written_as_both_databases_read_them(population: Population, tmp_path: Path) -> None:
    write_bulk_files(population, tmp_path, "mariadb")
    item = next(population.rows("items"))
    fields = (tmp_path / "items.tsv").read_text().splitlines()[0].split("\t")
    assert Decimal(fields[3]) == item[3]
    assert fields[3][-3] == "."
    assert fields[9] == str(item[9])
    assert len(fields[9]) == len("2031-05-06 07:08:09")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("creates_tables", [True, False])
def test_the_script_has_one_statement_per_line(population: Population, dialect: str, creates_tables: bool) -> None:
    """MariaDB's bootstrap mode and psql's `\\copy` end a statement at the line's end."""
    text = script_text(population, Path("/data"), dialect, by_client=True, creates_tables=creates_tables)
    lines = text.splitlines()
    assert all(line.endswith(";") for line in lines)
    assert sum("/data/" in line for line in lines) == len(population.row_counts())
    assert any(line.startswith("CREATE TABLE") for line in lines) == creates_tables
    assert any("INDEX" in line for line in lines) == creates_tables


def test_an_unknown_dialect_is_refused(population: Population, tmp_path: Path) -> None:
    with pytest.raises(UnknownDialect, match=r"'oracle'.*mariadb, postgresql"):
        write_bulk_files(population, tmp_path / "files", "oracle")
    assert not (tmp_path / "files").exists()


def test_the_command_writes_files_or_prints_the_digest(population: Population, tmp_path: Path) -> None:
    arguments = ["--seed", "3", "--start-time-us", str(START_US)]
    printed = CliRunner().invoke(main, arguments)
    assert printed.output.strip() == digest(population)
    written = CliRunner().invoke(main, [*arguments, "--files", str(tmp_path / "files"), "--seen-by-server", "/data"])
    assert written.exit_code == 0, written.output
    assert "INFILE '/data/bids.tsv'" in Path(written.output.strip()).read_text()
