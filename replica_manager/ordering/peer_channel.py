"""Messages to and from the other members: codec and transport put together.

All messages that are posted to a member in one iteration of the event loop leave as one frame.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import LinkRefused
from replica_manager.ordering.peer_codec import PeerCodec
from replica_manager.ordering.peer_port import PeerEvent, PeerHandler, PeerTransport
from replica_manager.ordering.peer_transport import FRAME_BYTES_MAX

MessageT = TypeVar("MessageT")


# Without slots: a generic class with slots that is frozen cannot be called as `ChannelHandler[X](…)` in Python 3.11.
@dataclass(frozen=True)
class ChannelHandler(Generic[MessageT]):
    """Whom a channel calls, in the event loop; none of them may block or raise."""

    on_messages: Callable[[MemberId, list[MessageT]], None]
    """Messages of one member, in its order."""
    on_up: Callable[[MemberId], None]
    """As in `PeerHandler`."""
    on_down: Callable[[MemberId], None]
    """As in `PeerHandler`."""
    on_event: Callable[[PeerEvent], None]
    """As in `PeerHandler`."""


class PeerChannel(Generic[MessageT]):
    """The one channel of a member to all others."""

    def __init__(
        self,
        message_type: Any,
        handler: ChannelHandler[MessageT],
        make_transport: Callable[[PeerHandler], PeerTransport],
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        """`message_type` is the union of all messages; `make_transport` gets the handler that the transport calls."""
        self._codec: PeerCodec[MessageT] = PeerCodec(message_type, frame_bytes_max)
        self._handler = handler
        self._posted: dict[MemberId, list[bytes]] = {}
        self._flush_handle: asyncio.Handle | None = None
        self._last: tuple[MessageT | None, bytes] = (None, b"")
        self.transport = make_transport(
            PeerHandler(
                on_frames=self._frames_arrived,
                on_up=handler.on_up,
                on_down=handler.on_down,
                on_event=handler.on_event,
            )
        )

    def post(self, member: MemberId, message: MessageT) -> None:
        """Send a message with the others of this iteration of the event loop; lost if the member is not up.

        Raises:
            MessageTooLarge: our misuse, it does not fit into a frame.
        """
        last, encoded = self._last
        if message is not last:
            # A broadcast posts the same object once per member: it is encoded once.
            encoded = self._codec.encode(message)
            self._last = (message, encoded)
        posted = self._posted.get(member)
        if posted is None:
            self._posted[member] = [encoded]
        else:
            posted.append(encoded)
        if self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send now what was posted; otherwise the next iteration of the event loop does."""
        if self._flush_handle is None:
            return
        self._flush_handle.cancel()
        self._flush_handle = None
        posted, self._posted = self._posted, {}
        self._last = (None, b"")
        for member, encoded in posted.items():
            for frame in self._codec.frames(encoded):
                self.transport.send(member, frame)
        self.transport.flush()

    def _frames_arrived(self, member: MemberId, frames: list[bytes]) -> None:
        messages: list[MessageT] = []
        refusal: LinkRefused | None = None
        for frame in frames:
            try:
                messages += self._codec.decode(frame)
            except LinkRefused as error:
                refusal = error
                break
        if messages:
            self._handler.on_messages(member, messages)
        if refusal is not None:
            self.transport.disconnect(member, refusal.reason, refusal.detail)
