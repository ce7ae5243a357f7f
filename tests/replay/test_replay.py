"""A replay finds every byte that is different, and a domain that is not what it should be.

The domains are child processes with the key-value service; what it should answer is asked of its adapter directly.
"""

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.replay import ReplayReport, describe_difference, replay, summary_line
from benchmarks.replay_domain import DomainFailed, ProcessSource, fresh_domain
from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.examples.key_value_commands import encode_append, encode_get
from exec_wrapper.service_adapter import RequestContext
from exec_wrapper.wire import StatePart
from replica_manager.recording.recording_file import Recording
from replica_manager.recording.recording_format import (
    RecordedCheckpoint,
    RecordedRequest,
    RecordingHead,
    encode_checkpoint,
    encode_head,
    encode_request,
)
from replica_manager.recovery.state_digests import StateReader

PART_BYTES_MAX = 4096
KEY_VALUE = ProcessSource(
    (sys.executable, "-P", "-m", "exec_wrapper", "--link", "unix:{channel}", "exec_wrapper.examples.key_value")
)


@dataclass
class Recorded:
    """What a cell would have recorded."""

    requests: list[RecordedRequest] = field(default_factory=list)
    checkpoints: list[RecordedCheckpoint] = field(default_factory=list)

    def write(self, path: Path) -> Recording:
        entries = [encode_request(one) for one in self.requests] + [encode_checkpoint(one) for one in self.checkpoints]
        path.write_bytes(encode_head(RecordingHead(0, PART_BYTES_MAX, 1 << 20)) + b"".join(entries))
        return Recording(path)


def recorded_key_value(count: int = 300) -> Recorded:
    """Requests at every second number, and a checkpoint after every hundredth and at the end."""
    adapter, recorded = KeyValueAdapter(), Recorded()
    for index in range(count):
        sequence = 2 + 2 * index
        payload = encode_get(b"k1") if index % 5 == 0 else encode_append(b"k%d" % (index % 40), b"value %d " % index)
        adapter.apply_updates([], sequence - 1)
        outcome = adapter.execute(payload, RequestContext(sequence, 1000 + sequence, bytes(32)))
        recorded.requests.append(
            RecordedRequest(sequence, 1000 + sequence, bytes(32), payload, outcome.reply, outcome.update)
        )
        if (index + 1) % 100 == 0:
            point = sequence + 2
            adapter.apply_updates([], point - 1)
            digest = state_digest(adapter, point)
            recorded.checkpoints.append(RecordedCheckpoint(point, {"s0.g1": digest, "s1.g1": digest}))
    return recorded


def state_digest(adapter: KeyValueAdapter, point: int) -> bytes:
    reader = StateReader(point)
    parts = list(adapter.take_state(point, 1, PART_BYTES_MAX))
    for index, part in enumerate(parts):
        reader.take(StatePart(point, index, index == len(parts) - 1, part))
    return reader.content_digest


def replayed(
    directory: Path, recorded: Recorded, source: ProcessSource = KEY_VALUE, until: int | None = None
) -> ReplayReport:
    return asyncio.run(replay(recorded.write(directory / "r"), source, directory / "scratch", lambda _: None, until))


def test_the_same_service_gives_the_same_bytes(tmp_path: Path) -> None:
    """Replies, updates and states, over holes that commands left."""
    recorded = recorded_key_value()
    result = replayed(tmp_path, recorded)
    assert result.is_equal, result.differences
    assert (result.requests, result.modifying_requests) == (300, 240)
    assert list(result.states) == [one.point for one in recorded.checkpoints]
    assert result.reply_bytes == sum(len(one.reply) for one in recorded.requests)
    assert "byte-identical" in summary_line(result)
    assert not list((tmp_path / "scratch").glob("state*")), "a domain's files are gone with it"


def test_every_byte_that_differs_is_found_and_shown(tmp_path: Path) -> None:
    """In a reply, in an update, in a state; the rest is equal."""
    recorded = recorded_key_value()
    first, second, checkpoint = recorded.requests[7], recorded.requests[201], recorded.checkpoints[1]
    recorded.requests[7] = first._replace(reply=first.reply[:-1] + bytes([first.reply[-1] ^ 1]))
    recorded.requests[201] = second._replace(update=second.update + b"!")
    recorded.checkpoints[1] = checkpoint._replace(digests={**checkpoint.digests, "s1.g1": bytes(32)})
    result = replayed(tmp_path, recorded)
    assert not result.is_equal
    assert [(one.sequence, one.what) for one in result.differences] == [
        (first.sequence, "reply"),
        (checkpoint.point, "state"),
        (second.sequence, "update"),
    ]
    assert "s1.g1" in result.differences[1].text
    assert "3 DIFFERENCES" in summary_line(result)


def test_a_replay_can_stop_at_a_checkpoint(tmp_path: Path) -> None:
    """Everything before it is executed and its state is compared."""
    recorded = recorded_key_value()
    result = replayed(tmp_path, recorded, until=recorded.checkpoints[0].point)
    assert (result.is_equal, result.requests, len(result.states)) == (True, 100, 1)


def test_nothing_compared_is_not_equal(tmp_path: Path) -> None:
    """A replay without a state to compare proves less than it seems to."""
    recorded = recorded_key_value(10)
    assert not replayed(tmp_path, recorded).is_equal


def test_a_domain_that_has_executed_before_is_refused(tmp_path: Path) -> None:
    """Only a fresh one shows that everything follows from the log."""
    with contextlib.closing(KeyValueAdapter(tmp_path / "used")) as adapter:
        adapter.apply_updates([], 5)
        adapter.sync()
    used = ProcessSource((*KEY_VALUE.command, "--directory", str(tmp_path / "used")))
    with pytest.raises(DomainFailed, match="not fresh: its cursor is 6"):
        replayed(tmp_path, recorded_key_value(10), used)


async def answer_of_a_domain(source: ProcessSource, directory: Path) -> object:
    """Ask nothing, and wait for an answer."""
    async with fresh_domain(directory, source, RecordingHead(0, PART_BYTES_MAX, 1 << 20)) as domain:
        return await domain.answer()


def test_a_domain_that_ends_is_reported_with_the_reason(tmp_path: Path) -> None:
    """Instead of waiting for its answer."""
    ending = ProcessSource(("timeout", "2", *KEY_VALUE.command))
    with pytest.raises(DomainFailed, match=r"s0\.g1 is gone"):
        asyncio.run(answer_of_a_domain(ending, tmp_path))


@pytest.mark.parametrize(
    ("recorded", "replayed_bytes", "words"),
    [
        (b"abc", b"abd", "from byte 2: recorded b'c', replayed b'd'"),
        (b"abc", b"ab", "recorded 3 bytes, replayed 2; from byte 2: recorded b'c', replayed b''"),
    ],
)
def test_a_difference_is_described_from_where_it_begins(recorded: bytes, replayed_bytes: bytes, words: str) -> None:
    """Also when one is the beginning of the other."""
    assert words in describe_difference(recorded, replayed_bytes)
