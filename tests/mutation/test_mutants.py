"""The operators make the mistakes that they are to make, and leave alone what is not for machines."""

import ast

import pytest

from tests.mutation.mutants import ROOT, Mutant, mutants_of, target_modules


def changes(source: str) -> set[str]:
    """Return `before → after` of every mutant."""
    return {mutant.name.split(": ", 1)[1] for mutant in mutants_of("m.py", source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = a < b → x = a <= b"}),
        ("x = a in b", {"x = a in b → x = a not in b"}),
        ("x = a and b", {"x = a and b → x = a or b"}),
        (
            "x = a or b or c",
            {
                "x = a or b or c → x = a and b and c",
                "x = a or b or c → x = b or c",
                "x = a or b or c → x = a or c",
                "x = a or b or c → x = a or b",
            },
        ),
        ("x = not a", {"x = not a → x = a"}),
        ("def f():\n    x = a + b", {"x = a + b → x = a - b"}),
        ("x += a", {"x += a → x -= a", "x += a → nothing"}),
        ("x = 5", {"x = 5 → x = 6", "x = 5 → x = 4"}),
        ("x = 0", {"x = 0 → x = 1"}),
        ("LIMIT = 4096", {"LIMIT = 4096 → LIMIT = 0"}),
        ("x = True", {"x = True → x = False"}),
        ("while True:\n    pass", {"while True: → while False:"}),
        ("x = b''", {"x = b'' → x = b'?'"}),
        ("go(a)", {"go(a) → nothing"}),
        ("a.b = c", {"a.b = c → nothing"}),
        ("raise E(f(1))", {"raise E(f(1)) → nothing"}),
        ("if a:\n    b", {"if a: → if not a:"}),
        ("if a == b:\n    c", {"if a == b: → if a != b:"}),
        ("x = [a for a in b if c]", {"x = [a for a in b if c] → x = [a for a in b if not c]"}),
        ("match a:\n    case b if c:\n        pass", {"match a: → match a:"}),
        ("def f():\n    return g(a)", {"return g(a) → return None"}),
        ("def f():\n    return a is b", {"return a is b → return not a is b", "return a is b → return a is not b"}),
        ("def f(a=False):\n    pass", {"def f(a=False): → def f(a=True):"}),
    ],
)
def test_an_operator_makes_its_mistakes(source: str, expected: set[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""',
        "x = 'text'",
        "x = f'{a + 1}'",
        "def f(a: 'b' = None) -> c[1]:\n    pass",
        "assert a < b, g(1)",
        "@decorated(slots=True)\nclass C(B, tag=1):\n    pass",
        "__all__ = [a < b]",
        "if TYPE_CHECKING:\n    go()",
        "import a",
        "T = A | B",
        "def f(a):\n    assert_never(a)",
    ],
)
def test_what_nobody_could_notice_is_left_alone(source: str) -> None:
    """Texts are for people; assertions say what is so anyway; types and decorators are not run twice."""
    assert changes(source) == set()


def test_a_mutant_knows_its_outermost_function() -> None:
    """As `co_qualname` calls it: that is how the tests that reach it are found."""
    source = "class C:\n  n = 1\n  def f(self):\n    return [g(1) for x in (lambda: 2)]\ndef h():\n  def k(): go()\n"
    scopes = {mutant.scope for mutant in mutants_of("m.py", source)}
    assert scopes == {"<module>C", "C.f", "h"}


def test_names_outlast_changes_elsewhere_and_equal_statements_are_numbered() -> None:
    source = "def f():\n    go()\n    a = b\n    go()\n"
    names = [mutant.name for mutant in mutants_of("m.py", source)]
    assert names == ["m.py:f: go() → nothing", "m.py:f: go() → nothing (2)"]
    moved = [mutant.name for mutant in mutants_of("m.py", "import os\n\n\n" + source)]
    assert moved == names


def of_the_project() -> list[Mutant]:
    return [mutant for module in target_modules(ROOT) for mutant in mutants_of(module, (ROOT / module).read_text())]


@pytest.mark.slow
def test_the_mutants_of_the_cores_differ_from_each_other_and_from_the_original() -> None:
    """Several hundred, with names of their own."""
    mutants = of_the_project()
    assert len(mutants) > 800
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert len({mutant.source for mutant in mutants}) == len(mutants)
    originals = {ast.unparse(ast.parse((ROOT / module).read_text())) for module in target_modules(ROOT)}
    assert not originals & {mutant.source for mutant in mutants}
    assert {"replica_manager/voting/voter.py", "agreement/quorum.py"} <= {mutant.module for mutant in mutants}
