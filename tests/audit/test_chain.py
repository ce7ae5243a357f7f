"""Whatever is changed in an audit log is found, and named by the number of the first record that it concerns."""

from collections.abc import Callable
from pathlib import Path

import pytest

from replica_manager.audit.chain import Head, check_head, decode_head, read_chain
from replica_manager.audit.record import GENESIS, chain, encode, parse
from tests.audit.logs import FILLED, LEFT, RETIRED, STARTING, ServerLog

Edit = Callable[[list[bytes]], list[bytes]]


@pytest.fixture
def log(tmp_path: Path) -> ServerLog:
    """A log of seven records: opened, roles, four changes, closed."""
    it = ServerLog(tmp_path)
    it.run(RETIRED, STARTING, FILLED, LEFT)
    return it


def head_of(log: ServerLog) -> Head | None:
    return decode_head(log.head_path.read_bytes())


def test_an_untouched_log_is_whole_and_private(log: ServerLog) -> None:
    """Numbers begin with 1; the head is that of the last record; both files are for their owner only."""
    found = log.chain
    assert (found.first_break, found.break_count, found.notes, found.losses) == ("", 0, [], [])
    assert [record.number for record in found.records] == list(range(1, 8))
    assert check_head(found, head_of(log)) == ""
    assert head_of(log) == (7, found.end.stated)
    assert {path.stat().st_mode & 0o777 for path in (log.path, log.head_path)} == {0o600}


def test_a_hash_is_that_of_the_former_hash_and_the_bytes_that_stand_in_the_file(log: ServerLog) -> None:
    """SHA-256(previous hash ‖ canonical bytes): checked without any code of the reader but the line's form."""
    previous = GENESIS
    for raw in log.path.read_bytes().splitlines():
        stated, _, body = raw.partition(b" ")
        previous = chain(previous, body)
        assert stated.decode() == previous.hex()


@pytest.mark.parametrize("position", range(7))
def test_a_changed_byte_names_its_record_wherever_it_is(log: ServerLog, position: int) -> None:
    """The last character of the time: the line stays a record."""

    def edit(lines: list[bytes]) -> list[bytes]:
        before, after = lines[position].split(b'"at_us":17', 1)
        lines[position] = before + b'"at_us":18' + after
        return lines

    log.edit(edit)
    assert f"record {position + 1} was changed" in log.chain.first_break
    assert log.chain.break_count == 1


def test_every_single_bit_that_flips_is_found(log: ServerLog) -> None:
    """With the head, which knows the last record too."""
    content, head = log.path.read_bytes(), head_of(log)
    for index in range(len(content)):
        changed = content[:index] + bytes((content[index] ^ 1,)) + content[index + 1 :]
        found = read_chain(changed, 0)
        assert found.first_break or check_head(found, head), index


def test_a_byte_that_makes_a_line_unreadable_names_its_record(log: ServerLog) -> None:
    """And is no torn line: nothing in the chain says so."""
    log.edit(lambda lines: [*lines[:3], b"x" + lines[3], *lines[4:]])
    assert log.chain.first_break == "record 4 cannot be read"


def test_a_record_with_a_hash_made_to_fit_breaks_the_next_one(log: ServerLog) -> None:
    """Whoever computes the hash of a changed record again has to do so for all behind it."""

    def edit(lines: list[bytes]) -> list[bytes]:
        line = parse(lines[3].rstrip())
        assert line is not None
        former = bytes.fromhex(lines[2][:64].decode())
        record = line.record
        forged = type(record)(record.number, 1, record.server, record.kind, record.position, record.data)
        lines[3], _ = encode(forged, former)
        return lines

    log.edit(edit)
    assert "record 5 was changed" in log.chain.first_break
    assert "behind record 4" in log.chain.first_break


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda lines: lines[:3] + lines[4:], "record 4 is missing before record 5"),
        (lambda lines: lines[:2] + lines[5:], "records 3 to 5 are missing before record 6"),
        (lambda lines: lines[2:], "records 1 to 2 are missing before record 3"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "record 4 is missing before record 5"),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], "record 4 stands where record 5 belongs"),
    ],
    ids=["removed", "several removed", "beginning removed", "swapped", "repeated"],
)
def test_records_that_are_missing_or_in_another_place_are_named(log: ServerLog, edit: Edit, words: str) -> None:
    """The first of them."""
    log.edit(edit)
    assert log.chain.first_break == words


def test_a_log_of_another_server_is_not_taken_for_this_ones(log: ServerLog) -> None:
    """A copy would verify by itself."""
    found = read_chain(log.path.read_bytes(), server=1)
    assert found.first_break == "record 1 is of server 0"


@pytest.mark.parametrize("kept", range(7))
def test_the_head_shows_that_an_end_was_cut(log: ServerLog, kept: int) -> None:
    """What is left is a whole chain: only the head knows better."""
    log.edit(lambda lines: lines[:kept])
    found = log.chain
    assert found.first_break == ""
    missing = "record 7 is" if kept == 6 else f"records {kept + 1} to 7 are"
    assert check_head(found, head_of(log)) == f"{missing} missing at its end: it was cut"


def test_the_head_shows_that_the_whole_file_was_replaced(log: ServerLog, tmp_path: Path) -> None:
    """By one that verifies."""
    forged = ServerLog(tmp_path / "forged")
    forged.now_us += 1
    forged.run(RETIRED, STARTING, FILLED, LEFT)
    assert check_head(forged.chain, head_of(log)) == "record 7 is another one than its head says: the file was replaced"


@pytest.mark.parametrize("content", [b"", b"7", b"7 zz\n", b"seven " + b"0" * 64, b"7 " + b"0" * 63 + b"\n", b"\xff"])
def test_a_head_that_cannot_be_read_is_told(log: ServerLog, content: bytes) -> None:
    """Somebody changed it: a server writes it in one piece."""
    log.head_path.write_bytes(content)
    assert "its head cannot be read" in check_head(log.chain, head_of(log))


@pytest.mark.parametrize("cut", [1, 2, 40, 120])
def test_a_torn_last_line_is_a_note_until_the_server_starts(log: ServerLog, cut: int) -> None:
    """A power cut, or a look into the middle of a write.  One that lacks only its line end is whole."""
    content = log.path.read_bytes()
    log.path.write_bytes(content[:-cut])
    found = log.chain
    assert found.first_break == ""
    assert len(found.records) == (7 if cut == 1 else 6)
    assert found.notes == ([] if cut == 1 else ["its last line is torn: record 7 cannot be read"])


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"{", b"x" * 300_000, b"\n", "é".encode()[:1]])
def test_any_bytes_are_read(garbage: bytes) -> None:
    """A log may be anything: reading it never fails."""
    found = read_chain(garbage * 2 + b"\n" + garbage, 0)
    assert found.records == []
    assert found.first_break == "record 1 cannot be read"
