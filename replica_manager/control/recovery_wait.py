"""Orders a proactive recovery, tells its progress, and waits for its end."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from replica_manager.config import Config
from replica_manager.control.cell_view import CellView, look
from replica_manager.control.errors import ControlTimeout
from replica_manager.control.orders import order

POLL_S = 0.3


def recover_and_wait(
    config: Config, *, is_resilient: bool, report: Callable[[str], None], limit_s: float
) -> Mapping[str, Any]:
    """Have the cell renew its domains; return what came of it: `number`, `recovery`, `renewed`, `given_up`.

    Raises:
        ControlTimeout: it has not ended in time; it goes on.
        ControlUnavailable: no server answers.
        RequestRefused: another recovery is under way.
    """
    number = int(order(config, "recover", kind="resilient" if is_resilient else "lightweight")["number"])
    report(f"recovery {number} has begun")
    deadline_s = time.monotonic() + limit_s
    shown = ""
    while time.monotonic() < deadline_s:
        view = look(config)
        for answer in view.answers.values():
            last = answer.get("last_recovery")
            if last and int(last["number"]) == number:
                return dict(last)
        text = recovery_text(merged_recovery(view))
        if text and text != shown:
            report(text)
            shown = text
        time.sleep(POLL_S)
    raise ControlTimeout(f"recovery {number} has not ended after {limit_s:g} s: {shown}", "see spare status")


def merged_recovery(view: CellView) -> Mapping[str, Any] | None:
    """Return the recovery that is under way, each server's step in its own words; None: none is."""
    recovery = view.newest.get("recovery")
    if not recovery:
        return None
    own = {
        row["server"]: row
        for server, answer in view.answers.items()
        for row in (answer.get("recovery") or {}).get("servers", ())
        if row["server"] == server
    }
    return {**recovery, "servers": [own.get(row["server"], row) for row in recovery["servers"]]}


def recovery_text(recovery: Mapping[str, Any] | None) -> str:
    """Return how far a recovery is, in a line; empty: none is under way."""
    if not recovery:
        return ""
    steps = [f"s{row['server']} {row['next'] + ' ' if row['next'] else ''}{row['step']}" for row in recovery["servers"]]
    done = [f"s{server} is renewed" for server in recovery["renewed"]]
    left = [f"s{server} is left out: {reason}" for server, reason in recovery["given_up"].items()]
    return f"{recovery['stage']}: " + "; ".join((*steps, *done, *left))
