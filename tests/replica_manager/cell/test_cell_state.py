"""The replicated cell state is a function of the agreed order, and all of it travels in a snapshot.

Source: design "The replicated cell state"; `S6` of its list of traps.
"""

import functools
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.messages import Change, Entry, ServerJoined, ServerLeft
from replica_manager.cell.cell_state import CellState
from replica_manager.cell.domain_table import DomainTable
from replica_manager.cell.effects import RequestAccepted
from replica_manager.cell.entries import (
    CellEntry,
    Consent,
    Convicted,
    Demote,
    DomainReady,
    NextBooted,
    Offer,
    OpenClient,
    PointClosed,
    Progress,
    Promote,
    RecoveryAborted,
    RecoveryBegun,
    RecoveryPoint,
    RepairPoint,
    Request,
    Resolve,
    RestartBegun,
    Restarted,
    Stalled,
    Stopped,
    Suspected,
    Switch,
    encode_entry,
)
from replica_manager.cell.poison import Poison, Skipping
from replica_manager.cell.recoveries import Recoveries, Recovery, Renewal
from replica_manager.cell.restarting import Restarting
from replica_manager.cell.roles import Role
from replica_manager.cell.rounds import Round, Rounds
from replica_manager.cell.state_points import StatePoint
from replica_manager.identifiers import ClientId, DomainId

CLIENTS_MAX = 4
DOMAINS = ["s0.g1", "s0.g2", "s1.g1", "s1.g2", "s2.g1", "s2.g2", "s0.g3", "s1.g3"]

small = st.integers(0, 5)
seen = st.integers(0, 50)
numbers = st.integers(1, 30)
domains = st.sampled_from(DOMAINS)
clients = st.integers(1, 40)
"""Positions; what was opened there is a client, else it is a stranger."""

entries: st.SearchStrategy[CellEntry] = st.one_of(
    st.builds(OpenClient, st.just(bytes(16)), small),
    st.builds(
        lambda client, number, clock, payload: Request(
            client.to_bytes(8) + bytes(16), number, clock, bytes(16), payload
        ),
        clients,
        st.integers(1, 4),
        st.integers(1, 1000),
        st.sampled_from([b"a", b"b"]),
    ),
    st.builds(Stopped, domains, st.just("killed"), small, small),
    st.builds(Offer, domains, st.integers(1, 4), small),
    st.builds(Stalled, numbers, seen, st.lists(domains, max_size=3), st.integers(0, 3)),
    st.builds(Convicted, domains, numbers, st.just("differs"), seen),
    st.builds(Suspected, domains, st.just("late"), seen),
    st.builds(Promote, domains, seen),
    st.builds(Demote, domains, seen),
    st.builds(RepairPoint, st.lists(domains, min_size=1, max_size=2), small, seen),
    st.builds(DomainReady, domains, numbers, seen),
    st.builds(Resolve, numbers, st.sampled_from(["skip", "retry"]), small),
    st.builds(RestartBegun, small),
    st.builds(Restarted, domains, numbers, small, small),
    st.builds(Consent, numbers, st.booleans(), st.booleans()),
    st.builds(Progress, small, st.integers(0, 50), st.integers(0, 50), st.just(0), st.just(b"")),
    st.builds(RecoveryPoint, st.just("checkpoint"), small, small),
    st.builds(RecoveryPoint, st.just("recovery"), small, st.integers(1, 2)),
    st.builds(RecoveryBegun, st.sampled_from(["lightweight", "resilient"]), st.integers(1, 3), small),
    st.builds(NextBooted, st.sampled_from(["s0.g3", "s1.g3", "s2.g3", "s0.g4"]), st.integers(1, 2)),
    st.builds(Switch, st.sampled_from(["s0.g3", "s1.g3", "s2.g3"]), seen),
    st.builds(RecoveryAborted, st.integers(1, 2), st.just("nothing moved")),
    st.builds(PointClosed, st.integers(1, 50), st.just([("s0.g1", bytes(32))])),
)
changes: st.SearchStrategy[Change] = st.builds(ServerLeft, st.sampled_from([1, 2]), st.booleans())
orders = st.lists(st.one_of(entries, entries, entries, changes), max_size=50)


def agreed(order: list[CellEntry | Change]) -> Iterator[Entry | Change]:
    """What agreement delivers: a server leaves once."""
    left = set()
    for number, entry in enumerate(order, 1):
        if not isinstance(entry, Change):
            yield Entry(0, 1, number, encode_entry(entry))
        elif isinstance(entry, ServerLeft) and entry.server not in left:
            left.add(entry.server)
            yield entry


@given(orders, st.integers(0, 50), st.integers(0, 1))
def test_a_server_that_goes_on_from_a_snapshot_does_what_the_others_do(
    order: list[CellEntry | Change], cut: int, clock_start_us: int
) -> None:
    """S6: all that `apply` reads is in `encode`: effects and digests are equal ever after."""
    state = CellState(2, CLIENTS_MAX, clock_start_us * 1_000_000)
    restored: CellState | None = None
    for sequence, entry in enumerate(agreed(order), 1):
        if sequence > cut and restored is None:
            restored = CellState.decode(state.encode())
        effects = state.apply(sequence, entry)
        if restored is not None:
            assert restored.apply(sequence, entry) == effects
            assert restored.digest() == state.digest()
    if restored is not None:
        assert restored.encode() == state.encode()


DERIVED = {"f_prime", "threshold", "chain", "clients"}
"""Recomputed from others, or covered by tests of their own."""


def attributes(owner: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every attribute, also of the parts that the state consists of."""
    for name, value in vars(owner).items():
        if not path and name in DERIVED:
            continue
        if isinstance(value, DomainTable | Rounds | Poison | Recoveries):
            yield from attributes(value, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(attributes(CellState(1, 10))), ids=".".join)
def test_every_attribute_of_the_state_is_in_a_snapshot(path: tuple[str, ...]) -> None:
    """S6: an attribute added later and forgotten in `encode` is found here: it is set to something else, and must
    change the bytes (what follows from others is recomputed), and come out of `decode`."""
    state, plain = CellState(1, 10), CellState(1, 10)
    *parents, name = path
    owner = functools.reduce(getattr, parents, cast(Any, state))
    setattr(owner, name, _another(owner, name))
    assert state.encode() != plain.encode(), "not in the snapshot"
    assert state.digest() != plain.digest(), "not in the digest"
    assert CellState.decode(state.encode()).encode() == state.encode(), "not restored"


def _another(owner: Any, name: str) -> Any:
    value = getattr(owner, name)
    recovery = Recovery(2, "resilient", 7, 5, 9, [Renewal(0, "s0.g3", 1, True, "s0.g1", "s0.g2", 8)], [1], [(2, "x")])
    special = {
        "current": recovery if isinstance(owner, Recoveries) else Round(1, 2, 3, 4, 1),
        "state_point": StatePoint(7, "repair", (DomainId("s0.g2"),), 5, (DomainId("s0.g3"),), 0, 1),
        "restarting": Restarting(4, [DomainId("s0.g1")]),
        "_skipping": {3: Skipping(9, {0: True})},
    }
    if name in special:
        return special[name]
    if isinstance(value, dict):
        return dict(list(value.items())[:-1]) if value else {3: 4}
    return {77} if isinstance(value, set) else 77


def open_client(state: CellState) -> ClientId:
    sequence = state.sequence + 1
    state.apply(sequence, Entry(0, 1, sequence, encode_entry(OpenClient(bytes(16), 1))))
    return ClientId(sequence.to_bytes(8) + bytes(16))


def request(state: CellState, client: ClientId, number: int, timestamp_us: int, payload: bytes = b"p") -> Any:
    sequence = state.sequence + 1
    entry = Request(client, number, timestamp_us, bytes(16), payload)
    return state.apply(sequence, Entry(0, 1, sequence, encode_entry(entry)))[0]


def test_the_digest_covers_every_client_row_that_an_entry_touched() -> None:
    """Two servers that judged one request differently have different digests, though other rows are newer."""
    digests = set()
    for payload in (b"one", b"other"):
        state = CellState(1, 10)
        first, second = open_client(state), open_client(state)
        request(state, first, 1, 100, payload)
        request(state, second, 1, 200)
        digests.add(state.digest())
    assert len(digests) == 2


def test_a_difference_in_configuration_is_a_difference_of_digests() -> None:
    """Another bound of the client table evicts other clients."""
    assert CellState(1, 10).digest() != CellState(1, 11).digest()
    assert CellState(1, 10, 5).digest() != CellState(1, 10).digest()


def test_timestamps_only_rise_and_the_first_request_alone_sets_the_clock() -> None:
    """A service clock that starts elsewhere runs on, also when it starts at the very time of the first request."""
    state = CellState(1, 10, clock_start_us=1_000)
    client = open_client(state)
    stamps = [request(state, client, number, clock) for number, clock in enumerate([1_000, 1_500, 1_200], 1)]
    assert all(isinstance(stamp, RequestAccepted) for stamp in stamps)
    assert [stamp.timestamp_us for stamp in stamps] == [1_000, 1_500, 1_501]


def test_a_name_of_a_domain_is_never_given_again() -> None:
    """Generation numbers come from the cell state: votes of a former domain may still be on their way."""
    state = CellState(1, 10)
    state.apply(1, ServerLeft(0, True))
    payload = msgspec.msgpack.encode(("s0.g3", "s0.g4"))
    state.apply(2, ServerJoined(0, 9, payload))
    assert state.next_generation[0] == 5
    assert state.domains[DomainId("s0.g3")].role is Role.ACTIVE
    assert CellState.decode(state.encode()).next_generation[0] == 5


def test_an_evicted_client_is_unknown_and_never_executed_again() -> None:
    """L7 (b): eviction by last use in sequence numbers, agreed on by all."""
    state = CellState(1, CLIENTS_MAX)
    first = open_client(state)
    assert isinstance(request(state, first, 1, 100), RequestAccepted)
    for _ in range(CLIENTS_MAX):
        open_client(state)
    effect = request(state, first, 1, 100)
    assert type(effect).__name__ == "RequestRefused"
    assert effect.outcome.name == "UNKNOWN_CLIENT"


@pytest.mark.parametrize("count", [1, 2])
def test_a_client_in_use_is_not_evicted_by_newcomers(count: int) -> None:
    """A repetition is a use too."""
    state = CellState(1, CLIENTS_MAX)
    first = open_client(state)
    request(state, first, 1, 100)
    for _ in range(3 * CLIENTS_MAX):
        open_client(state)
        for _ in range(count):
            assert type(request(state, first, 1, 100)).__name__ == "RequestRepeated"
