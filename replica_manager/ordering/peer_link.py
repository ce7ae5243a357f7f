"""One connection between two members, without I/O: bytes in, frames out, and the reverse.

Layers, from the wire: TLS 1.3 (OpenSSL over memory buffers), frames (4 bytes length, big-endian, then that many bytes),
a greeting as the first frame of either side.

The link is open when the *other* side's greeting has come.  Without it a dialer would believe in a link that the
acceptor is about to refuse: in TLS 1.3 the dialer's handshake is complete before its certificate has been looked at.
"""

import ssl
import struct
from collections.abc import Callable, Sequence

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import LinkRefused, RefusalReason
from replica_manager.ordering.peer_tls import peer_identity

GREETING = b"spare-peer 1"
"""First frame of either side: protocol and version.  A change of any peer message changes the number."""
GREETING_BYTES_MAX = 64
LENGTH = struct.Struct(">I")
READ_BYTES = 64 * 1024


class PeerLink:
    """The protocol of one connection.

    Usage: `start`, then `receive` for every piece of bytes; after either, and after `send`, the bytes of
    `take_outgoing` go to the wire.  An error ends the link; what `take_outgoing` gives then (a TLS alert) may be sent.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        is_dialer: bool,
        accept: Callable[[str], MemberId],
        frame_bytes_max: int,
    ) -> None:
        """`accept` turns the identity in the other end's certificate into a member, or raises `LinkRefused`."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=not is_dialer)
        self._accept = accept
        self._frame_bytes_max = frame_bytes_max
        self._plain = bytearray()
        self._is_shaken = False
        self.member: MemberId | None = None
        """The other end, known after the handshake."""
        self.is_open = False
        """Whether frames may be sent: the other end has greeted."""
        self.is_ended = False
        """Whether the other end closed the link in good order; nothing more comes."""

    def start(self) -> None:
        """Begin the handshake."""
        self._shake()

    def receive(self, data: bytes | memoryview) -> list[bytes]:
        """Take bytes from the wire; return the frames that they complete.

        Raises:
            LinkRefused: the other end misbehaves.
        """
        self._incoming.write(data)
        if not self._is_shaken:
            self._shake()
            if not self._is_shaken:
                return []
        self._decrypt()
        if not self.is_open:
            self._take_greeting()
            if not self.is_open:
                return []
        return split_frames(self._plain, self._frame_bytes_max)

    def send(self, frames: Sequence[bytes]) -> None:
        """Encrypt `frames`, each 1 to `frame_bytes_max` bytes; the link must be open."""
        self._tls.write(join_frames(frames))

    def take_outgoing(self) -> bytes:
        """Return the bytes for the wire and forget them."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise LinkRefused(RefusalReason.TLS, tls_reason(error)) from error
        self._is_shaken = True
        self.member = self._accept(peer_identity(self._tls))
        self._tls.write(join_frames([GREETING]))

    def _decrypt(self) -> None:
        """Move all plain text that is complete into `_plain`."""
        tls, incoming, plain = self._tls, self._incoming, self._plain
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(READ_BYTES)
                if not piece:
                    self.is_ended = True
                    return
                plain += piece
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise LinkRefused(RefusalReason.TLS, tls_reason(error)) from error

    def _take_greeting(self) -> None:
        for frame in split_frames(self._plain, GREETING_BYTES_MAX, count_max=1):
            if frame != GREETING:
                raise LinkRefused(RefusalReason.PROTOCOL, f"greeting {frame!r} instead of {GREETING!r}")
            self.is_open = True


def join_frames(frames: Sequence[bytes]) -> bytes:
    """Return the frames with their lengths, as one piece."""
    pack = LENGTH.pack
    if len(frames) == 1:
        return pack(len(frames[0])) + frames[0]
    return b"".join([part for frame in frames for part in (pack(len(frame)), frame)])


def split_frames(buffer: bytearray, frame_bytes_max: int, count_max: int | None = None) -> list[bytes]:
    """Cut complete frames, at most `count_max`, from the front of `buffer`.

    The limit is checked as soon as a length is known, so a buffer never holds more than one frame beyond what came in
    one piece.

    Raises:
        LinkRefused: a length of zero or over the limit.
    """
    frames: list[bytes] = []
    position, size = 0, len(buffer)
    with memoryview(buffer) as view:
        while size - position >= LENGTH.size and len(frames) != count_max:
            (length,) = LENGTH.unpack_from(view, position)
            start = position + LENGTH.size
            if not 0 < length <= frame_bytes_max:
                raise _bad_length(length, frame_bytes_max)
            if size - start < length:
                break
            position = start + length
            frames.append(bytes(view[start:position]))
    if position:
        del buffer[:position]
    return frames


def _bad_length(length: int, frame_bytes_max: int) -> LinkRefused:
    if length == 0:
        return LinkRefused(RefusalReason.FRAME_EMPTY, "frame of 0 bytes")
    return LinkRefused(RefusalReason.FRAME_TOO_LARGE, f"frame of {length} bytes, limit {frame_bytes_max}")


def tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's words: of a failed verification the reason, else the name of the error."""
    return getattr(error, "verify_message", None) or error.reason or str(error)
