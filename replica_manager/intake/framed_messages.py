"""The framed client protocol: a 4-byte big-endian length, then one msgpack array, tag first.

A connection may carry many clients.  Each client numbers its requests from 1 and has one open at a time; a request
that is repeated with the same number and payload, also to another server, is answered and not executed again.
"""

import msgspec

LENGTH_BYTES = 4
HEADER_BYTES_MAX = 256
"""Room for the fields around a payload."""


class _FramedMessage(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Common shape: a tagged msgpack array."""


class OpenClient(_FramedMessage, frozen=True, tag=1):
    """Client → server: issue a client id."""

    token: int
    """Returned in `ClientOpened`."""


class Request(_FramedMessage, frozen=True, tag=2):
    """Client → server: execute this, or answer it if it was executed already."""

    client: bytes
    number: int
    payload: bytes


class ClientOpened(_FramedMessage, frozen=True, tag=3):
    """Server → client: the id; empty if the cell cannot issue one now."""

    token: int
    client: bytes


class Reply(_FramedMessage, frozen=True, tag=4):
    """Server → client: what became of a request."""

    client: bytes
    number: int
    outcome: int
    """`intake.port.Outcome`."""
    payload: bytes


ToServer = OpenClient | Request
ToClient = ClientOpened | Reply

_encoder = msgspec.msgpack.Encoder()
_to_server: msgspec.msgpack.Decoder[ToServer] = msgspec.msgpack.Decoder(ToServer)
_to_client: msgspec.msgpack.Decoder[ToClient] = msgspec.msgpack.Decoder(ToClient)


class FramedError(Exception):
    """Raised when bytes are no frame of this protocol: the other side's fault; the connection ends."""

    bodies: tuple[bytes, ...] = ()
    """Complete frames before the offending bytes that no earlier call has returned."""


def encode(message: ToServer | ToClient) -> bytes:
    """Return the frame of `message`, length included."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


class FrameSplitter:
    """Cuts a byte stream into the bodies of length-prefixed frames."""

    def __init__(self, frame_bytes_max: int) -> None:
        """Accept frames of at most `frame_bytes_max` bytes."""
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of the frame that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the bodies that are complete.

        Raises:
            FramedError: a frame over the limit, behind its `bodies`.
        """
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        position, end = 0, len(buffer)
        while end - position >= LENGTH_BYTES:
            size = int.from_bytes(buffer[position : position + LENGTH_BYTES])
            if size > self._frame_bytes_max:
                error = FramedError(f"a frame of {size} bytes, at most {self._frame_bytes_max} are allowed")
                error.bodies = tuple(bodies)
                raise error
            stop = position + LENGTH_BYTES + size
            if stop > end:
                break
            bodies.append(bytes(buffer[position + LENGTH_BYTES : stop]))
            position = stop
        del buffer[:position]
        return bodies


def decode_to_server(body: bytes) -> ToServer:
    """Return the client's message.

    Raises:
        FramedError: not a message of this protocol.
    """
    try:
        return _to_server.decode(body)
    except msgspec.DecodeError as error:
        raise FramedError(str(error)) from error


def decode_to_client(body: bytes) -> ToClient:
    """Return the server's message.

    Raises:
        FramedError: not a message of this protocol.
    """
    try:
        return _to_client.decode(body)
    except msgspec.DecodeError as error:
        raise FramedError(str(error)) from error
