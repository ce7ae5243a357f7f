"""Notes when a server has become something else to its clients, and when the cell cannot answer for want of domains."""

from collections.abc import Callable
from typing import Protocol

BELOW_LOOKS = 4
"""Looks in a row: between a fault and the promotion that follows it, a few milliseconds below are no news."""


class Watched(Protocol):
    """A server that is looked at."""

    @property
    def state(self) -> str:
        """As `spare status` shows it."""
        ...


class StateWatch:
    """Looks at one server now and then."""

    def __init__(self, record: Callable[..., None]) -> None:
        """`record` takes the events `state_changed` and `below_threshold`."""
        self._record = record
        self._state = "starting"
        self._below = 0

    def note(self, server: Watched) -> None:
        """Look once."""
        state = server.state
        if state != self._state:
            self._record("state_changed", state=state, was=self._state)
            self._state = state
        self._below = self._below + 1 if state == "not_serving" else 0
        if self._below == BELOW_LOOKS:
            self._record(
                "below_threshold", text="fewer domains are active than votes are needed: no request is answered"
            )
