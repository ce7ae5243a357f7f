"""Clients cannot use up the files that the server needs for itself."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from replica_manager.file_limit import FILES_RESERVED, admit_connections


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """Restore the limits afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_low_soft_limit_is_raised_to_what_is_needed(hard_limit: int) -> None:
    """As far as the hard limit allows, and no further than needed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard_limit))
    assert admit_connections(1000) == 1000
    assert soft_limit() == 1000 + FILES_RESERVED


def test_a_high_soft_limit_stays(hard_limit: int) -> None:
    """Somebody wanted it."""
    before = soft_limit()
    assert admit_connections(8) == 8
    assert soft_limit() == before


def test_what_the_hard_limit_does_not_allow_is_not_admitted(hard_limit: int) -> None:
    """Fewer connections, so that the server's own files still fit."""
    assert admit_connections(10 * hard_limit) == hard_limit - FILES_RESERVED


def test_under_a_very_low_hard_limit_clients_get_half(hard_limit: int) -> None:
    """A server that serves few is better than one that serves one."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 600));"
        "from replica_manager.file_limit import admit_connections; print(admit_connections(8192))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"300\n"
