"""Durable records: keys and values in `StableStorage`, all under the prefix `a/`.

A record of a slot holds the newest vote, or the decided batch if it was learned otherwise, and how far the member knew
everything decided when it was written.  That costs no write of its own, and after a restart tells which records hold
decided batches: every slot up to the highest such number.

Source: Lamport, "Paxos Made Simple" (2001), section 2.4 ("an acceptor … records its intended response in stable
storage before actually sending the response").
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from agreement.configuration import Configuration
from agreement.errors import AmnesiaError
from agreement.identifiers import NO_BALLOT, Ballot, Identity, MemberId
from agreement.storage import DeleteRange, Put, Write

PREFIX = b"a/"
PREFIX_END = b"a0"
"""Scan `[PREFIX, PREFIX_END)` for the `storage_content` of `recovered`."""

_IDENTITY_KEY = b"a/i"
_BASE_KEY = b"a/b"
_LOWEST_KEY = b"a/w"
_GAP_KEY = b"a/g"
_PROMISE = b"a/p"
_SLOT = b"a/v"
_END = b"a/e"
_FLOOR = b"a/f"
_CONFIGURATION = struct.Struct(">Q")
_POSITION = struct.Struct(">QQ")


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    pass


class IdentityRecord(_Record, frozen=True):
    """The birth record: who wrote this storage."""

    member: MemberId
    incarnation: int
    life: int
    """Restarts with this storage intact."""


class BaseRecord(_Record, frozen=True):
    """The order up to a slot boundary, in place of the log below it."""

    configuration: Configuration
    next_slot: int
    sequence: int
    """Last sequence number below the boundary."""
    origins: tuple[tuple[int, int], ...]
    """`(server, last number delivered)`."""


class SlotRecord(_Record, frozen=True):
    """What a member knows about one slot."""

    ballot: Ballot | None
    """Of the vote; None if the batch is known to be decided."""
    decided: int
    """Highest slot up to which the writer knew everything decided."""
    batch: bytes


_encode = msgspec.msgpack.Encoder().encode
_slot_decoder = msgspec.msgpack.Decoder(SlotRecord)


def _configuration_key(prefix: bytes, configuration: int) -> bytes:
    return prefix + _CONFIGURATION.pack(configuration)


def put_identity(identity: Identity, life: int) -> Write:
    """The birth record, rewritten at each restart."""
    return Put(_IDENTITY_KEY, _encode(IdentityRecord(identity.member, identity.incarnation, life)))


def put_base(base: BaseRecord) -> Write:
    """The state that the log continues."""
    return Put(_BASE_KEY, _encode(base))


def put_promise(configuration: int, ballot: Ballot) -> Write:
    """The highest ballot promised in a configuration."""
    return Put(_configuration_key(_PROMISE, configuration), _encode(ballot))


def put_slot(configuration: int, slot: int, ballot: Ballot | None, decided: int, batch: bytes) -> Write:
    """A vote (`ballot`), or a batch known to be decided (None)."""
    return Put(_SLOT + _POSITION.pack(configuration, slot), _encode(SlotRecord(ballot, decided, batch)))


def put_end(configuration: int, slot: int) -> Write:
    """The log of a configuration ended with this slot, which holds its change."""
    return Put(_configuration_key(_END, configuration), _encode(slot))


def put_lowest(members: Configuration) -> Write:
    """A witness answers nothing about configurations before this one, for ever."""
    return Put(_LOWEST_KEY, _encode(members))


def put_floor(configuration: int, slot: int) -> Write:
    """A witness has forgotten the slots up to this one: every server has them."""
    return Put(_configuration_key(_FLOOR, configuration), _encode(slot))


def put_gap(position: tuple[int, int]) -> Write:
    """A snapshot took the log beyond `position` (a `(configuration, slot)`), and is not durable yet.

    Records from there up to the snapshot are votes, not known to be decided, whatever later records say.
    """
    return Put(_GAP_KEY, _encode(position))


def delete_gap() -> Write:
    """The snapshot is durable, and the base is beyond the gap."""
    return DeleteRange(_GAP_KEY, _GAP_KEY + b"\0")


def delete_slots(configuration: int, before: int) -> list[Write]:
    """Forget the slots of one configuration below `before`."""
    return [DeleteRange(_SLOT + _POSITION.pack(configuration, 0), _SLOT + _POSITION.pack(configuration, before))]


def delete_configurations(before: int) -> list[Write]:
    """Forget all that is about configurations below `before`."""
    end = _CONFIGURATION.pack(before)
    return [DeleteRange(prefix, prefix + end) for prefix in (_PROMISE, _SLOT, _END, _FLOOR)]


def delete_everything() -> Write:
    """Forget all that this package has stored."""
    return DeleteRange(PREFIX, PREFIX_END)


@dataclass(slots=True)
class StoredConfiguration:
    """What was stored about one configuration."""

    promised: Ballot = NO_BALLOT
    slots: dict[int, SlotRecord] = field(default_factory=dict)
    end: int | None = None
    floor: int = -1

    @property
    def decided(self) -> int:
        """Highest slot up to which every record that exists holds the decided batch; -1 if none."""
        known = max((record.decided for record in self.slots.values()), default=-1)
        return known if self.end is None else max(known, self.end)


@dataclass(slots=True)
class StoredState:
    """Everything found in the storage."""

    identity: Identity | None = None
    life: int = 0
    base: BaseRecord | None = None
    lowest: Configuration | None = None
    gap: tuple[int, int] | None = None
    """Where a snapshot that was not durable yet left the log."""
    configurations: dict[int, StoredConfiguration] = field(default_factory=dict)

    def of(self, configuration: int) -> StoredConfiguration:
        """What was stored about one configuration; nothing is an answer too."""
        return self.configurations.setdefault(configuration, StoredConfiguration())


def read_storage(content: Iterable[tuple[bytes, bytes]]) -> StoredState:
    """Sort what a scan of `[PREFIX, PREFIX_END)` found.

    Raises:
        AmnesiaError: a record cannot be read, so the memory is not complete.
    """
    state = StoredState()
    try:
        for key, value in content:
            _read_record(state, key, value)
    except (msgspec.DecodeError, struct.error) as error:
        raise AmnesiaError(f"the stored record {key!r} cannot be read: {error}") from error
    return state


def _read_record(state: StoredState, key: bytes, value: bytes) -> None:
    prefix, rest = key[:3], key[3:]
    if prefix == _SLOT:
        number, slot = _POSITION.unpack(rest)
        state.of(number).slots[slot] = _slot_decoder.decode(value)
    elif prefix == _PROMISE:
        state.of(*_CONFIGURATION.unpack(rest)).promised = msgspec.msgpack.decode(value, type=Ballot)
    elif prefix == _END:
        state.of(*_CONFIGURATION.unpack(rest)).end = msgspec.msgpack.decode(value, type=int)
    elif prefix == _FLOOR:
        state.of(*_CONFIGURATION.unpack(rest)).floor = msgspec.msgpack.decode(value, type=int)
    elif prefix == _IDENTITY_KEY:
        record = msgspec.msgpack.decode(value, type=IdentityRecord)
        state.identity, state.life = Identity(record.member, record.incarnation), record.life
    elif prefix == _BASE_KEY:
        state.base = msgspec.msgpack.decode(value, type=BaseRecord)
    elif prefix == _GAP_KEY:
        state.gap = msgspec.msgpack.decode(value, type=tuple[int, int])
    elif prefix == _LOWEST_KEY:
        state.lowest = msgspec.msgpack.decode(value, type=Configuration)
    else:
        raise AmnesiaError(f"the storage has the unknown key {key!r}")
