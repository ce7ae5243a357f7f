"""Framed requests to a service that speaks HTTP: each payload must be what the HTTP listener would have ordered.  Pure.

Every replica must see the same message boundaries.  Without this check a framed client could order bytes that the
strict HTTP framing refuses, and have a domain's web server read two requests where the cell ordered one.
"""

from replica_manager.intake.http_framing import HttpFramer, HttpRejected
from replica_manager.intake.port import IntakePort, Outcome, ReplySink, Submission


class HttpPayloads:
    """Lets exactly one HTTP request per submission through; an `IntakePort` before another one."""

    def __init__(self, port: IntakePort, request_bytes_max: int) -> None:
        """Stand before `port`, which refuses requests of more than `request_bytes_max` bytes itself."""
        self._port = port
        self._request_bytes_max = request_bytes_max

    def open_client(self, sink: ReplySink, token: int) -> None:
        """See `IntakePort.open_client`."""
        self._port.open_client(sink, token)

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """See `IntakePort.submit`; a payload that is no HTTP request is refused here, and the connection stays."""
        is_readable = len(submission.payload) <= self._request_bytes_max
        if is_readable and not is_one_request(submission.payload, self._request_bytes_max):
            sink.replied(submission.client, submission.number, Outcome.MALFORMED, b"")
        else:
            self._port.submit(sink, submission)

    def forget(self, sink: ReplySink) -> None:
        """See `IntakePort.forget`."""
        self._port.forget(sink)


def is_one_request(payload: bytes, request_bytes_max: int) -> bool:
    """Return whether `payload` is one HTTP request from its first to its last byte."""
    try:
        requests = HttpFramer(request_bytes_max).feed(payload)
    except HttpRejected:
        return False
    return [request.raw for request in requests] == [payload]
