"""What an operator says and hears when a state leaves a cell, or comes into a new one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from replica_manager.config_check import load
from replica_manager.control.cell_import import ImportFailed, confirm_import, import_words, read_import
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cell_up import bring_up
from replica_manager.control.cell_wait import progress_of
from replica_manager.control.errors import ProcessError, RequestRefused
from replica_manager.control.leftovers import mark_served
from replica_manager.state_files.errors import StateUnfit
from replica_manager.state_files.fitting import ImportedState
from replica_manager.state_files.state_file import StateHead
from tests.control.conftest import LoopThread
from tests.control.fake_cell import DIGEST, FakeCell
from tests.state_files.memory_file import HEAD, content_digest, file_of

PARTS = [b"one", b"two", b"three"]
FITS = StateHead("shop", "key-value", 1, 256 * 1024, 777, 1_700_000_000_000_000, 1_600_000_000_000_000)
DONE = {"file": "/x/f", "point": 777, "parts": 3, "bytes": 2048, "digest": DIGEST}


@pytest.fixture
def cell(tmp_path: Path, loop_thread: LoopThread) -> Iterator[FakeCell]:
    """A cell of two fake servers that serve."""
    it = FakeCell(tmp_path, loop_thread)
    for server in it.servers:
        server.export_items = [{"parts": 1, "parts_agreed": 2, "bytes": 700}, {"done": DONE}]
    yield it
    it.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.state"
    path.write_bytes(file_of(PARTS, FITS))
    return path


# -- out ---------------------------------------------------------------------------------------------------------


def test_an_export_names_an_absolute_path_and_tells_its_progress(cell: FakeCell) -> None:
    """The server stands elsewhere."""
    result = cell.run("state", "export", "f")
    assert result.exit_code == 0, result.output
    assert cell.servers[0].orders == [("export", {"path": str(Path.cwd() / "f"), "overwrite": False})]
    assert "server 0 writes" in result.stderr
    assert "1 of 2 parts that are agreed on, 700 bytes" in result.stderr
    assert result.stdout == f"/x/f: 3 parts, 2.0 KiB, at sequence 777\ndigest {DIGEST}\n"
    assert json.loads(cell.run("state", "export", "f", "-o", "json").stdout) == {"schema": 1, **DONE}


def test_the_first_server_that_serves_writes_or_the_one_that_is_named(cell: FakeCell) -> None:
    cell.servers[0].state = "learning"
    assert cell.run("state", "export", "f", "--overwrite").exit_code == 0
    assert cell.servers[1].orders[0][1]["overwrite"] is True
    assert cell.run("state", "export", "f", "--server", "0").exit_code == 0
    assert cell.servers[0].orders
    assert "it has 0, 1" in cell.run("state", "export", "f", "--server", "7").stderr
    cell.servers[1].state = "restarting"
    result = cell.run("state", "export", "f")
    assert result.exit_code == 4
    assert "no server of cell shop serves" in result.stderr


def test_an_export_that_fails_says_why(cell: FakeCell) -> None:
    cell.servers[0].refusal = RequestRefused("export_failed", "no state was exported: f exists", "say --overwrite")
    result = cell.run("state", "export", "f")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: no state was exported: f exists\nhint: say --overwrite\n")
    cell.servers[1].export_items = []
    result = cell.run("state", "export", "f", "--server", "1")
    assert result.exit_code == 1
    assert "without a word" in result.stderr


def test_the_status_tells_of_an_export(cell: FakeCell) -> None:
    report = {"file": "/x/f", "point": 777, "parts": 17, "parts_agreed": 40, "bytes": 4096}
    cell.servers[1].more_status = {"export": report}
    assert "server 1 exports: 17 parts, 4.0 KiB, of 40 that are agreed on" in cell.run("status").stdout
    cell.servers[1].more_status = {"export": {**report, "parts": 0, "parts_agreed": 0}}
    assert "server 1 exports: waits for agreed state" in cell.run("status").stdout


# -- the file ----------------------------------------------------------------------------------------------------


def test_a_file_is_shown_with_everything_that_its_head_says(cell: FakeCell, file: Path) -> None:
    """No cell has to run, none has to be configured."""
    digest = content_digest(PARTS).hex()
    result = cell.run("state", "show", str(file), config=False)
    assert result.exit_code == 0, result.output
    first, service, clock, *rest = result.stdout.splitlines()
    assert first.startswith("state of cell shop, before sequence 777, exported 2023-11-1")
    assert service == "service key-value, state format 1, parts of at most 262144 bytes"
    assert clock.startswith("the service's clock stands at 2020-09-1")
    assert rest == [
        "3 parts, 11 B: whole",
        f"digest {digest}",
    ]
    document = json.loads(cell.run("state", "show", str(file), "-o", "json").stdout)
    assert document["file"] == str(file)
    assert {key: document[key] for key in ("parts", "bytes", "digest")} == {"parts": 3, "bytes": 11, "digest": digest}
    assert {key: document[key] for key in FITS.__struct_fields__} == {
        key: getattr(FITS, key) for key in FITS.__struct_fields__
    }


def test_a_damaged_file_is_refused_with_the_part(cell: FakeCell, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"two", b"TWO"))
    result = cell.run("state", "show", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {file}: part 2 of 3 does not match its digest\nhint: copy the file again")
    result = cell.run("state", "show", str(file) + "x")
    assert result.exit_code == 1
    assert "No such file" in result.stderr


def test_the_help_says_how_a_cell_begins_with_a_state(cell: FakeCell) -> None:
    """There is no `spare state import`: a file is imported where a cell is made."""
    words = " ".join(cell.run("state", "--help").stdout.split())
    assert "`spare cell up --import FILE --digest HEX` starts a new cell with it" in words


# -- in ----------------------------------------------------------------------------------------------------------


def test_what_a_cell_imports_is_read_before_it_starts_and_fixed_by_its_digest(cell: FakeCell, file: Path) -> None:
    """Every server compares the file that it reads itself with this digest."""
    lines: list[str] = []
    imported = read_import(load(cell.file), file, "", lines.append)
    digest = content_digest(PARTS).hex()
    assert imported == ImportedState(file, digest)
    assert lines == [f"{file}: 3 parts, 11 bytes, of cell shop before sequence 777"]
    assert import_words("server", imported) == ("--import", str(file), "--digest", digest)
    assert import_words("witness", imported) == ()
    assert read_import(load(cell.file), file, digest.upper(), lines.append) == imported


@pytest.mark.parametrize(
    ("head", "digest", "words"),
    [
        (FITS, "ab" * 32, f"wanted is {'ab' * 32}"),
        (StateHead("shop", "", 2, 256 * 1024, 7, 0), "", "has state format 2, this cell uses 1"),
        (HEAD, "", "is cut into parts of at most 4096 bytes, this cell's service cuts at 262144"),
    ],
)
def test_what_does_not_fit_the_cell_is_refused(
    cell: FakeCell, file: Path, head: StateHead, digest: str, words: str
) -> None:
    file.write_bytes(file_of(PARTS, head))
    with pytest.raises(StateUnfit, match=words):
        read_import(load(cell.file), file, digest, print)


@pytest.mark.parametrize(
    ("start", "is_refused"), [("", True), ("[service]\nclock_start_us = 5", True), ("later", False)]
)
def test_the_clock_of_a_service_never_goes_back(cell: FakeCell, file: Path, start: str, is_refused: bool) -> None:
    """Its old cell may have begun at another time than the present, or be ahead of this one's clock."""
    stands_at = 4_000_000_000_000_000
    file.write_bytes(file_of(PARTS, StateHead("shop", "", 1, 256 * 1024, 777, 0, stands_at)))
    begin = f"[service]\nclock_start_us = {stands_at + 1}" if start == "later" else start
    cell.file.write_text(cell.file.read_text().replace("[service]", begin or "[service]"))
    config = load(cell.file)
    if not is_refused:
        assert read_import(config, file, "", lambda _: None).path == file
        return
    with pytest.raises(StateUnfit, match=f"the service's clock stands at {stands_at}, this cell's begins") as raised:
        read_import(config, file, "", print)
    assert raised.value.hint == f"say clock_start_us = {stands_at + 1}, or later, in [service]"


def test_only_a_new_cell_imports_a_state(cell: FakeCell, file: Path) -> None:
    """Whoever calls: nothing is started, and nothing that runs is ended."""
    cell.paths.state_dir.mkdir()
    mark_served(cell.paths.state_dir)
    result = cell.run("cell", "up", "--import", str(file))
    assert result.exit_code == 2
    assert "only a new cell imports one, and --fresh discards what is there" in result.stderr
    with pytest.raises(ProcessError, match="has served"):
        bring_up(load(cell.file), LoopbackNetwork(), print, imported=ImportedState(file))


def test_a_dry_run_reads_the_file_and_shows_what_would_be(cell: FakeCell, file: Path) -> None:
    result = cell.run("cell", "up", "--dry-run", "--import", str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"would fill every domain with the state in {file}\n")
    file.write_bytes(file.read_bytes()[:-1])
    result = cell.run("cell", "up", "--dry-run", "--import", str(file))
    assert result.exit_code == 1
    assert "its end record is cut off" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cell", "up", "--digest", "ab"), "--digest is that of the state to --import"),
        (("server", "run", "--id", "0", "--born", "--import", "f"), "--import and --digest go together"),
        (("server", "run", "--id", "0", "--born", "--digest", "ab"), "--import and --digest go together"),
        (("server", "run", "--id", "0", "--import", "f", "--digest", "ab"), "for a server that is --born"),
    ],
)
def test_words_that_make_no_sense_alone_are_refused(cell: FakeCell, words: tuple[str, ...], said: str) -> None:
    """Servers of a cell of hosts with different files would never agree on anything."""
    result = cell.run(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def confirm(cell: FakeCell, digest: str) -> str:
    lines: list[str] = []
    confirm_import(load(cell.file), ImportedState(Path("/x/f"), digest), lines.append)
    return lines[0]


def test_a_cell_that_holds_the_state_is_confirmed(cell: FakeCell) -> None:
    for server in cell.servers:
        server.more_status = {"clients": 0}
    assert confirm(cell, DIGEST) == f"2 domains hold the imported state: equal to /x/f, digest {DIGEST}"


def test_a_cell_that_holds_another_state_fails_loudly(cell: FakeCell) -> None:
    """With the digest of every domain that differs."""
    for server in cell.servers:
        server.more_status = {"clients": 0}
    with pytest.raises(ImportFailed, match=f"digest {'cd' * 32}: s0.g1 {DIGEST}, s1.g1 {DIGEST}"):
        confirm(cell, "cd" * 32)
    cell.servers[0].digests = {"s0.g1": DIGEST, "s1.g1": "cd" * 32}
    with pytest.raises(ImportFailed, match=f"digest {DIGEST}: s1.g1 {'cd' * 32}$"):
        confirm(cell, DIGEST)


def test_clients_that_came_early_are_no_failure_of_the_import(cell: FakeCell) -> None:
    """They may have written; then the domains can only be compared with each other."""
    assert "equal to each other; clients have come already" in confirm(cell, "cd" * 32)
    cell.servers[0].digests = {"s0.g1": DIGEST, "s1.g1": "cd" * 32}
    with pytest.raises(ImportFailed) as raised:
        confirm(cell, DIGEST)
    assert "--fresh" in raised.value.hint


def test_the_progress_of_an_import_is_told_in_percent() -> None:
    """A line per part would be hundreds of thousands."""
    answer = {"state": "starting", "import": {"domain": "s0.g1", "parts": 170, "parts_total": 400}}
    assert progress_of(0, answer) == "starting; s0.g1 takes the imported state in, 42 %"
