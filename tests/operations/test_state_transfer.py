"""A service moves from one cell of processes into another one, with every acknowledged write, or the operator hears why
not."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replica_manager.cell_paths import CellPaths
from replica_manager.control.process_records import ProcessRecords
from tests.operations.live_cell import REPOSITORY, LiveCell, Writers
from tests.operations.test_restarted_cell import write

pytestmark = pytest.mark.slow

SMALL_PARTS = "[limits]\nstate_part_bytes_max = 1024\n"
NEVER = 'restart = "never"'


def checkpoint(cell: LiveCell) -> str:
    """The digest of every domain; they are equal, or the command fails."""
    taken = json.loads(cell.ok("checkpoint", "-o", "json"))
    assert len(taken["digests"]) >= 4
    (digest,) = set(taken["digests"].values())
    return str(digest)


def exported(cell: LiveCell, file: Path, *words: str) -> dict[str, object]:
    done: dict[str, object] = json.loads(cell.ok("state", "export", str(file), "-o", "json", *words))
    return done


def assert_not_started(cell: LiveCell) -> None:
    assert not CellPaths.of(cell.config).runtime_dir.exists()
    assert ProcessRecords(cell.paths.processes).read() == []


@pytest.fixture
def source(make_cell: Callable[..., LiveCell]) -> tuple[LiveCell, Writers]:
    """A cell with some state, of several parts."""
    cell = make_cell(cell=NEVER, rest=SMALL_PARTS)
    cell.ok("cell", "up")
    return cell, write(cell, 150)


def test_a_service_moves_into_another_cell_which_keeps_it(
    make_cell: Callable[..., LiveCell], source: tuple[LiveCell, Writers], tmp_path: Path
) -> None:
    """Equal digests: of the checkpoint there, the file, the checkpoint here, and after `kill -9` of everything here."""
    old, writers = source
    file = tmp_path / "shop.state"
    done = exported(old, file)
    digest = checkpoint(old)
    assert done["digest"] == digest
    assert int(str(done["parts"])) > 2
    assert file.stat().st_mode & 0o777 == 0o600
    shown = json.loads(old.ok("state", "show", str(file), "-o", "json"))
    assert {key: shown[key] for key in ("parts", "bytes", "digest", "point")} == {
        key: done[key] for key in ("parts", "bytes", "digest", "point")
    }
    assert (shown["cell"], shown["service"]) == (old.config.cell.name, "key-value")

    new = make_cell(cell=NEVER, rest=SMALL_PARTS)
    said = new.ok("cell", "up", "--import", str(file), "--digest", digest)
    assert f"4 domains hold the imported state: equal to {file}, digest {digest}" in said
    assert checkpoint(new) == digest
    assert sorted(event["data"]["domain"] for event in new.events("state_imported")) == [
        *("s0.g1", "s0.g2", "s1.g1", "s1.g2"),
    ]
    new.kill("server 0", "server 1", "witness 0")
    assert "restarting the cell from its disks" in new.ok("cell", "up")
    assert checkpoint(new) == digest
    moved = Writers(new)
    moved.acknowledged = writers.acknowledged
    assert asyncio.run(moved.missing()) == []
    assert new.put_and_get(b"after", b"42").endswith(b"42")
    assert [event["data"]["file"] for event in old.events("state_exported")] == [str(file)]


def test_a_server_of_the_new_cell_that_loses_its_disk_learns_the_imported_state(
    make_cell: Callable[..., LiveCell], source: tuple[LiveCell, Writers], tmp_path: Path
) -> None:
    """The order has nothing of it; the domains of the others do."""
    old, _ = source
    digest = str(exported(old, tmp_path / "shop.state")["digest"])
    new = make_cell(cell=NEVER, rest=SMALL_PARTS)
    new.ok("cell", "up", "--import", str(tmp_path / "shop.state"))
    new.kill("server 1")
    new.wait("its departure", lambda: new.ask(0).get("f_prime") == 0)
    (new.paths.state("server", 1) / "agreement.db").unlink()
    new.ok("server", "join", "1")
    new.wait_whole()
    assert checkpoint(new) == digest


def test_a_file_that_is_not_what_was_written_starts_nothing(
    make_cell: Callable[..., LiveCell], source: tuple[LiveCell, Writers], tmp_path: Path
) -> None:
    """Damaged, another state than was meant, cut elsewhere; and a cell that has served has a state."""
    old, _ = source
    file, bad = tmp_path / "shop.state", tmp_path / "bad.state"
    done = exported(old, file)
    content = file.read_bytes()
    new = make_cell(cell=NEVER, rest=SMALL_PARTS)

    def refusal(path: Path, *words: str) -> str:
        code, _, err = new.spare("cell", "up", "--import", str(path), *words)
        assert code == 1
        assert_not_started(new)
        return err

    bad.write_bytes(content[:1500] + bytes([content[1500] ^ 1]) + content[1501:])
    assert f"part 2 of {done['parts']} does not match its digest" in refusal(bad)
    bad.write_bytes(content[:1500])
    assert "part 2 is cut off" in refusal(bad)
    assert f"has the digest {done['digest']}, wanted is ab" in refusal(file, "--digest", "ab")
    large = make_cell(cell=NEVER)
    code, _, err = large.spare("cell", "up", "--import", str(file))
    assert code == 1
    assert "say state_part_bytes_max = 1024 in [limits]" in err
    code, _, err = old.spare("cell", "up", "--import", str(file))
    assert code == 2
    assert "only a new cell imports one" in err


def test_a_service_that_does_not_keep_what_it_is_given_ends_the_start(
    make_cell: Callable[..., LiveCell], source: tuple[LiveCell, Writers], tmp_path: Path
) -> None:
    """Before any client is served; the next start is the birth of the cell again."""
    old, _ = source
    exported(old, tmp_path / "shop.state")
    new = make_cell(cell=NEVER, rest=SMALL_PARTS, service="tests.operations.forgetful_service")
    code, _, err = new.spare("cell", "up", "--import", str(tmp_path / "shop.state"))
    assert code == 1
    assert "that it gives back is another one than it was given" in err
    assert_not_started(new)
    said = new.ok("cell", "up")
    assert "restarting" not in said


def test_an_export_replaces_nothing_unasked_and_ctrl_c_leaves_nothing(
    source: tuple[LiveCell, Writers], tmp_path: Path
) -> None:
    """Also if the server is waiting for a domain just then."""
    cell, _ = source
    file = tmp_path / "shop.state"
    file.write_text("precious")
    code, _, err = cell.spare("state", "export", str(file))
    assert code == 1
    assert f"{file} exists" in err
    assert "--overwrite" in err
    cell.kill("server 1", number=signal.SIGSTOP)
    words = [sys.executable, "-m", "replica_manager", "state", "export", str(file), "--overwrite", "--server", "0"]
    environment = {**os.environ, "SPARE_CONFIG": str(cell.file), "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as command:
        deadline_s = time.monotonic() + 30
        while len(os.listdir(tmp_path)) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        command.communicate()
    cell.kill("server 1", number=signal.SIGCONT)
    assert command.returncode == 130
    cell.wait("nothing left", lambda: os.listdir(tmp_path) == ["shop.state"], 30)
    assert file.read_text() == "precious"
    cell.wait("the end of the export", lambda: not cell.ask(0).get("export"), 30)
    exported_again = exported(cell, file, "--overwrite", "--server", "0")
    assert exported_again["file"] == str(file)
