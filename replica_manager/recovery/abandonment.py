"""Ends the repair of a server that has vanished: its point would keep every other one from being opened.

A live server that vanishes leaves the cell, and its point ends with that.  One that was about to join is in no
configuration, so nobody declares it crashed; the lowest live server gives up its fresh domains.

Source: design "Repair", "Server crash, leave, join".
"""

from collections.abc import Collection

from replica_manager.cell.cell_state import CellState
from replica_manager.cell.entries import Stopped, encode_entry
from replica_manager.cell.state_points import REPAIR
from replica_manager.core_output import CoreOutput


class Abandonment:
    """Watches the open point of one cell."""

    def __init__(self, server: int, patience_ms: int, cell: CellState, learners: Collection[int]) -> None:
        """Watch for servers that are neither live nor among `learners` for `patience_ms`."""
        self._server = server
        self._patience_ms = patience_ms
        self._cell = cell
        self._learners = learners
        self._absent_since_ms: int | None = None

    def on_timer(self, now_ms: int, output: CoreOutput) -> None:
        """A tick."""
        point, live = self._cell.state_point, self._cell.live_servers
        if point is None or point.kind != REPAIR or point.host in live or point.host in self._learners:
            self._absent_since_ms = None
        elif self._absent_since_ms is None:
            self._absent_since_ms = now_ms
        elif now_ms - self._absent_since_ms >= self._patience_ms and self._server == min(live, default=-1):
            self._absent_since_ms = now_ms
            for domain in point.domains:
                entry = Stopped(domain, f"server {point.host}, which was to join, has vanished", self._cell.sequence)
                output.proposals.append(encode_entry(entry))
