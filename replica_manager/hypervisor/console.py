"""The file that a domain's console is written to."""

import contextlib
import os
from pathlib import Path
from typing import Final

CONSOLE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A domain that floods its console must not fill the host's disk; beyond this the file is emptied."""


def cut_console(path: Path) -> None:
    """Empty a console file with more than `CONSOLE_BYTES_MAX`; its writer appends, so it goes on at the beginning."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > CONSOLE_BYTES_MAX:
            os.truncate(path, 0)


def last_words(path: Path) -> str:
    """Return the last line of a console file without its full stop, to explain why its domain ended."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    return lines[-1].rstrip(".") if lines else "it said nothing"
