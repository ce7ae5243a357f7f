"""A fresh domain gets exactly the voted parts, in order and no faster than it takes them in.

Source: design "Lightweight", step 3; "Wrapper protocol"; `L11` of its list of traps.
"""

from hypothesis import given
from hypothesis import strategies as st

from exec_wrapper.wire import Ping, SetPart, SetState, ToWrapper
from replica_manager.identifiers import DomainId
from replica_manager.recovery.filling import PARTS_IN_FLIGHT, Filling
from replica_manager.recovery.state_digests import part_digest

POINT = 9
FRESH, NEAR, FAR, FARTHER = (DomainId(name) for name in ("s0.g3", "s0.g1", "s1.g2", "s2.g2"))


def parts_of(count: int) -> list[bytes]:
    return [b"part %d" % index for index in range(count)]


def filling_of(parts: list[bytes], *givers: DomainId) -> Filling:
    digests = [part_digest(POINT, i, i == len(parts) - 1, data) for i, data in enumerate(parts)]
    filling = Filling(FRESH, POINT, 1, digests, lambda _index: givers or (NEAR,))
    filling.is_whole = True
    return filling


def indexes(wanted: list[tuple[int, DomainId]]) -> list[int]:
    return [index for index, _ in wanted]


def set_parts(frames: list[ToWrapper]) -> list[int]:
    return [frame.index for frame in frames if isinstance(frame, SetPart)]


def test_the_domain_is_told_which_state_comes_before_its_first_part() -> None:
    """Once."""
    filling = filling_of(parts_of(1))
    assert filling.frames() == [SetState(POINT, 1)]
    assert filling.frames() == []


def test_behind_each_part_but_the_last_goes_a_ping() -> None:
    """Its answer says that the service has consumed the part; the last one is answered by `StateSet`."""
    parts = parts_of(2)
    filling = filling_of(parts)
    filling.wanted()
    for index, data in enumerate(parts):
        assert filling.take(index, data)
    assert filling.frames() == [SetState(POINT, 1), SetPart(0, False, parts[0]), Ping(0), SetPart(1, True, parts[1])]
    assert filling.on_pong(0)
    assert filling.on_set(POINT)
    assert filling.is_set


def test_parts_that_come_out_of_order_are_handed_on_in_order() -> None:
    """They may come over different connections."""
    parts = parts_of(3)
    filling = filling_of(parts)
    filling.wanted()
    filling.frames()
    for index in (2, 1):
        filling.take(index, parts[index])
        assert filling.frames() == []
    filling.take(0, parts[0])
    assert set_parts(filling.frames()) == [0, 1, 2]


def test_a_part_with_another_digest_is_not_taken_and_can_come_again() -> None:
    """The disk that kept it is to blame, or who sent it."""
    parts = parts_of(2)
    filling = filling_of(parts)
    filling.wanted()
    filling.frames()
    assert not filling.take(0, b"hostile")
    assert not filling.take(0, parts[1]), "a right part at the wrong place"
    assert not filling.take(0, b"")
    assert filling.frames() == []
    assert filling.take(0, parts[0])
    assert set_parts(filling.frames()) == [0]


@given(st.integers(-5, 20), st.binary(max_size=20))
def test_a_part_that_was_not_asked_for_changes_nothing(index: int, data: bytes) -> None:
    """Hostile or late: neither memory nor order."""
    parts = parts_of(12)
    filling = filling_of(parts)
    asked = indexes(filling.wanted())
    filling.frames()
    if index not in asked:
        assert filling.take(index, data)
    assert filling.frames() == []
    assert filling.moved == 0


def test_no_more_parts_are_in_flight_than_allowed_however_large_the_state_is() -> None:
    """Containment: memory of the manager."""
    parts = parts_of(50)
    filling = filling_of(parts)
    asked = indexes(filling.wanted())
    consumed = 0
    while not filling.is_set:
        assert filling.wanted() == []
        assert len(asked) <= PARTS_IN_FLIGHT
        for index in asked:
            filling.take(index, parts[index])
        asked = []
        for index in set_parts(filling.frames()):
            assert index - consumed < PARTS_IN_FLIGHT
            if index == len(parts) - 1:
                assert filling.on_set(POINT)
            else:
                assert filling.on_pong(index)
                consumed += 1
                asked += indexes(filling.wanted())
    assert filling.progress == (49, 50)


def test_answers_out_of_turn_are_refused() -> None:
    """The fresh domain is not trusted either."""
    parts = parts_of(3)
    filling = filling_of(parts)
    filling.wanted()
    assert not filling.on_pong(0), "nothing was handed"
    assert not filling.on_set(POINT), "it cannot hold the state yet"
    filling.take(0, parts[0])
    filling.frames()
    assert not filling.on_pong(1)
    assert filling.on_pong(0)
    assert not filling.on_pong(0)
    for index in (1, 2):
        filling.take(index, parts[index])
    filling.frames()
    assert not filling.on_set(POINT + 1)
    assert filling.on_set(POINT)
    assert not filling.on_set(POINT)


def test_another_giver_is_asked_for_exactly_what_has_not_come() -> None:
    """What is here was checked against the voted digest, whoever gave it."""
    parts = parts_of(8)
    filling = filling_of(parts, NEAR, FAR)
    assert filling.wanted() == [(index, NEAR) for index in range(4)]
    filling.frames()
    filling.take(0, parts[0])
    filling.take(2, parts[2])
    filling.frames()
    assert filling.waits_for_giver
    filling.change_giver()
    assert filling.wanted() == [(1, FAR), (3, FAR)]
    for index in (1, 3):
        filling.take(index, parts[index])
    assert set_parts(filling.frames()) == [1, 2, 3]
    assert not filling.waits_for_giver, "the domain is to consume them now"


def test_givers_are_asked_in_turn_and_there_is_an_end() -> None:
    """Each copy more than once, for a message may be lost; then the state cannot be read."""
    filling = filling_of(parts_of(2), NEAR, FAR, FARTHER)
    seen = []
    while not filling.has_tried_all:
        wanted = filling.wanted()
        assert indexes(wanted) == [0, 1]
        seen.append(wanted[0][1])
        filling.change_giver()
    assert seen[:4] == [NEAR, FAR, FARTHER, NEAR]
    assert all(seen.count(giver) >= 2 for giver in (NEAR, FAR, FARTHER))


def test_parts_that_are_agreed_on_are_handed_on_before_the_end_is_known() -> None:
    """Verification overlaps streaming; the domain cannot say that it holds the state before its end is agreed on."""
    parts = parts_of(3)
    digests = [part_digest(POINT, i, i == 2, data) for i, data in enumerate(parts)]
    agreed: list[bytes] = []
    filling = Filling(FRESH, POINT, 1, agreed, lambda _index: [NEAR])
    assert filling.waits_for_votes
    agreed += digests[:2]
    assert indexes(filling.wanted()) == [0, 1]
    for index in (0, 1):
        assert filling.take(index, parts[index])
    assert set_parts(filling.frames()) == [0, 1]
    assert filling.on_pong(0)
    assert filling.on_pong(1)
    assert filling.waits_for_votes
    assert not filling.on_set(POINT)
    agreed += digests[2:]
    filling.is_whole = True
    assert not filling.waits_for_votes
    assert indexes(filling.wanted()) == [2]
    assert filling.take(2, parts[2])
    assert filling.frames() == [SetPart(2, True, parts[2])]
    assert filling.on_set(POINT)


def test_each_part_is_asked_of_who_gave_it() -> None:
    """A copy that differs in one part serves for the others."""
    parts = parts_of(3)
    digests = [part_digest(POINT, i, i == 2, data) for i, data in enumerate(parts)]
    filling = Filling(FRESH, POINT, 1, digests, lambda index: [FAR] if index == 1 else [NEAR, FAR])
    assert filling.wanted() == [(0, NEAR), (1, FAR), (2, NEAR)]


@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from("pcgx"), st.integers(0, 11)), max_size=60))
def test_whatever_happens_the_domain_is_handed_a_prefix_of_the_voted_state(
    count: int, happenings: list[tuple[str, int]]
) -> None:
    """Parts come twice, late, wrong, of several givers; the domain answers in and out of turn."""
    parts = parts_of(count)
    filling = filling_of(parts, NEAR, FAR)
    handed: list[int] = []
    for kind, number in happenings:
        filling.wanted()
        if kind == "p":
            filling.take(number, parts[number % count])
        elif kind == "c":
            filling.on_pong(number)
        elif kind == "g":
            filling.change_giver()
        else:
            filling.on_set(POINT)
        for frame in filling.frames():
            if isinstance(frame, SetPart):
                assert frame.data == parts[frame.index]
                assert frame.is_last == (frame.index == count - 1)
                handed.append(frame.index)
        consumed, _ = filling.progress
        assert len(handed) - consumed <= PARTS_IN_FLIGHT
        assert filling.is_set <= (len(handed) == count)
    assert handed == list(range(len(handed)))
