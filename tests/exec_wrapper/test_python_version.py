"""The wrapper runs on the oldest Python of a guest, with nothing but its standard library."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import exec_wrapper
from images.recipe import RECIPES

OLDEST = (3, 9)
FAULT_INJECTION = RECIPES / "fault_injection"
FILES = sorted(file for root in (Path(exec_wrapper.__file__).parent, FAULT_INJECTION) for file in root.rglob("*.py"))
NEWER_NAMES = {
    "ExceptionGroup": "3.11",
    "TaskGroup": "3.11",
    "StrEnum": "3.11",
    "Self": "3.11",
    "assert_never": "3.11",
    "pairwise": "3.10",
    "aiter": "3.10",
    "anext": "3.10",
    "bit_count": "3.10",
    "TypeAlias": "3.10",
    "ParamSpec": "3.10",
    "override": "3.12",
    "batched": "3.12",
    "add_note": "3.11",
    "tomllib": "3.11",
}
NEWER_ARGUMENTS = {"strict": "zip, 3.10", "slots": "dataclass, 3.10", "kw_only": "dataclass, 3.10", "root_dir": "3.10"}


def parsed(path: Path) -> ast.Module:
    """Return the syntax tree as the oldest Python reads it."""
    return ast.parse(path.read_text(), str(path), feature_version=OLDEST)


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield every annotation, evaluated when the module is imported."""
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(annotation, ast.expr):
            yield annotation


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_oldest_python_understands_it(path: Path) -> None:
    """No `match`, no `X | Y` that is evaluated, no name or argument that came later."""
    tree = parsed(path)
    for annotation in annotations(tree):
        unions = [node for node in ast.walk(annotation) if isinstance(node, ast.BinOp)]
        assert not unions, f"{path}:{annotation.lineno}: Python {OLDEST} evaluates X | Y and fails"
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not names & NEWER_NAMES.keys()
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert not arguments & NEWER_ARGUMENTS.keys()
    assert not re.search(r"\.to_bytes\((?![^)]*,)", path.read_text()), "to_bytes without arguments needs Python 3.11"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_imports_the_standard_library_alone(path: Path) -> None:
    """A guest has no package index."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level and FAULT_INJECTION in path.parents:
                continue  # the layer is a package of another name in a guest
            assert node.level == 0, "absolute imports only"
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            root = module.partition(".")[0]
            assert root == "exec_wrapper" or root in sys.stdlib_module_names, f"{path}: {module}"


def test_there_is_something_to_check() -> None:
    """A moved package would pass unseen."""
    assert {"session.py", "host_link.py", "key_value.py", "service_faults.py", "channel_faults.py"} <= {
        path.name for path in FILES
    }
