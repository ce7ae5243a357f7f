"""Results survive interruptions, and the score counts what it says."""

from pathlib import Path

import pytest

from tests.mutation.__main__ import ACCEPTED
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.reach import TESTS_SECONDS_MAX, Reach, ReachedTest
from tests.mutation.results import Fate, Result, ResultLog, read_accepted, summarise

SOURCE = "def f():\n    go()\n    return a < b\n"
MUTANTS = mutants_of("m.py", SOURCE)
ONE, TWO, THREE = MUTANTS


def result(mutant: Mutant, fate: Fate, tests: str = "t1", is_called: bool = True) -> Result:
    return Result(mutant.name, mutant.fingerprint, tests, fate, "test", 1.0, is_called)


def test_a_run_goes_on_where_the_last_one_was_interrupted(tmp_path: Path) -> None:
    """Even in the middle of a line."""
    path = tmp_path / "results.jsonl"
    log = ResultLog(path)
    log.add(result(ONE, Fate.TESTS))
    log.add(result(TWO, Fate.SIMULATION))
    path.write_bytes(path.read_bytes()[:-5])
    again = ResultLog(path)
    assert again.find(ONE, "t1") == result(ONE, Fate.TESTS)
    assert again.find(TWO, "t1") is None
    again.add(result(TWO, Fate.SURVIVED))
    assert ResultLog(path).find(TWO, "t1") == result(TWO, Fate.SURVIVED)


def test_a_survivor_is_tried_again_when_tests_have_changed_and_anything_when_its_module_has(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "results.jsonl")
    log.add(result(ONE, Fate.TESTS))
    log.add(result(TWO, Fate.SURVIVED))
    assert log.find(ONE, "t2") is not None
    assert log.find(TWO, "t2") is None
    changed = mutants_of("m.py", f"{SOURCE}x = a\n")
    assert [mutant.name for mutant in changed] == [mutant.name for mutant in MUTANTS]
    assert all(log.find(mutant, "t1") is None for mutant in changed)


def test_the_score_leaves_accepted_survivors_out_and_names_the_others(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "results.jsonl")
    log.add(result(ONE, Fate.TESTS))
    log.add(result(TWO, Fate.SURVIVED))
    summary = summarise(MUTANTS, log, "t1", {})
    assert (summary.total.share, summary.is_complete) == (0.5, False)
    log.add(result(THREE, Fate.SURVIVED))
    summary = summarise(MUTANTS, log, "t1", {TWO.name: "the same"})
    assert summary.is_complete
    assert summary.total.share == 0.5
    assert summary.survivors == [THREE]
    assert THREE.name in summary.text()
    assert "| m.py | 3 | 1 | 0 | 1 | 1 | 0 | 50.0 % |" in summary.text()


def test_a_survivor_that_no_test_calls_is_marked(tmp_path: Path) -> None:
    """It may be code that nothing uses."""
    log = ResultLog(tmp_path / "results.jsonl")
    log.add(result(ONE, Fate.SURVIVED))
    log.add(result(TWO, Fate.SURVIVED, is_called=False))
    assert summarise(MUTANTS, log, "t1", {}).uncalled == {TWO.name}
    assert f"({TWO.operator}; no fast test calls it)" in summarise([TWO], log, "t1", {}).text()


def test_an_accepted_mutant_that_is_killed_or_gone_is_reported(tmp_path: Path) -> None:
    """A reason for nothing would hide the next one of that name."""
    log = ResultLog(tmp_path / "results.jsonl")
    log.add(result(ONE, Fate.TESTS))
    summary = summarise(MUTANTS, log, "t1", {ONE.name: "reason", "no such": "reason", TWO.name: "not tried yet"})
    assert summary.stale == sorted([ONE.name, "no such"])
    assert "no such" in summary.text()


@pytest.mark.parametrize("entry", ['mutant = "x"', 'reason = "y"', 'mutant = "x"\nreason = " "'])
def test_no_survivor_is_accepted_without_a_reason(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "accepted.toml"
    path.write_text(f"[[accepted]]\n{entry}\n")
    with pytest.raises(ValueError, match="needs a name, once, and a reason"):
        read_accepted(path)


def test_the_list_of_accepted_survivors_can_be_read() -> None:
    assert all(reason for reason in read_accepted(ACCEPTED).values())


def names(tests: list[ReachedTest]) -> list[str]:
    return [test.name for test in tests]


def test_the_cheapest_tests_that_call_the_function_come_first() -> None:
    """What nobody calls is tried with whatever calls its module, and else its room."""
    mutant = mutants_of("room/m.py", SOURCE)[0]
    dear = ReachedTest("dear", 3.0, frozenset({"room/m.py:f"}))
    cheap = ReachedTest("cheap", 1.0, frozenset({"room/m.py:f", "room/m.py:g"}))
    near = ReachedTest("near", 2.0, frozenset({"room/m.py:g"}))
    roommate = ReachedTest("roommate", 2.0, frozenset({"room/other.py:f"}))
    far = ReachedTest("far", 0.0, frozenset({"far.py:f"}))
    slow = ReachedTest("slow", TESTS_SECONDS_MAX, frozenset({"room/m.py:f"}))
    assert names(Reach([slow, dear, cheap, near, roommate, far]).tests_for(mutant)) == ["cheap", "dear"]
    assert names(Reach([near, roommate, far]).tests_for(mutant)) == ["near"]
    assert names(Reach([roommate, far]).tests_for(mutant)) == ["roommate"]
    assert Reach([far]).tests_for(mutant) == []
    assert [Reach([test]).is_called(mutant) for test in (cheap, near)] == [True, False]
