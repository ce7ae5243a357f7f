"""A key-value store behind a `ServiceAdapter`: the example to copy from.

`docs/wrap-your-service.md` explains it step by step; `key_value_commands` is what clients speak.
"""

import argparse
import bisect
import contextlib
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from exec_wrapper.examples import key_value_commands as commands
from exec_wrapper.examples.key_value_commands import (
    BAD_REQUEST,
    KEY_BYTES_MAX,
    MISMATCH,
    NOT_FOUND,
    OK,
    TOO_LARGE,
    VALUE_BYTES_MAX,
    decode_count,
    decode_fields,
    encode_field,
)
from exec_wrapper.examples.key_value_files import KeyValueFiles
from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate, Snapshot
from exec_wrapper.state_parts import cut_into_parts

PUT = b"P"
REMOVE = b"R"
"""Kinds of change in an update: `PUT key value`, `REMOVE key`.  An update tells the result, never how it came about."""
NO_UPDATE = b""
STATE_FORMAT = 1

_Handler = Callable[[List[bytes], RequestContext], Outcome]


class KeyValueAdapter:
    """Keys and values in memory, on disk if it is given a directory."""

    service = "key-value"
    version = "1"
    state_format = STATE_FORMAT

    def __init__(self, directory: Optional[Path] = None, snapshot: Snapshot = "concurrent") -> None:
        """Load what the directory holds.

        Args:
            directory: for log and snapshot; `None`: a restart begins empty, with cursor 1.
            snapshot: whether a state may be streamed beside execution.
        """
        self.snapshot: Snapshot = snapshot
        self._values: Dict[bytes, bytes] = {}
        self._sorted_keys: Optional[List[bytes]] = None
        self._cursor = 1
        self._logged_cursor = 1
        self._handlers: Dict[bytes, _Handler] = {
            commands.GET: self._get,
            commands.SET: self._set,
            commands.DELETE: self._delete,
            commands.APPEND: self._append,
            commands.COMPARE_AND_SET: self._compare_and_set,
            commands.SCAN: self._scan,
            commands.ECHO: self._echo,
            commands.STAMP: self._stamp,
        }
        self._files = KeyValueFiles(directory) if directory is not None else None
        if self._files is not None:
            with contextlib.ExitStack() as opened:
                opened.callback(self._files.close)
                self._load(self._files)
                opened.pop_all()

    # ── the ServiceAdapter border ──

    def execute(self, request: bytes, context: RequestContext) -> Outcome:
        """Execute one command.  What is no command gets a reply that says so: clients may send anything."""
        handler = self._handlers.get(request[:1])
        try:
            if handler is None:
                raise ValueError("unknown operation %r" % request[:1])
            outcome = handler(decode_fields(request, 1), context)
        except ValueError as error:
            outcome = Outcome(BAD_REQUEST + encode_field(str(error).encode()), NO_UPDATE)
        self._cursor = context.sequence + 1
        if outcome.update:
            self._apply(outcome.update)
            self._log([outcome.update])
        return outcome

    def apply_updates(self, updates: Sequence[SequencedUpdate], up_to: int) -> None:
        """Apply the changes that other replicas made."""
        for _, update in updates:
            self._apply(update)
        self._cursor = up_to + 1
        if updates:
            self._log([update for _, update in updates])

    def take_state(self, point: int, state_format: int, part_bytes_max: int) -> Iterator[bytes]:
        """Return all entries in the order of keys, cut every `part_bytes_max` bytes."""
        if state_format != STATE_FORMAT:
            raise ValueError("state format %d cannot be written" % state_format)
        values = dict(self._values) if self.snapshot == "concurrent" else self._values
        return cut_into_parts(_entries(values), part_bytes_max)

    def set_state(self, point: int, state_format: int, parts: Iterator[bytes]) -> None:
        """Replace everything; nothing is touched before the last part is here."""
        if state_format != STATE_FORMAT:
            raise ValueError("state format %d cannot be read" % state_format)
        content = b"".join(parts)
        self._replace(content)
        self._cursor = point
        if self._files is not None:
            self._files.write_snapshot(point, content)
            self._logged_cursor = point

    def cursor(self) -> int:
        """Return the cursor."""
        return self._cursor

    def sync(self) -> int:
        """Make log, or snapshot, durable."""
        if self._files is not None:
            if self._files.is_log_long:
                self._files.write_snapshot(self._cursor, b"".join(_entries(self._values)))
                self._logged_cursor = self._cursor
            elif self._logged_cursor != self._cursor:
                self._log([])  # read-only requests moved the cursor without a record
            self._files.sync()
        return self._cursor

    def close(self) -> None:
        """Close the files; for programs that make more than one adapter."""
        if self._files is not None:
            self._files.close()

    # ── commands ──

    def _get(self, fields: List[bytes], context: RequestContext) -> Outcome:
        (key,) = _expect(fields, 1)
        value = self._values.get(key)
        return Outcome(NOT_FOUND if value is None else OK + encode_field(value), NO_UPDATE)

    def _set(self, fields: List[bytes], context: RequestContext) -> Outcome:
        key, value = _expect(fields, 2)
        return _put(key, value, OK)

    def _delete(self, fields: List[bytes], context: RequestContext) -> Outcome:
        (key,) = _expect(fields, 1)
        if key not in self._values:
            return Outcome(NOT_FOUND, NO_UPDATE)
        return Outcome(OK, REMOVE + encode_field(key))

    def _append(self, fields: List[bytes], context: RequestContext) -> Outcome:
        key, addition = _expect(fields, 2)
        value = self._values.get(key, b"") + addition
        return _put(key, value, OK + encode_field(len(value).to_bytes(8, "big")))

    def _compare_and_set(self, fields: List[bytes], context: RequestContext) -> Outcome:
        key, value, *condition = _expect(fields, 2, 3)
        expected = condition[0] if condition else None
        present = self._values.get(key)
        if present != expected:
            return Outcome(MISMATCH + (b"" if present is None else encode_field(present)), NO_UPDATE)
        return _put(key, value, OK)

    def _scan(self, fields: List[bytes], context: RequestContext) -> Outcome:
        start, count_field = _expect(fields, 2)
        count = min(decode_count(count_field), commands.SCAN_ENTRIES_MAX)
        keys = self._keys()
        first = bisect.bisect_left(keys, start)
        entries: List[bytes] = []
        room = commands.SCAN_BYTES_MAX
        for key in keys[first : first + count]:
            entry = encode_field(key) + encode_field(self._values[key])
            room -= len(entry)
            if room < 0 and entries:
                break
            entries.append(entry)
        return Outcome(OK + b"".join(entries), NO_UPDATE)

    def _echo(self, fields: List[bytes], context: RequestContext) -> Outcome:
        (data,) = _expect(fields, 1)
        return Outcome(OK + encode_field(data), NO_UPDATE)

    def _stamp(self, fields: List[bytes], context: RequestContext) -> Outcome:
        # Time and randomness from the context alone, so that every replica stores the same.
        (key,) = _expect(fields, 1)
        value = context.timestamp_us.to_bytes(8, "big") + context.seed[:8]
        return _put(key, value, OK + encode_field(value))

    # ── state ──

    def _apply(self, update: bytes) -> None:
        change = update[:1]
        fields = decode_fields(update, 1)
        if change == PUT:
            key, value = fields
            if self._sorted_keys is not None and key not in self._values:
                bisect.insort(self._sorted_keys, key)
            self._values[key] = value
        elif change == REMOVE:
            del self._values[fields[0]]
            if self._sorted_keys is not None:
                del self._sorted_keys[bisect.bisect_left(self._sorted_keys, fields[0])]
        else:
            raise ValueError("not an update of this service: %r" % update[:16])

    def _keys(self) -> List[bytes]:
        # Sorted only for the first scan: a service without scans pays nothing.
        if self._sorted_keys is None:
            self._sorted_keys = sorted(self._values)
        return self._sorted_keys

    def _replace(self, content: bytes) -> None:
        fields = decode_fields(content, 0)
        if len(fields) % 2:
            raise ValueError("a state ends with a key")
        self._values = {fields[i]: fields[i + 1] for i in range(0, len(fields), 2)}
        self._sorted_keys = None

    def _log(self, updates: Sequence[bytes]) -> None:
        if self._files is not None:
            self._files.append(self._cursor, updates)
            self._logged_cursor = self._cursor

    def _load(self, files: KeyValueFiles) -> None:
        self._cursor, content = files.read_snapshot()
        self._replace(content)
        for cursor, updates in files.replay():
            if cursor > self._cursor:  # else the snapshot covers it
                for update in updates:
                    self._apply(update)
                self._cursor = cursor
        self._logged_cursor = self._cursor


def _expect(fields: List[bytes], *counts: int) -> List[bytes]:
    if len(fields) not in counts:
        raise ValueError("%d fields" % len(fields))
    return fields


def _put(key: bytes, value: bytes, reply: bytes) -> Outcome:
    if len(key) > KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
        return Outcome(TOO_LARGE, NO_UPDATE)
    return Outcome(reply, PUT + encode_field(key) + encode_field(value))


def _entries(values: Dict[bytes, bytes]) -> Iterator[bytes]:
    for key in sorted(values):
        yield encode_field(key) + encode_field(values[key])


def create_adapter(arguments: Sequence[str]) -> KeyValueAdapter:
    """Return an adapter for the command line `[--directory DIRECTORY] [--snapshot concurrent|blocking]`."""
    parser = argparse.ArgumentParser(prog="key_value", description="A key-value store.")
    parser.add_argument("--directory", type=Path, help="where to keep the data; without it they are lost at the end")
    parser.add_argument("--snapshot", choices=("concurrent", "blocking"), default="concurrent")
    options = parser.parse_args(arguments)
    return KeyValueAdapter(options.directory, options.snapshot)


__all__ = ["KeyValueAdapter", "create_adapter"]
