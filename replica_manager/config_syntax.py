"""Reads a TOML text with as many syntax errors as it has, and what is left without them.

`tomllib` stops at the first error.  Here its line is reported, blanked, and the text read again,
so that one missing quote does not hide the other mistakes.
"""

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from replica_manager.config_findings import Finding

SYNTAX_ERRORS_MAX = 20
"""More than this is not a configuration file."""

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_OPEN_VALUE = re.compile(r"=.*(?:\[[^\]]*|\{[^}]*|\"\"\"|''')$")
_HEADER = re.compile(r"\s*\[{1,2}[\w. -]+\]{1,2}\s*(?:#.*)?")
_KEY = re.compile(r"\s*([\w-]+)\s*=")
_STATEMENT = re.compile(r"\s*(?:\[|[\w.\"' -]+=)")


@dataclass(frozen=True, slots=True)
class ParsedText:
    """What could be read."""

    values: dict[str, Any]
    text: str
    """The text without its wrong lines; line numbers are those of the file."""
    findings: tuple[Finding, ...]
    broken_keys: frozenset[str]
    """Keys on wrong lines: the operator gave them, with values that nobody knows."""


def parse(text: str) -> ParsedText:
    """Return everything in `text` that is TOML, and a finding for everything that is not."""
    lines = text.replace("\r\n", "\n").split("\n")
    findings: list[Finding] = []
    broken_keys: set[str] = set()
    continues_at = -1
    while True:
        current = "\n".join(lines)
        try:
            return ParsedText(tomllib.loads(current), current, tuple(findings), frozenset(broken_keys))
        except tomllib.TOMLDecodeError as error:
            line, message = _place_of(str(error), lines)
            # Below a blanked `key = [` stands the rest of its list: the same mistake, reported once.
            if line != continues_at or _STATEMENT.match(lines[line]):
                findings.append(Finding("error", line + 1, "", f"not TOML: {message}", _hint(message, lines[line])))
            broken_keys.update(_KEY.findall(lines[line])[:1])
            goes_on = _goes_on(lines[line], message, is_rest=line == continues_at)
            last = _blank_statement(lines, line)
            continues_at = last + 1 if goes_on else -1
            if len(findings) >= SYNTAX_ERRORS_MAX:
                return ParsedText({}, "", tuple(findings), frozenset(broken_keys))


def _place_of(error: str, lines: list[str]) -> tuple[int, str]:
    """Return the 0-based line to blame and the message without its place."""
    match = _PLACE.search(error)
    assert match is not None, "tomllib 3.11 puts the place at the end of every message"
    message = error[: match.start()]
    if message == 'Expected "\'"':
        return max((number for number, line in enumerate(lines) if line.count("'") % 2), default=0), message
    if match["line"] is None:
        return _last_statement(lines, len(lines) - 1), message
    line = min(int(match["line"]) - 1, len(lines) - 1)
    # A list that is never closed is noticed only where the next statement begins; a header may be read as its element.
    if line > 0 and message == "Invalid value" and _HEADER.fullmatch(lines[line]):
        message = "Unclosed array"
    is_late = message.startswith("Unclosed") and _STATEMENT.match(lines[line]) and line > 0
    return (_last_statement(lines, line - 1) if is_late else line), message


def _last_statement(lines: list[str], line: int) -> int:
    """Return the nearest line at or above `line` on which a statement begins, or else one that is not blank."""
    for candidate in range(line, -1, -1):
        if _STATEMENT.match(lines[candidate]):
            return candidate
    for candidate in range(line, 0, -1):
        if lines[candidate].strip():
            return candidate
    return 0


def _blank_statement(lines: list[str], line: int) -> int:
    """Blank the wrong line, a wrong table with all its keys; return the last line that was blanked."""
    if not lines[line].strip():
        # Never without progress: what cannot be blamed on a line ends the reading.
        lines[line:] = [""] * (len(lines) - line)
        lines[:line] = [""] * line
        return len(lines)
    is_header = lines[line].lstrip().startswith("[")
    lines[line] = ""
    last = line
    while is_header and last + 1 < len(lines) and not lines[last + 1].lstrip().startswith("["):
        last += 1
        lines[last] = ""
    return last


def _goes_on(line: str, message: str, *, is_rest: bool) -> bool:
    """Say whether the next line belongs to the wrong statement too."""
    if message.startswith("Unclosed"):
        return False
    return bool(_OPEN_VALUE.search(line)) or (is_rest and not _STATEMENT.match(line))


def _hint(message: str, line: str) -> str:
    value = line.partition("=")[2].strip()
    if message == "Invalid value" and re.fullmatch(r"[A-Za-z_./:-][\w./:-]*", value):
        return {"True": "write true", "False": "write false"}.get(value, f'text needs quotes: "{value}"')
    if message.startswith("Unclosed array"):
        return "the list that begins here is never closed by `]`"
    if message.startswith("Cannot declare"):
        return "a section may stand only once; servers and witnesses have double brackets: [[server]]"
    if message.startswith(("Illegal character", "Unterminated", 'Expected "\'"')):
        return "the closing quote is missing"
    if message.startswith("Cannot overwrite"):
        return "the key stands twice"
    return ""
