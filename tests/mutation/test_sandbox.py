"""Trials in a copy of the tree: what tests notice is killed, what they do not survives, and the tree stays as it is."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation.mutants import ROOT, mutants_of
from tests.mutation.reach import Reach
from tests.mutation.sandbox import Interrupted, Sandbox, TrialBroken

pytestmark = pytest.mark.slow

MODULE = "agreement/quorum.py"
TESTS = ["tests/agreement/test_quorum.py"]
LIMIT_S = 60
MUTANT = next(
    mutant
    for mutant in mutants_of(MODULE, (ROOT / MODULE).read_text())
    if mutant.name.endswith("if yes >= self.needed: → if yes > self.needed:")
)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(ROOT, tmp_path / "tree")


def test_a_mutant_is_killed_by_the_test_that_notices_and_survives_where_none_does(sandbox: Sandbox) -> None:
    before = (ROOT / MODULE).read_bytes()
    sandbox.plant(MUTANT)
    killed_by = sandbox.try_tests(MUTANT, TESTS, LIMIT_S).killed_by
    assert killed_by is not None
    assert killed_by.startswith(TESTS[0])
    assert (ROOT / MODULE).read_bytes() == before
    sandbox.heal(MODULE)
    assert sandbox.try_tests(MUTANT, TESTS, LIMIT_S).killed_by is None
    assert sandbox.try_simulation(MUTANT, 1, LIMIT_S).killed_by is None


def test_the_simulator_notices_what_no_test_was_asked_about(sandbox: Sandbox) -> None:
    sandbox.plant(MUTANT)
    killed_by = sandbox.try_simulation(MUTANT, 20, LIMIT_S).killed_by
    assert killed_by is not None
    assert killed_by.startswith("seed ")


def test_a_mutant_that_does_not_end_is_killed_by_the_time(sandbox: Sandbox) -> None:
    endless = replace(MUTANT, source="while True:\n    pass\n")
    sandbox.plant(endless)
    killed_by = sandbox.try_tests(endless, TESTS, 2).killed_by
    assert killed_by == "no end within 2 s of CPU time"


def test_a_mutant_that_waits_for_ever_is_killed_by_the_clock(sandbox: Sandbox) -> None:
    waiting = replace(MUTANT, source="import threading\n\nthreading.Event().wait()\n")
    sandbox.plant(waiting)
    killed_by = sandbox.try_tests(waiting, TESTS, 3).killed_by
    assert killed_by == "waits for more than 30 s"


def test_a_module_that_cannot_be_imported_is_killed(sandbox: Sandbox) -> None:
    broken = replace(MUTANT, source="raise RuntimeError\n")
    sandbox.plant(broken)
    assert sandbox.try_tests(broken, TESTS, LIMIT_S).killed_by is not None
    assert sandbox.try_simulation(broken, 1, LIMIT_S).killed_by is not None


def test_a_trial_without_a_result_is_no_kill(sandbox: Sandbox) -> None:
    """A mistake of the runner must not look like a good test."""
    elsewhere = replace(MUTANT, module="agreement/no_such_module.py")
    with pytest.raises(TrialBroken, match="no result"):
        sandbox.try_tests(elsewhere, TESTS, LIMIT_S)


def test_a_trial_under_way_can_be_ended_from_outside(sandbox: Sandbox) -> None:
    """Ctrl-C leaves no child behind."""
    sandbox.plant(replace(MUTANT, source="while True:\n    pass\n"))
    ender = threading.Timer(1.0, sandbox.end)
    ender.start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        sandbox.try_tests(MUTANT, TESTS, LIMIT_S)
    assert time.monotonic() - started < LIMIT_S / 2
    with pytest.raises(Interrupted):
        sandbox.try_tests(MUTANT, TESTS, LIMIT_S)
    ender.join()


def test_what_a_test_calls_is_measured(tmp_path: Path) -> None:
    """In a small tree with one test of each kind."""
    tree = tmp_path / "small"
    (tree / "tests/mutation").mkdir(parents=True)
    for name in ("__init__", "mutants", "operators", "reach"):
        (tree / f"tests/mutation/{name}.py").write_text((ROOT / f"tests/mutation/{name}.py").read_text())
    (tree / "tests/__init__.py").touch()
    (tree / "core.py").write_text("def f():\n    return (lambda: g())()\n\n\ndef g():\n    return 1\n")
    (tree / "tests/test_core.py").write_text(
        "import pytest\nimport core\n\n\ndef test_f():\n    assert core.f() == 1\n\n\n"
        "def test_g():\n    assert core.g() == 1\n\n\ndef test_wrong():\n    assert core.g() == 2\n\n\n"
        "@pytest.mark.slow\ndef test_slow():\n    core.f()\n"
    )
    (tree / "tests/test_other.py").write_text("def test_nothing():\n    pass\n")
    (tree / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n")
    sandbox = Sandbox(tree, tmp_path / "copy")
    sandbox.measure_reach(["core.py"], tmp_path / "reach.json")
    reach = Reach.read(tmp_path / "reach.json")
    assert reach.failed == ["tests/test_core.py::test_wrong"]
    f, g = mutants_of("core.py", (tree / "core.py").read_text())[0], mutants_of("core.py", "def g():\n    go()")[0]
    assert {test.name for test in reach.tests_for(f)} == {"tests/test_core.py::test_f"}
    assert {test.name for test in reach.tests_for(g)} == {"tests/test_core.py::test_f", "tests/test_core.py::test_g"}
