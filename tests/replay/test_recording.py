"""A recording says what was agreed, whatever happens to the file; and never disturbs the server that writes it."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_manager.errors import CannotRecord
from replica_manager.identifiers import DomainId
from replica_manager.recording.recorder import Recorder, recording_path
from replica_manager.recording.recording_file import Recording
from replica_manager.recording.recording_format import (
    ENTRY_HEAD_BYTES,
    HEAD_BYTES,
    MalformedRecording,
    RecordedCheckpoint,
    RecordedRequest,
    RecordingHead,
    decode_body,
    decode_entry_head,
    encode_checkpoint,
    encode_head,
    encode_request,
)
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink

HEAD = RecordingHead(1, 65536, 1 << 24)
BYTES_MAX = 1 << 20
U64 = st.integers(0, 2**64 - 1)
REQUESTS = st.builds(
    RecordedRequest, U64, U64, st.binary(min_size=32, max_size=32), st.binary(), st.binary(), st.binary()
)
CHECKPOINTS = st.builds(
    RecordedCheckpoint,
    U64,
    st.dictionaries(st.text("sg.0123456789", min_size=1, max_size=20), st.binary(min_size=32, max_size=32)),
)


class Events:
    """Named events, as an operator would see them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def record(self, kind: str, data: dict[str, Any]) -> None:
        self.seen.append((kind, data))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.seen]


@pytest.fixture
def events() -> Events:
    return Events()


def request(sequence: int, reply: bytes = b"reply", update: bytes = b"update") -> RecordedRequest:
    return RecordedRequest(sequence, 1000 + sequence, bytes(32), b"payload %d" % sequence, reply, update)


def written(path: Path, *entries: bytes, head: bytes = encode_head(HEAD)) -> Path:
    path.write_bytes(head + b"".join(entries))
    return path


class RecordedCell:
    """A cell whose servers all record into one directory."""

    def __init__(self, directory: Path) -> None:
        self.cell = LockstepCell(1)
        self.events = Events()
        self.recorders: list[Recorder] = []
        self._directory = directory

    def record(self, bytes_max: int = BYTES_MAX) -> None:
        for server, core in enumerate(self.cell.cores):
            head = RecordingHead(server, 65536, 1 << 24)
            self.recorders.append(Recorder(self.path(server), head, bytes_max, self.events.record))
            core.voter.on_prefix = self.recorders[-1].record

    def path(self, server: int) -> Path:
        return recording_path(self._directory, server)

    def close(self) -> None:
        for recorder in self.recorders:
            recorder.close()


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[RecordedCell]:
    cell = RecordedCell(tmp_path)
    yield cell
    cell.close()


def run_requests(cell: LockstepCell, count: int) -> RecordingSink:
    sink = RecordingSink()
    client = cell.open_client(0, sink)
    for number in range(1, count + 1):
        cell.submit(0, sink, client, number, b"append k%d v%d" % (number % 3, number))
    return sink


# -- the format ------------------------------------------------------------------------------------------------


@given(entry=st.one_of(REQUESTS, CHECKPOINTS))
def test_an_entry_survives_encoding(entry: RecordedRequest | RecordedCheckpoint) -> None:
    """Whatever bytes it has."""
    encoded = encode_request(entry) if isinstance(entry, RecordedRequest) else encode_checkpoint(entry)
    kind, length = decode_entry_head(encoded[:ENTRY_HEAD_BYTES])
    assert length == len(encoded) - ENTRY_HEAD_BYTES
    assert decode_body(kind, encoded[ENTRY_HEAD_BYTES:]) == entry


@given(kind=st.integers(0, 3), body=st.binary(max_size=200))
def test_hostile_bodies_are_an_entry_or_named(kind: int, body: bytes) -> None:
    """No other error leaves the decoder."""
    with contextlib.suppress(MalformedRecording):
        assert isinstance(decode_body(kind, body), RecordedRequest | RecordedCheckpoint)


@given(entry=REQUESTS, cut=st.data())
def test_a_shortened_body_is_named(entry: RecordedRequest, cut: st.DataObject) -> None:
    """The lengths inside have to add up."""
    body = encode_request(entry)[ENTRY_HEAD_BYTES:]
    with pytest.raises(MalformedRecording):
        decode_body(1, body[: cut.draw(st.integers(0, len(body) - 1))])


# -- reading ---------------------------------------------------------------------------------------------------


def test_requests_come_in_order_and_checkpoints_beside_them(tmp_path: Path) -> None:
    """A checkpoint is written after requests above its point."""
    checkpoint = RecordedCheckpoint(4, {"s0.g1": bytes(32)})
    path = written(
        tmp_path / "r", encode_request(request(2)), encode_request(request(5)), encode_checkpoint(checkpoint)
    )
    recording = Recording(path)
    assert (recording.head, recording.request_count, recording.last_sequence) == (HEAD, 2, 5)
    assert recording.checkpoints == [checkpoint]
    assert list(recording.requests()) == [request(2), request(5)]


@pytest.mark.parametrize("left", [1, ENTRY_HEAD_BYTES, ENTRY_HEAD_BYTES + 7])
def test_a_last_entry_that_was_not_finished_is_left_out(tmp_path: Path, left: int) -> None:
    """A killed manager leaves such a file; what came before is good."""
    recording = Recording(written(tmp_path / "r", encode_request(request(1)), encode_request(request(2))[:left]))
    assert (recording.request_count, recording.torn_bytes) == (1, left)
    assert list(recording.requests()) == [request(1)]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no recording"),
        (b"SPARE recording", "no recording"),
        (b"something else altogether, and long", "no recording"),
        (encode_head(HEAD)[:17] + b"\x09" + encode_head(HEAD)[18:], "version 9"),
        (encode_head(HEAD) + b"\x07" + bytes(8), "kind 7"),
        (encode_head(HEAD) + b"\x01" + b"\xff" * 8, "at most"),
        (encode_head(HEAD) + encode_request(request(2)) + encode_request(request(2)), "request 2 comes after 2"),
    ],
)
def test_what_no_recorder_wrote_is_refused_by_name(tmp_path: Path, content: bytes, word: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(MalformedRecording, match=word):
        Recording(written(tmp_path / "r", content, head=b""))


# -- writing ---------------------------------------------------------------------------------------------------


def test_all_servers_record_the_same_requests_with_the_replies_that_clients_got(recorded: RecordedCell) -> None:
    """In the agreed order; commands leave holes."""
    recorded.record()
    sink = run_requests(recorded.cell, 40)
    recorded.close()

    first, second = (Recording(recorded.path(server)) for server in range(2))
    requests = list(first.requests())
    assert requests == list(second.requests())
    assert [one.reply for one in requests] == [reply for _, _, _, reply in sink.replies]
    assert requests[0].sequence == 2, "number 1 issued the client's id"
    assert all(one.update for one in requests)
    assert (first.head.server, second.head.server) == (0, 1)


def test_requests_that_become_stable_out_of_order_are_recorded_in_order(recorded: RecordedCell) -> None:
    """Only the contiguous prefix is written."""
    recorded.record()
    cell = recorded.cell
    client = cell.open_client(0, RecordingSink())
    cell.muted.add(DomainId("s1.g1"))
    for number in (1, 2):
        cell.submit(0, RecordingSink(), client, number, b"set a %d" % number)
    core, domain = cell.cores[0], cell.domains[DomainId("s0.g1")]
    assert domain.executed == [2, 3]
    for sequence in (3, 2):
        record = core.requests.get(sequence)
        assert record is not None
        core.voter.record_vote(DomainId("s1.g1"), sequence, next(iter(record.values)))
    recorded.close()
    assert [one.sequence for one in Recording(recorded.path(0)).requests()] == [2, 3]


def test_a_recording_is_private_and_the_one_before_it_is_kept(tmp_path: Path, events: Events) -> None:
    """Passwords of clients stand in it."""
    path = recording_path(tmp_path / "new", 0)
    for _ in range(3):
        Recorder(path, HEAD, BYTES_MAX, events.record).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["s0.recording", "s0.recording.former"]


def test_a_full_recording_ends_with_an_event_and_the_cell_goes_on(recorded: RecordedCell) -> None:
    """What was written before stays whole."""
    recorded.record(bytes_max=HEAD_BYTES + 1000)
    sink = run_requests(recorded.cell, 40)
    assert len(sink.replies) == 40
    assert recorded.events.kinds.count("recording_full") == 2
    recorded.recorders[0].record_checkpoint(3, {"s0.g1": bytes(32)})
    recording = Recording(recorded.path(0))
    assert recorded.path(0).stat().st_size <= HEAD_BYTES + 1000
    assert (recording.torn_bytes, recording.checkpoints) == (0, [])
    assert 0 < recording.request_count < 40


def test_a_checkpoint_brings_the_file_up_to_date(recorded: RecordedCell) -> None:
    """Whoever took a checkpoint wants to look at it."""
    recorded.record()
    run_requests(recorded.cell, 3)
    recorded.recorders[0].record_checkpoint(9, {"s0.g1": bytes(32)})
    recording = Recording(recorded.path(0))
    assert (recording.request_count, [one.point for one in recording.checkpoints]) == (3, [9])


def test_a_disk_that_refuses_ends_the_recording_with_an_event(tmp_path: Path, events: Events) -> None:
    """And nothing is raised: the server goes on."""
    recorder = Recorder(recording_path(tmp_path, 0), HEAD, BYTES_MAX, events.record)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEAD_BYTES, former[1]))
    try:
        recorder.record_checkpoint(2, {"s0.g1": bytes(32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    recorder.record_checkpoint(3, {"s0.g1": bytes(32)})
    recorder.close()
    assert events.kinds == ["recording_began", "recording_failed"]
    assert events.seen[-1][1]["reason"] == "File too large"
    assert Recording(recording_path(tmp_path, 0)).checkpoints == []


def test_a_directory_that_cannot_be_made_is_said_at_the_start(tmp_path: Path, events: Events) -> None:
    """The error names the file and the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRecord, match=r"s0\.recording") as raised:
        Recorder(recording_path(tmp_path / "file", 0), HEAD, BYTES_MAX, events.record)
    assert "record" in raised.value.hint
