"""waitress as the application tier: one process with a thread that reads requests and one that executes them."""

import signal
from collections.abc import Sequence
from typing import Final

from rubis_adapter.tiers.application_server import APPLICATION, ApplicationServer

_OPTIONS: Final = (
    "--unix-socket-perms=600",
    "--threads=1",
    # A suspended domain finds its connections as they were; the cell has time-outs of its own.
    "--channel-timeout=31536000",
    "--no-expose-tracebacks",
    "--ident=",
)


class Waitress(ApplicationServer):
    """`waitress` with one executing thread."""

    def _module_and_options(self) -> Sequence[str]:
        return ("waitress", f"--unix-socket={self.socket}", *_OPTIONS, APPLICATION)

    def _stop_signal(self) -> int:
        return signal.SIGINT
