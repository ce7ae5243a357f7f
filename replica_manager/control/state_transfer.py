"""Has a server export the agreed state, and tells its progress."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.cell_network import Reporter
from replica_manager.control.cell_view import look
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlUnavailable, RequestRefused

SERVES = ("serving", "degraded")
TIMEOUT_S = 30.0
"""For a server to take the order; what follows has no limit but the cell's own."""


def export_state(
    config: Config, path: Path, report: Reporter, *, server: int | None = None, may_overwrite: bool = False
) -> Mapping[str, Any]:
    """Write the agreed state to `path`; return `file`, `point`, `parts`, `bytes`, `digest`.

    Args:
        config: of the cell.
        path: absolute, on the machine of the server that writes.
        report: takes progress lines.
        server: which one writes; None: the first that serves and is on this machine.
        may_overwrite: whether a file of that name may be replaced.

    Raises:
        RequestRefused: it was not written, and why.
        ControlUnavailable: no server serves, or it ended meanwhile.
    """
    number = _first_serving(config) if server is None else server
    with ControlClient(CellPaths.of(config).control_socket(number), TIMEOUT_S) as client:
        report(f"server {number} writes {path}")
        for item in client.stream("export", path=str(path), overwrite=may_overwrite):
            if "done" in item:
                done: Mapping[str, Any] = item["done"]
                return done
            report(f"{item['parts']} of {item['parts_agreed']} parts that are agreed on, {item['bytes']} bytes")
    raise RequestRefused("export_failed", "the server ended the export without a word", "see spare events")


def _first_serving(config: Config) -> int:
    view = look(config)
    serving = [server for server, answer in sorted(view.answers.items()) if answer.get("state") in SERVES]
    if not serving:
        raise ControlUnavailable(f"no server of cell {config.cell.name} serves", "see spare status")
    return serving[0]
