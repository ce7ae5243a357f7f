"""What an emulation is to do, and what it says while it does it."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rubis_adapter.client_emulator.errors import InvalidSettings
from rubis_adapter.client_emulator.transitions import MIX_NAMES
from rubis_adapter.population.data_sets import DATA_SETS

CLIENTS_MAX: Final = 50_000
"""Clients of one process; more of them than one processor core can serve."""
DEFAULT_TIMEOUT_S: Final = 30.0


class Phase(StrEnum):
    """The parts of an emulation; only the runtime session is measured."""

    UP_RAMP = "up-ramp"
    RUNTIME_SESSION = "runtime session"
    DOWN_RAMP = "down-ramp"
    FINISHING = "finishing"
    """No new requests; the last replies are awaited."""


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """One emulation.

    Attributes:
        addresses: Web servers as (host, port); client `i` starts with address `i` modulo their number, keeps its
            connection, and goes to the next address when a request fails or nobody answers at its own.
        clients: Emulated users at a time.
        mix: Name of a transition table.
        users: Users in the site's data set; a session's user is one of 1 to `users`.
        think_time_scale: Factor on think times; 1 is the benchmark's, 0 leaves no pause.
        up_ramp_s: Seconds over which the clients start, evenly spread.
        session_s: Seconds of the runtime session.
        down_ramp_s: Seconds over which the clients stop.
        seed: Every draw of a client depends on it, on the client's number and on the pages it gets.  Nicknames of new
            users do too: a second run against the same database needs another seed, or registrations fail.
        timeout_s: Seconds from sending a request (with connecting, if need be) to its whole reply.
        loads_images: Whether clients also fetch the images that a page names.
    """

    addresses: tuple[tuple[str, int], ...]
    clients: int
    mix: str = "bidding"
    users: int = DATA_SETS["tiny"].users
    think_time_scale: float = 1.0
    up_ramp_s: float = 60.0
    session_s: float = 240.0
    down_ramp_s: float = 60.0
    seed: int = 1
    timeout_s: float = DEFAULT_TIMEOUT_S
    loads_images: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            InvalidSettings: The first value that is out of its range.
        """
        if not self.addresses or any(not host or not 0 < port < 65536 for host, port in self.addresses):
            raise InvalidSettings(f"addresses {self.addresses!r}: at least one host with a port from 1 to 65535")
        if not 1 <= self.clients <= CLIENTS_MAX:
            raise InvalidSettings(f"{self.clients} clients: from 1 to {CLIENTS_MAX}")
        if self.users < 1:
            raise InvalidSettings(f"{self.users} users: the site needs at least one")
        if self.mix not in MIX_NAMES:
            raise InvalidSettings(f"mix {self.mix!r}: one of {', '.join(MIX_NAMES)}")
        for name in ("think_time_scale", "up_ramp_s", "down_ramp_s"):
            _require(name, getattr(self, name), above_zero=False)
        for name in ("session_s", "timeout_s"):
            _require(name, getattr(self, name), above_zero=True)


def _require(name: str, value: float, *, above_zero: bool) -> None:
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise InvalidSettings(f"{name} {value}: a finite number {'above' if above_zero else 'of at least'} 0")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an emulation is; told once a second.

    Attributes:
        phase: The present phase.
        elapsed_s: Seconds since the start.
        total_s: Seconds that all phases take, without the last replies.
        running_clients: Clients that have started and not yet stopped.
        requests: Requests answered or failed so far, in all phases.
        failed_requests: Those of them that failed.
        requests_per_s: Requests answered or failed per second since the progress before.
    """

    phase: Phase
    elapsed_s: float
    total_s: float
    running_clients: int
    requests: int
    failed_requests: int
    requests_per_s: float
