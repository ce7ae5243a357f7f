"""`docs/runbook.md` has an entry for every alarm and every exit code, and none for what there is not."""

import re
from pathlib import Path

import pytest

from replica_manager.control.alarms import ALARM_KINDS
from replica_manager.control.cli.exit_codes import ExitCode

DOCUMENT = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()


def entries(heading: str) -> dict[str, str]:
    """Return the entries below a heading by name."""
    text = DOCUMENT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    parts = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alarm_has_an_entry_and_no_entry_is_for_none() -> None:
    """Whoever is called at night finds what to do."""
    assert set(entries("Alarms")) == ALARM_KINDS


def test_every_exit_code_has_an_entry() -> None:
    """Scripts and their authors."""
    assert set(entries("Exit codes")) == {str(int(code)) for code in ExitCode}


@pytest.mark.parametrize("heading", ["Alarms", "Exit codes"])
def test_every_entry_says_what_it_means_where_to_look_and_what_to_do(heading: str) -> None:
    """In this order."""
    for name, text in entries(heading).items():
        words = re.findall(r"^\*\*(\w+):\*\* \S", text, re.MULTILINE)
        assert words == ["Means", "Look", "Do"], name
