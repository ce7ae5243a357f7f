"""`docs/wrap-your-service.md` is followed to the letter: its files pass its checks and run in a cell."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "wrap-your-service.md").read_text()
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
SPARE = Path(sys.executable).parent / "spare"
PATIENCE_S = 240.0


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """The directory that the page has its reader make."""
    for name, text in FILES.items():
        text = text.replace("/path/to/spare/.venv/bin/python", sys.executable)
        text = text.replace("/path/to/spare", str(PROJECT)).replace("/path/to/words", str(tmp_path))
        (tmp_path / name).write_text(text)
    return tmp_path


def run(words: Path, *command: object) -> str:
    """Run a command as the page says; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=words,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_adapter_of_the_page_passes_the_check_of_the_page(words: Path) -> None:
    """With the very command."""
    command = "PYTHONPATH=/path/to/spare /path/to/spare/.venv/bin/python -m pytest test_word_store.py"
    assert command in DOCUMENT
    assert "1 passed" in run(words, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_word_store.py")


@pytest.fixture
def ports() -> list[int]:
    """Free ports, because the ones of the page may be in use on this machine."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(7)]
    chosen = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return chosen


@pytest.fixture
def cell(words: Path, ports: list[int]) -> Iterator[Path]:
    """The cell of the page, running."""
    members = ""
    for server in (0, 1):
        names = ("public_address", "private_address", "admin_address")
        addresses = (f'{name} = "127.0.0.1:{ports[3 * server + index]}"' for index, name in enumerate(names))
        members += "\n".join(("\n[[server]]", f"id = {server}", *addresses, ""))
    members += f'\n[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{ports[6]}"\n'
    with (words / "spare.toml").open("a") as file:
        file.write(members)
    run(words, SPARE, "cell", "check")
    try:
        run(words, SPARE, "cell", "up")
        yield words
    finally:
        run(words, SPARE, "cell", "down", "--yes")


@pytest.mark.slow
def test_the_service_of_the_page_runs_in_a_cell(cell: Path, ports: list[int]) -> None:
    """Both servers answer, both passive replicas get the update, all four states are equal."""
    assert run(cell, SPARE, "replicas").count("passive") == 2
    shown = "\n".join(re.findall(r"^ANSWERED .*$", DOCUMENT, re.MULTILINE)) + "\n"
    answers = run(cell, sys.executable, "client.py", ports[0], "set colour blue", "get colour")
    answers += run(cell, sys.executable, "client.py", ports[3], "get colour")
    assert answers == shown
    assert "all equal" in run(cell, SPARE, "checkpoint")
    explanation = run(cell, SPARE, "explain", "2")
    assert explanation.count("agrees") == 2
    for console in (cell / "var" / "cell" / "log").glob("*.console"):
        assert "Traceback" not in console.read_text()
