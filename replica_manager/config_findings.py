"""What is wrong with a configuration file: one value per mistake, with its place and a way out."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from replica_manager.config_positions import KeyPath, line_of

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, or one thing that an operator should know."""

    severity: Severity
    line: int
    """1-based; 0: the file as a whole."""
    path: str
    """The key as an operator writes it: `server[1].publish`; empty for a syntax error."""
    message: str
    """One sentence with the offending value and the limit."""
    suggestion: str = ""
    """What to do about it; empty if that is obvious."""

    def render(self, file_name: str) -> str:
        """Return the finding as one line in the form that editors can jump to."""
        place = f"{file_name}:{self.line}" if self.line else file_name
        subject = f"{self.path}: " if self.path else ""
        suggestion = f" ({self.suggestion})" if self.suggestion else ""
        return f"{place}: {self.severity}: {subject}{self.message}{suggestion}"


class ConfigError(Exception):
    """Raised when a configuration file cannot be used: the operator's mistake.

    `findings` has all mistakes; the message is the first one and their number.
    """

    def __init__(self, file_name: str, findings: Iterable[Finding]) -> None:
        self.file_name = file_name
        self.findings = tuple(findings)
        errors = [finding for finding in self.findings if finding.severity == "error"]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(errors[0].render(file_name) + more)


@dataclass(slots=True)
class Report:
    """Collects findings; keeps one mistake from being reported again as its own consequences."""

    positions: Mapping[KeyPath, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken_keys: frozenset[str] = frozenset()
    """Keys on lines with syntax errors."""
    is_partial: bool = False
    """The file has syntax errors: what is missing may stand in a wrong line."""
    document: type | None = None
    """What kind of file this is; set by `config_decode`."""
    _tainted: set[KeyPath] = field(default_factory=set)
    """Keys whose value in the decoded configuration is not what the operator meant."""

    def error(self, path: KeyPath, message: str, suggestion: str = "", *, uses: Sequence[KeyPath] = ()) -> None:
        """Record a mistake at `path` that follows from the values at `path` and `uses`."""
        self._add("error", path, message, suggestion, uses)

    def warning(self, path: KeyPath, message: str, suggestion: str = "", *, uses: Sequence[KeyPath] = ()) -> None:
        """Record something that works but weakens the cell."""
        self._add("warning", path, message, suggestion, uses)

    def taint(self, path: KeyPath) -> None:
        """Mark `path` as wrong already, so that rules that use its stand-in value stay silent."""
        self._tainted.add(path)

    def is_given(self, path: KeyPath) -> bool:
        """Say whether the file itself has `path`."""
        return path in self.positions

    def in_file_order(self) -> list[Finding]:
        """Return the findings by line, errors before warnings on the same line."""
        return sorted(self.findings, key=lambda finding: (finding.line, finding.severity, finding.path))

    def _add(self, severity: Severity, path: KeyPath, message: str, suggestion: str, uses: Sequence[KeyPath]) -> None:
        if any(self._is_tainted(used) for used in (path, *uses)):
            return
        line = line_of(self.positions, self._anchor(path, uses))
        self.findings.append(Finding(severity, line, render_path(path), message, suggestion))

    def _anchor(self, path: KeyPath, uses: Sequence[KeyPath]) -> KeyPath:
        """Return the key to show: where a default contradicts what the file says, the one that the file has."""
        is_of_member = len(path) > 1 and isinstance(path[1], int)
        if is_of_member:
            return path
        return next((place for place in (path, *uses) if place in self.positions), path)

    def _is_tainted(self, path: KeyPath) -> bool:
        if any(key in self.broken_keys for key in path):
            return True
        return any(path[:length] in self._tainted for length in range(1, len(path) + 1))


def render_path(path: KeyPath) -> str:
    """Return `path` as an operator writes it."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return a suggestion for a mistyped word, or an empty string if nothing is near."""
    close = difflib.get_close_matches(wrong.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    if not close:
        close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""
