"""Snapshots for a server that lacks what nobody keeps any more: given in pieces, pulled by the receiver.

Piece 0 is the state of the order at a slot boundary, the others are the application's state.  The application may be
further than the boundary, within one batch; the receiver then delivers nothing twice, because it skips what the
application's state covers.

Source: design "Agreement stage", Log and checkpoints.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from agreement.context import Context
from agreement.errors import MalformedMessage
from agreement.identifiers import MemberId
from agreement.log import LogState
from agreement.messages import SnapshotPart, SnapshotPull
from agreement.output import LimitReached, SnapshotInstalled, SnapshotWanted
from agreement.records import BaseRecord, put_gap

PARTS_IN_FLIGHT = 4
"""Pieces asked for and not arrived: enough to fill a link, few enough for anybody's memory."""
PULLS_MAX = 8
"""Repeated questions without an answer before the receiver looks for another server."""
OUTGOING_MS = 60_000
"""A snapshot that was not pulled for this long is dropped."""

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(BaseRecord)


@dataclass(slots=True)
class _Outgoing:
    """A snapshot given to one member."""

    snapshot: int
    sequence: int
    header: bytes
    application: bytes
    touched_ms: int


@dataclass(slots=True)
class _Incoming:
    """A snapshot under way."""

    sender: MemberId
    snapshot: int
    sequence: int
    state: LogState
    parts: int
    data: dict[int, bytes] = field(default_factory=dict)
    asked: int = 0
    """Pieces `1 … asked` were asked for."""
    moved_ms: int = 0
    pulls: int = 0

    @property
    def is_complete(self) -> bool:
        return len(self.data) == self.parts - 1


class Giving:
    """Snapshots for others."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._outgoing: dict[MemberId, _Outgoing] = {}
        self._wanted_ms: dict[MemberId, int] = {}
        self._count = 0

    def want(self, member: MemberId) -> None:
        """`member` lacks what the log does not hold any more."""
        context = self._context
        outgoing = self._outgoing.get(member)
        if outgoing is not None and outgoing.sequence >= context.log.sequence_min:
            self._send_part(member, outgoing, 0)
            return
        self._outgoing.pop(member, None)
        asked_ms = self._wanted_ms.get(member)
        if asked_ms is None or context.now_ms - asked_ms >= context.settings.crash_timeout_ms:
            self._wanted_ms[member] = context.now_ms
            context.outbox.report(SnapshotWanted(member, context.log.sequence_min))

    def on_timer(self) -> None:
        """Drop what nobody has pulled for long."""
        limit_ms = self._context.now_ms - OUTGOING_MS
        for member in [member for member, outgoing in self._outgoing.items() if outgoing.touched_ms < limit_ms]:
            del self._outgoing[member]

    def forget(self, member: MemberId) -> None:
        """`member` has what it needs."""
        self._outgoing.pop(member, None)

    def provide(self, member: MemberId, sequence: int, application: bytes) -> None:
        """The application's state up to `sequence` is here."""
        context = self._context
        state = context.log.state_at(sequence)
        if state is None:
            context.outbox.report(SnapshotWanted(member, context.log.sequence_min))
            return
        if len(application) > context.settings.snapshot_bytes_max:
            detail = f"{len(application)} bytes for {member}"
            context.outbox.report(LimitReached("snapshot_bytes_max", detail))
            return
        self._count += 1
        # The number of a former process must not be taken for this one's.
        snapshot = context.rng.getrandbits(48) << 8 | self._count & 0xFF
        outgoing = _Outgoing(snapshot, sequence, _encode(state.record()), application, context.now_ms)
        self._outgoing[member] = outgoing
        self._wanted_ms.pop(member, None)
        self._send_part(member, outgoing, 0)

    def on_pull(self, sender: MemberId, pull: SnapshotPull) -> None:
        """The receiver asks for a piece."""
        outgoing = self._outgoing.get(sender)
        if outgoing is not None and outgoing.snapshot == pull.snapshot:
            self._send_part(sender, outgoing, pull.part)

    def _send_part(self, member: MemberId, outgoing: _Outgoing, part: int) -> None:
        context = self._context
        size = context.settings.part_bytes_max
        parts = 1 + -(-len(outgoing.application) // size)
        if not 0 <= part < parts:
            return
        outgoing.touched_ms = context.now_ms
        data = outgoing.header if part == 0 else outgoing.application[(part - 1) * size : part * size]
        message = SnapshotPart(
            context.number,
            context.identity.incarnation,
            outgoing.snapshot,
            outgoing.sequence,
            part,
            parts,
            data,
        )
        context.outbox.send(member, message)


class Taking:
    """A snapshot from another server."""

    def __init__(self, context: Context, on_installed: Callable[[bool], None], postpone: Callable[[], None]) -> None:
        """`on_installed(is_new_configuration)` after the log has moved; `postpone()` while pieces arrive."""
        self._context = context
        self._on_installed = on_installed
        self._postpone = postpone
        self._incoming: _Incoming | None = None

    def on_part(self, sender: MemberId, part: SnapshotPart) -> None:
        """A piece arrived.

        Raises:
            MalformedMessage: piece 0 cannot be read.
        """
        if part.part == 0:
            self._begin(sender, part)
        incoming = self._incoming
        if incoming is None or (incoming.sender, incoming.snapshot) != (sender, part.snapshot):
            return
        if 0 < part.part < incoming.parts:
            incoming.data[part.part] = part.data
        incoming.moved_ms = self._context.now_ms
        incoming.pulls = 0
        self._postpone()
        if incoming.is_complete:
            self._install(incoming)
        else:
            self._pull_more(incoming)

    def _begin(self, sender: MemberId, part: SnapshotPart) -> None:
        context = self._context
        if self._incoming is not None or part.sequence < context.log.delivered:
            return
        try:
            state = LogState.of_record(_decoder.decode(part.data))
        except msgspec.DecodeError as error:
            raise MalformedMessage(f"a snapshot cannot be read: {error}") from error
        if state.position <= context.log.state.position:
            return
        if part.parts * context.settings.part_bytes_max > context.settings.snapshot_bytes_max:
            context.outbox.report(LimitReached("snapshot_bytes_max", f"{part.parts} parts from {sender}"))
            return
        self._incoming = _Incoming(sender, part.snapshot, part.sequence, state, part.parts, moved_ms=context.now_ms)

    def _pull_more(self, incoming: _Incoming) -> None:
        while incoming.asked < min(len(incoming.data) + PARTS_IN_FLIGHT, incoming.parts - 1):
            incoming.asked += 1
            self._pull(incoming, incoming.asked)

    def _pull(self, incoming: _Incoming, part: int) -> None:
        context = self._context
        pull = SnapshotPull(context.number, context.identity.incarnation, incoming.snapshot, part)
        context.outbox.send(incoming.sender, pull)

    @property
    def next_timer_ms(self) -> int | None:
        """When `on_timer` has something to do."""
        incoming = self._incoming
        return None if incoming is None else incoming.moved_ms + self._context.settings.resend_ms

    def on_timer(self) -> None:
        """Ask again for what did not arrive; give up after a while."""
        context, incoming = self._context, self._incoming
        if incoming is None or context.now_ms - incoming.moved_ms < context.settings.resend_ms:
            return
        incoming.moved_ms = context.now_ms
        incoming.pulls += 1
        if incoming.pulls > PULLS_MAX:
            self._incoming = None
            return
        self._postpone()
        for part in range(1, incoming.asked + 1):
            if part not in incoming.data:
                self._pull(incoming, part)

    def _install(self, incoming: _Incoming) -> None:
        """Go on from the snapshot.

        The durable base stays where it is until the application's copy is durable (`compact`): a crash before that
        must find the own log as it was, with the votes in it.
        """
        context = self._context
        self._incoming = None
        state = incoming.state
        if state.position <= context.log.state.position or incoming.sequence < context.log.delivered:
            return  # the log came faster
        if context.gap is None:
            context.gap = context.log.state.position
            context.outbox.write(put_gap(context.gap))
        application = b"".join(incoming.data[part] for part in range(1, incoming.parts))
        is_new_configuration = state.configuration.number != context.number
        context.log.install(state, incoming.sequence)
        context.outbox.replace_deliveries(incoming.sequence)
        context.outbox.report(SnapshotInstalled(incoming.sequence, application))
        if not is_new_configuration:
            context.acceptor.forget_through([slot for slot in context.acceptor.votes if slot < state.next_slot])
        self._on_installed(is_new_configuration)
