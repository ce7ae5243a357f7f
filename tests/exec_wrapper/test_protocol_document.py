"""`docs/wrapper-protocol.md` describes the bytes that the code sends."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper import layout, wire
from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.framing import decode_from_wrapper, decode_to_wrapper, encode_frame
from exec_wrapper.session import Session
from exec_wrapper.wire import FromWrapper, ToWrapper
from tests.exec_wrapper.message_strategies import from_wrapper, to_wrapper

DOCUMENT = (Path(__file__).parents[2] / "docs" / "wrapper-protocol.md").read_text()
ROW = re.compile(r"^\| (0x\w\w) \| `(\w+)` \| ?(.*?) ?\|$", re.MULTILINE)
BLOCK = re.compile(r"^The (manager|wrapper):\n\n```frame\n(.*)\n((?:[0-9a-f ]+\n)+)```$", re.MULTILINE)

LAYOUTS = {name: (int(kind, 16), body) for kind, name, body in ROW.findall(DOCUMENT)}
EXAMPLE = [
    (speaker, title, bytes.fromhex(digits.replace("\n", " "))) for speaker, title, digits in BLOCK.findall(DOCUMENT)
]


def blob(value: bytes) -> bytes:
    """Return a `blob`."""
    return struct.pack(">I", len(value)) + value


def raw(value: bytes | str) -> bytes:
    """Return bytes, or text as UTF-8."""
    return value.encode() if isinstance(value, str) else value


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "u16": lambda value: struct.pack(">H", value),
    "u32": lambda value: struct.pack(">I", value),
    "u64": lambda value: struct.pack(">Q", value),
    "flag": lambda value: struct.pack(">B", value),
    "bytes8": raw,
    "bytes16": raw,
    "bytes32": raw,
    "text": lambda value: struct.pack(">H", len(value.encode())) + value.encode(),
    "blob": blob,
    "rest": raw,
    "updates": lambda value: struct.pack(">I", len(value)) + b"".join(struct.pack(">Q", s) + blob(u) for s, u in value),
}


def as_documented(message: ToWrapper | FromWrapper) -> bytes:
    """Encode a message by the tables of the document."""
    kind, body = LAYOUTS[type(message).__name__]
    values = message._asdict() | {"magic": layout.MAGIC}
    fields = [field.split(": ") for field in body.split(", ") if field]
    content = b"".join(ENCODERS[type_name](values[name]) for name, type_name in fields)
    return struct.pack(">IB", 1 + len(content), kind) + content


@given(st.one_of(to_wrapper, from_wrapper))
def test_the_tables_give_the_bytes_of_every_message(message: ToWrapper | FromWrapper) -> None:
    """A wrapper written after the document alone is understood."""
    assert as_documented(message) == encode_frame(message)


def test_every_message_has_a_row() -> None:
    """And no row is left over."""
    messages = {*wire.ToWrapper.__args__, *wire.FromWrapper.__args__}  # type: ignore[attr-defined]
    assert {message.__name__ for message in messages} == LAYOUTS.keys()


def test_the_magic_and_the_limits_are_those_of_the_code() -> None:
    """Numbers in sentences are easily forgotten."""
    assert f"`{layout.MAGIC.hex(' ')}`" in DOCUMENT
    assert f"the protocol described here is number {wire.PROTOCOL_VERSION}" in DOCUMENT
    assert f"`u16` length (at most {wire.TEXT_BYTES_MAX})" in DOCUMENT


@pytest.mark.parametrize(
    ("speaker", "title", "data"), EXAMPLE, ids=[title.partition("(")[0] for _, title, _ in EXAMPLE]
)
def test_a_frame_of_the_example_is_what_its_title_says(speaker: str, title: str, data: bytes) -> None:
    """In both directions."""
    messages: list[Any] = (decode_to_wrapper() if speaker == "manager" else decode_from_wrapper()).feed(data)
    assert [repr(message) for message in messages] == [title]
    assert encode_frame(messages[0]) == data


def test_the_example_is_what_a_wrapper_answers() -> None:
    """The whole conversation, with the key-value service."""
    session = Session(KeyValueAdapter(snapshot="blocking"), "key-value-0123", lambda: None, None)
    answers = b""
    for speaker, _, data in EXAMPLE:
        if speaker == "manager":
            session.feed(data)
            while session.step():
                pass
            answers += session.take_output()
    assert answers == b"".join(data for speaker, _, data in EXAMPLE if speaker == "wrapper")
    assert len(EXAMPLE) >= 10
