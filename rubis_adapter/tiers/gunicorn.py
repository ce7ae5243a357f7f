"""gunicorn as the application tier: one process that watches one worker."""

import signal
from collections.abc import Sequence
from typing import Final

from rubis_adapter.tiers.application_server import APPLICATION, ApplicationServer

_OPTIONS: Final = (
    "--workers=1",
    "--worker-class=sync",
    # No heartbeat: a suspended domain must not come back to a killed worker; the cell has time-outs of its own.
    "--timeout=0",
    "--limit-request-line=0",
    "--no-control-socket",
    "--log-level=warning",
)


class Gunicorn(ApplicationServer):
    """`gunicorn` with one synchronous worker."""

    def _module_and_options(self) -> Sequence[str]:
        places = (f"--bind=unix:{self.socket}", f"--worker-tmp-dir={self._run_dir}")
        return ("gunicorn", *places, *_OPTIONS, APPLICATION)

    def _stop_signal(self) -> int:
        return signal.SIGQUIT  # SIGTERM would wait for an idle worker
