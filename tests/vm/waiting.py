"""Waiting for what is going to happen: looking again and again, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.1
PATIENCE_S = 240.0
"""For what takes seconds on an idle machine."""
BOOT_PATIENCE_S = 900.0
"""For the start of a cell of four machines, half a minute on an idle machine."""

Seen = TypeVar("Seen")


def until(look: Callable[[], Seen], what: str, patience_s: float = PATIENCE_S) -> Seen:
    """Return the first true value of `look`; fail with `what` if there is none in time."""
    deadline_s = time.monotonic() + patience_s
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline_s, f"after {patience_s:g} s still not: {what}; seen: {seen!r}"
        time.sleep(POLL_S)
