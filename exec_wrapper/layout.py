"""Where the fields of a frame stand: kinds and fixed parts.

A frame is `length: u32 | kind: u8 | body`, big-endian; `length` counts `kind` and `body`.
A `…_LAYOUT` covers a frame from `length` to its first variable part, so that coding a frame needs one `struct` call.
The kinds of the two directions are disjoint, so that a frame that is reflected to its sender is noticed.

Source: `docs/wrapper-protocol.md`, which gives the same layouts byte by byte.
"""

import struct

from exec_wrapper.wire import TEXT_BYTES_MAX

MAGIC = b"\xf5SPARE\r\n"
"""Begins the body of `Hello`, so that a wrapper finds one in a stream whose beginning it missed."""

KIND_HELLO = 0x01
KIND_PING = 0x02
KIND_EXECUTE = 0x03
KIND_APPLY_UPDATES = 0x04
KIND_TAKE_STATE = 0x05
KIND_NEXT_PART = 0x06
KIND_CANCEL_STATE = 0x07
KIND_SET_STATE = 0x08
KIND_SET_PART = 0x09
KIND_SYNC = 0x0A
KIND_WRAPPER_HELLO = 0x41
KIND_PONG = 0x42
KIND_EXECUTED = 0x43
KIND_APPLIED = 0x44
KIND_SYNCED = 0x45
KIND_STATE_PART = 0x46
KIND_STATE_SET = 0x47
KIND_FAILED = 0x48

HEADER_LAYOUT = struct.Struct(">IB")
HELLO_LAYOUT = struct.Struct(">IB8s16s16sHII")
EXECUTE_LAYOUT = struct.Struct(">IBQQQ32s")
APPLY_UPDATES_LAYOUT = struct.Struct(">IBQQI")
UPDATE_LAYOUT = struct.Struct(">QI")
TAKE_STATE_LAYOUT = struct.Struct(">IBQQI")
NUMBER_LAYOUT = struct.Struct(">IBQ")
COUNT_LAYOUT = struct.Struct(">IBI")
SET_STATE_LAYOUT = struct.Struct(">IBQI")
SET_PART_LAYOUT = struct.Struct(">IBIB")
WRAPPER_HELLO_LAYOUT = struct.Struct(">IB16sHQIB")
EXECUTED_LAYOUT = struct.Struct(">IBQI")
STATE_PART_LAYOUT = struct.Struct(">IBQIB")
TEXT_LENGTH_LAYOUT = struct.Struct(">H")

HEADER_BYTES = HEADER_LAYOUT.size
LENGTH_BYTES = 4
HELLO_PREFIX = HEADER_LAYOUT.pack(HELLO_LAYOUT.size - LENGTH_BYTES, KIND_HELLO) + MAGIC
"""The first bytes of every `Hello` frame."""
HELLO_BYTES = HELLO_LAYOUT.size
WRAPPER_HELLO_BYTES_MAX = WRAPPER_HELLO_LAYOUT.size + 3 * (TEXT_LENGTH_LAYOUT.size + TEXT_BYTES_MAX)
"""The longest `WrapperHello` frame."""
EXECUTED_OVERHEAD_BYTES = EXECUTED_LAYOUT.size - LENGTH_BYTES
"""What `Executed` adds to reply and update, counted as `length` counts."""
