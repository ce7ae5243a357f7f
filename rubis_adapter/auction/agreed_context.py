"""Time, randomness and sequence number of a request: the same in every replica, because they come with the request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

SEQUENCE_HEADER: Final = "X-Spare-Sequence"
TIMESTAMP_HEADER: Final = "X-Spare-Timestamp-Us"
SEED_HEADER: Final = "X-Spare-Seed"
UPDATE_HEADER: Final = "X-Spare-Update"
"""Of a reply: `OUTCOME_UPDATE` if an update follows on the update manager's connection, `OUTCOME_UNCHANGED` if none
does, `OUTCOME_FAILED` if the application cannot go on.  Missing: the web server answered by itself."""

OUTCOME_UPDATE: Final = "1"
OUTCOME_UNCHANGED: Final = "0"
OUTCOME_FAILED: Final = "failed"

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the databases hold UTC without a zone
TIMESTAMP_US_MAX: Final = (datetime(9000, 1, 1) - _EPOCH) // timedelta(microseconds=1)  # noqa: DTZ001
"""Leaves room for auctions that end later, in databases that know years up to 9999."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_SEED: Final = re.compile(r"[0-9a-f]{64}")


class MissingContext(Exception):
    """Raised when a request comes without a usable agreed context: it did not come from the adapter."""


@dataclass(frozen=True)
class AgreedContext:
    """What a page may know besides the request itself."""

    sequence: int
    """Position of the request in the agreed order."""
    now: datetime
    """Agreed time, UTC without zone, whole seconds (cut off, not rounded)."""
    seed: bytes
    """32 bytes, the only randomness."""

    @property
    def reference(self) -> str:
        """A receipt number that nobody can guess beforehand, for the confirmation of an action."""
        digits = self.seed[:6].hex().upper()
        return f"{digits[:4]}-{digits[4:8]}-{digits[8:]}"


def read_context(headers: Mapping[str, str]) -> AgreedContext:
    """The agreed context of a request.

    Raises:
      MissingContext: a header is missing or not what the adapter writes.
    """
    sequence, timestamp_us = headers.get(SEQUENCE_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
    seed = headers.get(SEED_HEADER, "")
    if not _NUMBER.fullmatch(sequence) or not _NUMBER.fullmatch(timestamp_us) or not _SEED.fullmatch(seed):
        raise MissingContext("the request has no agreed context")
    if int(timestamp_us) > TIMESTAMP_US_MAX:
        raise MissingContext("the agreed time is later than the databases can hold")
    now = _EPOCH + timedelta(seconds=int(timestamp_us) // 1_000_000)
    return AgreedContext(int(sequence), now, bytes.fromhex(seed))
