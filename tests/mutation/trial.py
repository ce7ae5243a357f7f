"""One trial in a process of its own, in a copy of the tree: do these tests, or the simulator, notice the mutant?

Run as `python -m tests.mutation.trial MODULE RESULT CPU_SECONDS tests FILE` or `… simulation SEEDS`; writes
`{"killed_by": …}` (`null`: nobody noticed) to `RESULT`.
"""

import importlib.util
import json
import resource
import sys
from pathlib import Path

MEMORY_BYTES_MAX = 3 * 1024**3
"""A mutant that collects memory without end must not take the machine with it."""


def main() -> int:
    """Run one trial."""
    module, result, cpu_seconds, kind, argument = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds) + 1))
    require_own_tree(module)
    killed_by = try_tests(Path(argument)) if kind == "tests" else try_seeds(int(argument))
    Path(result).write_text(json.dumps({"killed_by": killed_by}))
    return 0


def require_own_tree(module: str) -> None:
    """A trial that imports another tree's module would call every mutant a survivor."""
    name = module.removesuffix(".py").replace("/", ".")
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # noqa: BLE001  # a mutant may break the import of its room, which the trial will find
        return
    own = Path.cwd() / module
    assert spec is not None, f"{name} is not to be found"
    assert spec.origin == str(own), f"{name} is {spec.origin}, not {own}"


def try_tests(names: Path) -> str | None:
    """Run tests until one fails; return its name."""
    import pytest

    class FirstFailure:
        """Remembers it."""

        name: str | None = None

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            """Called thrice per test."""
            if report.failed and self.name is None:
                self.name = report.nodeid

    failure = FirstFailure()
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--timeout=0", f"@{names}"]
    code = pytest.main(options, plugins=[failure])
    return None if code == pytest.ExitCode.OK else failure.name or f"pytest itself: {code!r}"


def try_seeds(count: int) -> str | None:
    """Run seeds of the cell simulator until one fails; return which and why."""
    try:
        from tests.simulation.cell.run import run_seed
    except Exception as error:  # noqa: BLE001  # a broken import is noticed too
        return f"import: {error!r}"[:200]
    for seed in range(count):
        try:
            run_seed(seed)
        except Exception as error:  # noqa: BLE001  # whatever a mutant raises
            return f"seed {seed}: {error!r}"[:200]
    return None


if __name__ == "__main__":
    sys.exit(main())
