"""Requests on their way through agreement, and the connections that wait for them.

Source: design "Client table"; SPARE §4.3.1.
"""

from collections import deque

from replica_manager.cell.effects import RequestRepeated
from replica_manager.cell.entries import OpenClient, Request, decode_entry, encode_entry
from replica_manager.core_output import ClientOpening, ClientReply, CoreOutput
from replica_manager.execution.request_log import RequestRecord
from replica_manager.identifiers import CLIENT_ID_BYTES, ClientId
from replica_manager.intake.port import Outcome, ReplySink, Submission
from replica_manager.intake.reply_cache import ReplyCache, Waiting

NUMBER_MAX = 2**63 - 1
SKIPPED_KEPT = 1_000
"""Skipped requests that a late repetition is still told of; each was an operator's decision."""


class Admission:
    """Who waits for what on this server."""

    def __init__(self, entries_max: int, request_bytes_max: int) -> None:
        """Wait for nothing yet."""
        self.replies = ReplyCache(entries_max)
        self._request_bytes_max = request_bytes_max
        self._waiting: dict[ClientId, Waiting] = {}
        self._opening: dict[int, tuple[ReplySink, int]] = {}
        self._next_token = 1
        self.replies_from = 0
        """Numbers below were decided before this server joined the cell: their replies are at others."""
        self._skipped: deque[int] = deque(maxlen=SKIPPED_KEPT)
        self.waiting_bytes = 0
        """Bytes of the requests that are not decided yet."""
        self.answered = 0

    @property
    def waiting_count(self) -> int:
        """Requests and openings not decided yet."""
        return len(self._waiting) + len(self._opening)

    # -- in ----------------------------------------------------------------------------------------------------

    def open(self, sink: ReplySink, token: int, random: bytes) -> bytes:
        """Return the entry that issues a client id."""
        own_token = self._next_token
        self._next_token += 1
        self._opening[own_token] = (sink, token)
        return encode_entry(OpenClient(random, own_token))

    def judge(self, submission: Submission) -> Outcome:
        """Return `ANSWERED` if the submission may be ordered, else why not."""
        if len(submission.payload) > self._request_bytes_max:
            return Outcome.TOO_LARGE
        if len(submission.client) != CLIENT_ID_BYTES:
            return Outcome.UNKNOWN_CLIENT
        if not 0 < submission.number <= NUMBER_MAX:
            return Outcome.SUPERSEDED
        waiting = self._waiting.get(submission.client)
        if waiting is not None and submission.number <= waiting.number:
            # A later number is under way, or another payload under this one: the order would refuse it too.
            return Outcome.SUPERSEDED
        return Outcome.ANSWERED

    def maybe_join(self, sink: ReplySink, submission: Submission) -> bool:
        """Have the reply of the very same request, if it is under way here, go to `sink` instead; nothing is ordered.

        Even if the cell is full: the first one may be executed, so the second must not be told that it was not.
        """
        waiting = self._waiting.get(submission.client)
        if waiting is None or (waiting.number, waiting.payload) != (submission.number, submission.payload):
            return False
        self._waiting[submission.client] = waiting._replace(sink=sink)
        return True

    def admit(self, output: CoreOutput, sink: ReplySink, submission: Submission, now_us: int, random: bytes) -> bytes:
        """Return the entry that orders the submission; the reply will go to `sink`.

        One request is open per client: whoever waits for an earlier number of it hears that a later one came.
        """
        former = self._waiting.get(submission.client)
        if former is not None:
            self.on_decided(output, submission.client, former.number, Outcome.SUPERSEDED)
        self.waiting_bytes += len(submission.payload)
        self._waiting[submission.client] = Waiting(sink, submission.number, submission.payload)
        return encode_entry(Request(submission.client, submission.number, now_us, random, submission.payload))

    def refuse(self, output: CoreOutput, sink: ReplySink, submission: Submission, outcome: Outcome) -> None:
        """Answer a submission that is not ordered."""
        output.replies.append(ClientReply(sink, submission.client, submission.number, outcome, b""))

    def refuse_opening(self, output: CoreOutput, sink: ReplySink, token: int) -> None:
        """Answer an opening that is not ordered."""
        output.openings.append(ClientOpening(sink, token, None))

    def withdraw(self, output: CoreOutput, payload: bytes) -> bool:
        """Agreement did not take the entry: answer the client; return False if it is no client's entry."""
        match decode_entry(payload):
            case Request(client=client, number=number):
                self.on_decided(output, ClientId(client), number, Outcome.UNAVAILABLE)
            case OpenClient(token=token) if token in self._opening:
                sink, asked = self._opening.pop(token)
                self.refuse_opening(output, sink, asked)
            case _:
                return False
        return True

    # -- out ---------------------------------------------------------------------------------------------------

    def on_issued(self, output: CoreOutput, client: ClientId, token: int) -> None:
        """An opening of this server was delivered."""
        opening = self._opening.pop(token, None)
        if opening is not None:
            output.openings.append(ClientOpening(opening[0], opening[1], client))

    def on_stable(self, output: CoreOutput, record: RequestRecord, reply: bytes) -> None:
        """A request is stable and its reply is here; whichever server it came in at, it may have come in here too."""
        self.replies.keep(record.client, record.sequence, reply)
        waiting = self._waiting.get(record.client)
        if waiting is not None and waiting.payload == record.payload:
            self.on_decided(output, record.client, record.number, Outcome.ANSWERED, reply)

    def on_skipped(self, output: CoreOutput, record: RequestRecord) -> None:
        """An operator skipped a request: it was surely not executed, which a later repetition is told too."""
        self._skipped.append(record.sequence)
        self.on_decided(output, record.client, record.number, Outcome.SKIPPED)

    def on_decided(
        self, output: CoreOutput, client: ClientId, number: int, outcome: Outcome, reply: bytes = b""
    ) -> None:
        """Answer whoever waits for this request here."""
        waiting = self._waiting.get(client)
        if waiting is not None and waiting.number == number:
            del self._waiting[client]
            self.waiting_bytes -= len(waiting.payload)
            self.answered += 1
            output.replies.append(ClientReply(waiting.sink, client, number, outcome, reply))

    def on_repeated(
        self, output: CoreOutput, effect: RequestRepeated, first: RequestRecord | None, *, has_others: bool
    ) -> None:
        """A repetition of this server was delivered: answer it now, or when the first one becomes stable.

        A server that joined the cell after the first one has no reply to it, but others have (`has_others`).
        """
        if effect.first_sequence in self._skipped:
            self.on_decided(output, effect.client, effect.number, Outcome.SKIPPED)
            return
        reply = self.replies.find(effect.client, effect.first_sequence)
        if reply is None and first is not None and first.stable_digest in first.values:
            reply = first.values[first.stable_digest][0]
        if reply is not None:
            self.on_decided(output, effect.client, effect.number, Outcome.ANSWERED, reply)
        elif first is None or first.is_complete or first.is_settled:
            is_elsewhere = has_others and effect.first_sequence < self.replies_from
            outcome = Outcome.UNAVAILABLE if is_elsewhere else Outcome.REPLY_LOST
            self.on_decided(output, effect.client, effect.number, outcome)
