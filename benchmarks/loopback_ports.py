"""Ports of 127.0.0.1 for cells that run beside others."""

import random
import socket
from pathlib import Path

LOWEST = 10_000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_handed_out: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on, that was not returned before here, and that no connection gets by chance.

    A port of the range for outgoing connections may be another one's when a killed server wants it again; it may even
    be taken by who tries to reach the dead server.
    """
    first_outgoing = int(_RANGE_FILE.read_text().split()[0])
    while True:
        # Not the process's generator, which a test may have seeded: others draw at the same time.
        port = random.SystemRandom().randrange(LOWEST, first_outgoing)
        if port not in _handed_out and _is_free(port):
            _handed_out.add(port)
            return port


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
