"""All mutants of a module.

Left alone is what cannot be noticed or is not meant for machines: texts, annotations, decorators, imports, assertions
(they say what is always so: in correct code a weaker one cannot be noticed), and the arguments of `raise`.
"""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.operators import OPERATORS, Replacement

ROOT = Path(__file__).parent.parent.parent
TARGETS = (
    "replica_manager/voting/*.py",
    "agreement/quorum.py",
    "replica_manager/cell/*.py",
    "replica_manager/execution/feed.py",
    "replica_manager/faults/*.py",
    "replica_manager/recovery/*.py",
)
"""What is mutated, as far as it exists: where a mistake is a wrong vote or a lost request."""

MODULE_LEVEL = "<module>"
NAME_CHARACTERS_MAX = 240
_NOT_ENTERED = (ast.Assert, ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Global, ast.Nonlocal)
_FIELDS_NOT_ENTERED = {"annotation", "returns", "decorator_list", "bases", "pattern"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Mutant:
    """One module with one mistake."""

    name: str
    """Unique and the same after changes elsewhere in the module: place, statement before and after."""
    module: str
    """File, relative to the root of the tree."""
    scope: str
    """Qualified name of the outermost function, or `MODULE_LEVEL`."""
    line: int
    operator: str
    source: str
    """The text of the module with the mistake."""

    @property
    def fingerprint(self) -> str:
        """What a result is true of: the mistake in this very module."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Place:
    """Where a node hangs."""

    parent: ast.AST
    field: str
    index: int | None

    def put(self, node: ast.AST | None) -> None:
        """Hang a node there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def target_modules(root: Path) -> list[str]:
    """Return the files of `TARGETS`, shortest first."""
    found = [path for pattern in TARGETS for path in root.glob(pattern) if path.name != "__init__.py"]
    return [str(path.relative_to(root)) for path in sorted(found, key=lambda path: path.stat().st_size)]


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module that differs from it and compiles, in the order of its text."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    names: Counter[str] = Counter()
    seen = {original}
    found: list[Mutant] = []
    for place, node, scope, statement in _nodes(tree, MODULE_LEVEL, tree):
        for operator, replacement in _replacements(node, scope):
            before = _head(statement)
            place.put(ast.Pass() if replacement is None else replacement)
            text = ast.unparse(tree)
            after = "nothing" if replacement is None else _head(replacement if statement is node else statement)
            place.put(node)
            if text in seen or not _compiles(text):
                continue
            seen.add(text)
            name = f"{module}:{scope}: {before} → {after}"
            names[name] += 1
            number = f" ({names[name]})" if names[name] > 1 else ""
            line = getattr(node, "lineno", getattr(statement, "lineno", 0))
            found.append(Mutant(name + number, module, scope, line, operator, text))
    return found


def _replacements(node: ast.AST, scope: str) -> Iterator[tuple[str, Replacement]]:
    is_type_union = scope == MODULE_LEVEL and isinstance(node, ast.BinOp)
    if not is_type_union:
        for name, operator in OPERATORS.items():
            for replacement in operator(node):
                yield name, replacement


def _nodes(tree: ast.AST, scope: str, statement: ast.AST) -> Iterator[tuple[_Place, ast.AST, str, ast.AST]]:
    """Give every node that may be mutated: where it hangs, its function, and its statement."""
    for field, value in ast.iter_fields(tree):
        if field in _FIELDS_NOT_ENTERED or (isinstance(tree, ast.ClassDef) and field == "keywords"):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or _is_left_alone(node):
                continue
            own_statement = node if isinstance(node, ast.stmt) else statement
            yield _Place(tree, field, index), node, scope, own_statement
            if not isinstance(node, _NOT_ENTERED):
                yield from _nodes(node, _scope_in(scope, node), own_statement)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets)
    return isinstance(node, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop)


def _scope_in(scope: str, node: ast.AST) -> str:
    """Return the scope of what is within `node`: names as in `co_qualname`, up to the first function."""
    if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return scope
    if scope == MODULE_LEVEL:
        return node.name if isinstance(node, _FUNCTIONS) else f"{MODULE_LEVEL}{node.name}"
    if scope.startswith(MODULE_LEVEL):
        inner = f"{scope.removeprefix(MODULE_LEVEL)}.{node.name}"
        return inner if isinstance(node, _FUNCTIONS) else f"{MODULE_LEVEL}{inner}"
    return scope


def _head(statement: ast.AST) -> str:
    """Return the first line of a statement, without decorators."""
    if isinstance(statement, ast.match_case):
        return "case"
    lines = ast.unparse(statement).splitlines() or [""]
    line = next((line for line in lines if not line.startswith("@")), lines[0])
    return line if len(line) <= NAME_CHARACTERS_MAX else f"{line[:NAME_CHARACTERS_MAX]}…"


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
