"""Which test files can reach a module at all, by what they import; the others need not be run to find out."""

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path


def reaching_files(root: Path, modules: Sequence[str]) -> list[str]:
    """Return the test files below `root` that import one of `modules`, directly or through others."""
    wanted = {root / module for module in modules}
    files = sorted((root / "tests").glob("**/test_*.py"))
    return [str(file.relative_to(root)) for file in files if not wanted.isdisjoint(_closure(root, file))]


def _closure(root: Path, file: Path) -> set[Path]:
    reached: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imported(root, path)
    return reached


@cache
def _imported(root: Path, file: Path) -> tuple[Path, ...]:
    """Return the files of this tree that a file imports."""
    tree = ast.parse(file.read_text())
    return tuple(path for name in _names(tree) for path in _files_of(root, name))


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(root: Path, name: str) -> Iterator[Path]:
    """Give the module of a dotted name and the packages around it; the last word may be a value in a module."""
    path = root
    for word in name.split("."):
        path /= word
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                yield candidate
