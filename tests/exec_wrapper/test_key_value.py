"""The key-value service: against a dictionary, against its contract, and over crashes."""

import random
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exec_wrapper.adapter_contract import check_adapter, execute_all, make_context, state_parts
from exec_wrapper.examples import key_value_commands as commands
from exec_wrapper.examples import key_value_files
from exec_wrapper.examples.key_value import KeyValueAdapter, create_adapter
from exec_wrapper.examples.key_value_commands import (
    BAD_REQUEST,
    KEY_BYTES_MAX,
    MISMATCH,
    NOT_FOUND,
    OK,
    SCAN_BYTES_MAX,
    TOO_LARGE,
    VALUE_BYTES_MAX,
    Reply,
    decode_reply,
)
from exec_wrapper.examples.key_value_files import DamagedFile
from exec_wrapper.service_adapter import RequestContext, ServiceAdapter

REQUESTS = [
    commands.encode_set(b"a", b"1"),
    commands.encode_get(b"a"),
    commands.encode_append(b"a", bytes(range(256)) * 20),
    commands.encode_append(b"new", b"x"),
    commands.encode_compare_and_set(b"a", b"2", b"1"),
    commands.encode_compare_and_set(b"b", b"3", None),
    commands.encode_compare_and_set(b"b", b"4", b"3"),
    commands.encode_stamp(b"time"),
    commands.encode_scan(b"a", 3),
    commands.encode_delete(b"new"),
    commands.encode_delete(b"nothing"),
    commands.encode_echo(b"\x00\xff"),
    commands.encode_set(b"\x00", b""),
    b"",
    b"Sx",
]


def ask(adapter: KeyValueAdapter, request: bytes) -> Reply:
    """Execute the next request; return its reply."""
    return decode_reply(adapter.execute(request, make_context(adapter.cursor())).reply)


@pytest.mark.parametrize("snapshot", ["concurrent", "blocking"])
def test_it_keeps_the_adapter_contract_in_memory(snapshot: str) -> None:
    """The example must be one."""
    check_adapter(lambda: create_adapter(["--snapshot", snapshot]), REQUESTS)


def test_it_keeps_the_adapter_contract_on_disk(tmp_path: Path) -> None:
    """A crash leaves what the kernel was given; here the files are copied as they are on disk."""
    made: list[Path] = []

    def make() -> KeyValueAdapter:
        made.append(tmp_path / str(len(made)))
        return KeyValueAdapter(made[-1])

    def reopen(adapter: ServiceAdapter) -> KeyValueAdapter:
        copy = tmp_path / "after the crash"
        shutil.copytree(made[-1], copy)
        assert isinstance(adapter, KeyValueAdapter)
        adapter.close()
        return KeyValueAdapter(copy)

    check_adapter(make, REQUESTS, reopen)


keys = st.binary(max_size=3)
values = st.binary(max_size=8)


class KeyValueModel(RuleBasedStateMachine):
    """Any sequence of commands, against a dictionary; a second service follows by updates, a third by restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="spare-kv-")
        self.service = KeyValueAdapter(Path(self.directory.name))
        self.follower = KeyValueAdapter()
        self.model: dict[bytes, bytes] = {}

    def ask(self, request: bytes) -> Reply:
        sequence = self.service.cursor()
        outcome = self.service.execute(request, make_context(sequence))
        self.follower.apply_updates([(sequence, outcome.update)] if outcome.update else [], sequence)  # type: ignore[list-item]
        return decode_reply(outcome.reply)

    @rule(key=keys, value=values)
    def set(self, key: bytes, value: bytes) -> None:
        assert self.ask(commands.encode_set(key, value)) == (OK, [])
        self.model[key] = value

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        expected = (OK, [self.model[key]]) if key in self.model else (NOT_FOUND, [])
        assert self.ask(commands.encode_get(key)) == expected

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        expected = OK if self.model.pop(key, None) is not None else NOT_FOUND
        assert self.ask(commands.encode_delete(key)) == (expected, [])

    @rule(key=keys, value=values)
    def append(self, key: bytes, value: bytes) -> None:
        self.model[key] = self.model.get(key, b"") + value
        length = struct.pack(">Q", len(self.model[key]))
        assert self.ask(commands.encode_append(key, value)) == (OK, [length])

    @rule(key=keys, value=values, expected=st.none() | values, is_right=st.booleans())
    def compare_and_set(self, key: bytes, value: bytes, expected: bytes | None, is_right: bool) -> None:
        present = self.model.get(key)
        expected = present if is_right else expected
        reply = self.ask(commands.encode_compare_and_set(key, value, expected))
        if expected == present:
            assert reply == (OK, [])
            self.model[key] = value
        else:
            assert reply == (MISMATCH, [] if present is None else [present])

    @rule(start=keys, count=st.integers(0, 5))
    def scan(self, start: bytes, count: int) -> None:
        entries = sorted(item for item in self.model.items() if item[0] >= start)[:count]
        assert self.ask(commands.encode_scan(start, count)) == (OK, [part for entry in entries for part in entry])

    @rule(request=st.binary(max_size=20))
    def send_garbage(self, request: bytes) -> None:
        if request[:1] not in (b"S", b"D", b"A", b"C", b"T"):
            self.ask(request)

    @rule()
    def restart_after_sync(self) -> None:
        cursor = self.service.sync()
        self.service.close()
        self.service = KeyValueAdapter(Path(self.directory.name))
        assert self.service.cursor() == cursor

    @rule()
    def replace_by_the_followers_state(self) -> None:
        parts = self.follower.take_state(self.follower.cursor(), 1, 7)
        self.service.set_state(self.follower.cursor(), 1, parts)

    @invariant()
    def the_follower_has_the_same_state(self) -> None:
        assert state_parts(self.service) == state_parts(self.follower)
        assert self.service.cursor() == self.follower.cursor()

    def teardown(self) -> None:
        self.service.close()
        self.directory.cleanup()


TestKeyValueModel = KeyValueModel.TestCase
TestKeyValueModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_time_and_randomness_come_from_the_context_alone() -> None:
    """Two replicas store the same, at any hour."""
    context = RequestContext(1, 0x0102030405060708, bytes(range(32)))
    reply = decode_reply(KeyValueAdapter().execute(commands.encode_stamp(b"k"), context).reply)
    assert reply == (OK, [bytes(range(1, 9)) + bytes(range(8))])


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"", b"unknown operation b''"),
        (b"?", b"unknown operation b'?'"),
        (b"G", b"0 fields"),
        (b"G\0\0\0", b"the end is within a length"),
        (b"G\0\0\0\2a", b"the end is within a field"),
        (commands.encode_get(b"k") + b"\0\0\0\0", b"2 fields"),
        (b"N\0\0\0\1a\0\0\0\1a", b"a count has 4 bytes, not 1"),
    ],
)
def test_what_is_no_command_is_refused_in_words(request_bytes: bytes, reason: bytes) -> None:
    """A client's mistake is its own reply, never the end of the service."""
    assert ask(KeyValueAdapter(), request_bytes) == (BAD_REQUEST, [reason])


def test_limits_of_keys_and_values_hold() -> None:
    """What is too large is refused and changes nothing."""
    adapter = KeyValueAdapter()
    assert ask(adapter, commands.encode_set(b"k" * KEY_BYTES_MAX, b"v" * VALUE_BYTES_MAX)).status == OK
    assert ask(adapter, commands.encode_set(b"k" * (KEY_BYTES_MAX + 1), b"")).status == TOO_LARGE
    assert ask(adapter, commands.encode_append(b"k" * KEY_BYTES_MAX, b"v")).status == TOO_LARGE
    assert ask(adapter, commands.encode_set(b"l", b"v" * (VALUE_BYTES_MAX + 1))).status == TOO_LARGE
    assert ask(adapter, commands.encode_scan(b"", 9)).fields == [b"k" * KEY_BYTES_MAX, b"v" * VALUE_BYTES_MAX]


def test_a_scan_ends_before_its_reply_gets_too_long() -> None:
    """But it always makes progress."""
    adapter = KeyValueAdapter()
    for number in range(20):
        ask(adapter, commands.encode_set(b"%02d" % number, bytes(100_000)))
    fields = ask(adapter, commands.encode_scan(b"", 1000)).fields
    assert fields[0::2] == [b"%02d" % number for number in range(10)]
    assert sum(map(len, fields)) <= SCAN_BYTES_MAX


@given(st.integers(1, 50))
@settings(max_examples=10)
def test_state_parts_are_cut_at_the_limit_and_canonical(part_bytes_max: int) -> None:
    """All but the last have exactly the limit; the order of writing leaves no trace."""
    entries = [(b"k%d" % number, bytes(number)) for number in range(12)]
    first, second = KeyValueAdapter(), KeyValueAdapter()
    execute_all(first, [commands.encode_set(*entry) for entry in entries])
    execute_all(second, [commands.encode_set(*entry) for entry in reversed(entries)])
    parts = list(first.take_state(13, 1, part_bytes_max))
    assert parts == list(second.take_state(13, 1, part_bytes_max))
    assert {len(part) for part in parts[:-1]} == {part_bytes_max}
    assert 0 < len(parts[-1]) <= part_bytes_max


def test_an_unknown_state_format_is_refused() -> None:
    """A guess would be a wrong state."""
    adapter = KeyValueAdapter()
    with pytest.raises(ValueError, match="format 2 cannot be written"):
        adapter.take_state(1, 2, 100)
    with pytest.raises(ValueError, match="format 2 cannot be read"):
        adapter.set_state(1, 2, iter([]))


def test_a_damaged_state_leaves_the_old_one() -> None:
    """Nothing is touched before all of it is understood."""
    adapter = KeyValueAdapter()
    ask(adapter, commands.encode_set(b"k", b"v"))
    with pytest.raises(ValueError, match="ends with a key"):
        adapter.set_state(9, 1, iter([commands.encode_field(b"k")]))
    with pytest.raises(ValueError, match="not an update"):
        adapter.apply_updates([(2, b"?")], 2)  # type: ignore[list-item]
    assert (ask(adapter, commands.encode_get(b"k")), adapter.cursor()) == ((OK, [b"v"]), 3)


def filled(directory: Path, count: int = 5) -> KeyValueAdapter:
    """Return a service with `count` synced entries."""
    adapter = KeyValueAdapter(directory)
    execute_all(adapter, [commands.encode_set(b"%d" % number, b"value") for number in range(1, count + 1)])
    adapter.sync()
    adapter.close()
    return adapter


def test_a_crash_at_any_byte_of_the_log_leaves_a_prefix(tmp_path: Path) -> None:
    """State and cursor belong together, whatever was cut off."""
    filled(tmp_path / "whole")
    log = (tmp_path / "whole" / "log").read_bytes()
    for size in range(len(log) + 1):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / "log").write_bytes(log[:size])
        adapter = KeyValueAdapter(directory)
        fields = ask(adapter, commands.encode_scan(b"", 100)).fields
        assert fields[0::2] == [b"%d" % number for number in range(1, adapter.cursor() - 1)]
        assert (directory / "log").stat().st_size <= size
        adapter.close()


def test_a_damaged_record_ends_the_log(tmp_path: Path) -> None:
    """What follows it might rest on it; the service continues from there, also over another restart."""
    filled(tmp_path)
    log = bytearray((tmp_path / "log").read_bytes())
    log[len(log) // 2] ^= 0xFF
    (tmp_path / "log").write_bytes(log)
    adapter = KeyValueAdapter(tmp_path)
    assert adapter.cursor() == 3
    ask(adapter, commands.encode_set(b"later", b""))
    adapter.sync()
    adapter.close()
    adapter = KeyValueAdapter(tmp_path)
    assert (adapter.cursor(), ask(adapter, commands.encode_get(b"later")).status) == (4, OK)
    adapter.close()


def test_a_damaged_snapshot_is_noticed(tmp_path: Path) -> None:
    """A wrong state must not be served."""
    adapter = KeyValueAdapter(tmp_path)
    adapter.set_state(9, 1, iter([commands.encode_field(b"k") + commands.encode_field(b"v")]))
    adapter.close()
    snapshot = bytearray((tmp_path / "snapshot").read_bytes())
    snapshot[-6] ^= 1
    (tmp_path / "snapshot").write_bytes(snapshot)
    with pytest.raises(DamagedFile):
        KeyValueAdapter(tmp_path)


def test_records_that_the_snapshot_covers_are_skipped(tmp_path: Path) -> None:
    """A crash between writing the snapshot and emptying the log leaves both."""
    filled(tmp_path)
    log = (tmp_path / "log").read_bytes()
    adapter = KeyValueAdapter(tmp_path)
    adapter.set_state(4, 1, iter([commands.encode_field(b"only") + commands.encode_field(b"v")]))
    adapter.close()
    (tmp_path / "log").write_bytes(log)
    adapter = KeyValueAdapter(tmp_path)
    assert ask(adapter, commands.encode_scan(b"", 9)).fields[0::2] == [b"4", b"5", b"only"]
    adapter.close()


def test_a_long_log_becomes_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log does not grow for ever; nothing is lost over the change."""
    monkeypatch.setattr(key_value_files, "LOG_BYTES_MAX", 1000)
    adapter = KeyValueAdapter(tmp_path)
    source = random.Random(5)
    for _ in range(20):
        execute_all(adapter, [commands.encode_set(source.randbytes(1), source.randbytes(40)) for _ in range(9)])
        adapter.sync()
        assert (tmp_path / "log").stat().st_size <= 1000 + 9 * 100
    parts, cursor = state_parts(adapter), adapter.cursor()
    adapter.close()
    assert (tmp_path / "snapshot").exists()
    adapter = KeyValueAdapter(tmp_path)
    assert (state_parts(adapter), adapter.cursor()) == (parts, cursor)
    adapter.close()


def test_reads_move_the_durable_cursor_only_with_sync(tmp_path: Path) -> None:
    """A read costs no write; a sync makes its number durable too."""
    adapter = KeyValueAdapter(tmp_path)
    ask(adapter, commands.encode_get(b"k"))
    assert (tmp_path / "log").stat().st_size == 0
    assert adapter.sync() == 2
    adapter.close()
    adapter = KeyValueAdapter(tmp_path)
    assert adapter.cursor() == 2
    adapter.close()


def test_wrong_arguments_end_with_a_usage(capsys: Any) -> None:
    """The factory speaks like any command line."""
    with pytest.raises(SystemExit, match="2"):
        create_adapter(["--snapshot", "sometimes"])
    assert "invalid choice: 'sometimes'" in capsys.readouterr().err
