"""A server that goes on from a snapshot does exactly what the others do; time and seeds are the cell's.

Source: design section 6; `S6` and `M9` of its list of traps.
"""

from typing import Any

from agreement.messages import Entry
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.effects import RequestAccepted
from replica_manager.cell.entries import OpenClient, Request, decode_entry, encode_entry
from replica_manager.identifiers import ClientId
from replica_manager.server_settings import lower_timestamp

YEAR_US = 365 * 86_400 * 1_000_000
SKEW_US = 1_000_000


def open_client(state: CellState) -> ClientId:
    sequence = state.sequence + 1
    state.apply(sequence, Entry(0, 1, sequence, encode_entry(OpenClient(bytes(16), 1))))
    return ClientId(sequence.to_bytes(8) + bytes(16))


def request(state: CellState, client: ClientId, number: int, clock_us: int, random: bytes = bytes(16)) -> Any:
    sequence = state.sequence + 1
    entry = encode_entry(Request(client, number, clock_us, random, b"p"))
    (effect,) = state.apply(sequence, Entry(0, 1, sequence, entry))
    assert isinstance(effect, RequestAccepted)
    return effect


class WithoutTimestamp(CellState):
    """Planted: `S6` taken out: the snapshot lacks the last timestamp."""

    def encode(self) -> bytes:
        kept, self.last_timestamp_us = self.last_timestamp_us, 0
        encoded = super().encode()
        self.last_timestamp_us = kept
        return encoded


def timestamps_after_a_rejoin(state: CellState) -> tuple[int, int]:
    """1. Server 0 rejoins from a snapshot.  2. A request of a slow intake clock arrives at both."""
    client = open_client(state)
    request(state, client, 1, 5_000)
    rejoined = CellState.decode(state.encode())
    return request(state, client, 2, 3_000).timestamp_us, request(rejoined, client, 2, 3_000).timestamp_us


def test_s6_a_rejoined_server_adjusts_a_slow_clock_as_the_others_do() -> None:
    """Otherwise its domain, correct, shows another date and is convicted, again after every repair."""
    assert timestamps_after_a_rejoin(CellState(1, 10)) == (5_001, 5_001)


def test_s6_planted_a_snapshot_without_the_last_timestamp_makes_them_differ() -> None:
    """The scenario above finds it."""
    assert timestamps_after_a_rejoin(WithoutTimestamp(1, 10)) == (5_001, 3_000)


def seconds_until_time_runs_again(lower: Any) -> float:
    """M9: an intake clock is a year ahead for one request; the next ones have the true time."""
    state = CellState(1, 10)
    client = open_client(state)
    now_us = 1_000_000_000
    fast = Request(client, 1, now_us + YEAR_US, bytes(16), b"p")
    lowered = decode_entry(lower(encode_entry(fast), now_us, SKEW_US))
    assert isinstance(lowered, Request)
    stamped = request(state, client, 1, lowered.timestamp_us).timestamp_us
    return float(stamped - now_us) / 1e6


def test_m9_one_clock_a_year_ahead_does_not_freeze_time_for_a_year() -> None:
    """The leader lowers what is too far ahead of its own clock."""
    assert seconds_until_time_runs_again(lower_timestamp) <= 1


def test_m9_planted_a_leader_that_trusts_every_clock_freezes_time() -> None:
    """The scenario above finds it."""
    assert seconds_until_time_runs_again(lambda payload, _now_us, _skew_us: payload) > 10_000_000


def test_m9_a_clock_within_the_skew_is_left_alone() -> None:
    """Entries are not rewritten for nothing."""
    payload = encode_entry(Request(bytes(24), 1, 1_500_000, bytes(16), b"p"))
    assert lower_timestamp(payload, 1_000_000, SKEW_US) is payload


def test_m9_a_seed_cannot_be_told_from_what_a_client_knows() -> None:
    """Two cells with the same entries at the same positions, but for the intake server's random bytes."""
    seeds = []
    for random in (b"a" * 16, b"b" * 16):
        state = CellState(1, 10)
        client = open_client(state)
        seeds.append(request(state, client, 1, 1, random).seed)
    assert seeds[0] != seeds[1]
    assert len(seeds[0]) == 32


def test_m9_two_requests_with_the_same_random_bytes_have_different_seeds() -> None:
    """The position is in it too."""
    state = CellState(1, 10)
    client = open_client(state)
    assert request(state, client, 1, 1).seed != request(state, client, 2, 1).seed
