"""Whether this server takes requests now: everything that waits has a bound, and at the bound clients are told.

Source: design "Operator's view" ("the request was surely not executed"), "Fault model and promises", 3.
"""

from dataclasses import dataclass

from replica_manager.core_output import CoreOutput
from replica_manager.execution.request_log import RequestLog
from replica_manager.intake.admission import Admission
from replica_manager.intake.port import Outcome, ReplySink, Submission
from replica_manager.updates.update_buffer import UpdateBuffer


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Bounds of what may wait."""

    open_requests_max: int
    """Delivered and not stable."""
    waiting_bytes_max: int
    """Bytes of requests that clients of this server wait for."""
    buffer_entries_max: int
    """Updates that a local domain has not been handed."""
    buffer_bytes_max: int


class IntakeGate:
    """Between the listeners and the agreement stage."""

    def __init__(
        self, settings: GateSettings, admission: Admission, requests: RequestLog, buffer: UpdateBuffer
    ) -> None:
        """Let requests in while the bounds hold."""
        self._settings = settings
        self._admission = admission
        self._requests = requests
        self._buffer = buffer
        self._deferred: list[bytes] = []

    def open_client(self, sink: ReplySink, token: int, random: bytes, output: CoreOutput) -> None:
        """Order a new client id; `random` are 16 random bytes."""
        if self.is_full:
            self._admission.refuse_opening(output, sink, token)
        else:
            output.proposals.append(self._admission.open(sink, token, random))

    def submit(self, sink: ReplySink, submission: Submission, now_us: int, random: bytes, output: CoreOutput) -> None:
        """Order a request; `now_us` is the wall clock, `random` 16 random bytes."""
        if self._admission.maybe_join(sink, submission):
            return
        outcome = Outcome.UNAVAILABLE if self.is_full else self._admission.judge(submission)
        if outcome is not Outcome.ANSWERED:
            self._admission.refuse(output, sink, submission, outcome)
            return
        output.proposals.append(self._admission.admit(output, sink, submission, now_us, random))

    def on_refused(self, payload: bytes, output: CoreOutput) -> None:
        """Agreement's queue was full: the entry was surely not ordered.

        The manager's own entries are tried again, and before them no request of a client is taken: otherwise an
        overload would keep out the very entries that end it.
        """
        if not self._admission.withdraw(output, payload):
            self._deferred.append(payload)

    def retry(self, output: CoreOutput) -> None:
        """Try again what agreement refused."""
        if self._deferred:
            output.proposals.extend(self._deferred)
            self._deferred.clear()

    @property
    def is_full(self) -> bool:
        """Whether a bound is reached."""
        settings, buffer = self._settings, self._buffer
        open_count = self._requests.last - buffer.prefix
        return (
            bool(self._deferred)
            or open_count + self._admission.waiting_count >= 2 * settings.open_requests_max
            or open_count >= settings.open_requests_max
            or self._admission.waiting_bytes >= settings.waiting_bytes_max
            or buffer.entry_count >= settings.buffer_entries_max
            or buffer.byte_count >= settings.buffer_bytes_max
        )
