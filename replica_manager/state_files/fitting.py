"""Whether a state can be that of a cell.  Pure."""

from pathlib import Path
from typing import NamedTuple

from replica_manager.config import Config
from replica_manager.server_settings import STATE_FORMAT
from replica_manager.state_files.errors import StateUnfit
from replica_manager.state_files.state_file import StateFile


class ImportedState(NamedTuple):
    """With what a new cell begins."""

    path: Path
    digest: str = ""
    """The content digest that it must have, hexadecimal; empty: any."""


def require_fit(state: StateFile, name: str, config: Config, now_us: int, digest: str = "") -> None:
    """Refuse a state that the domains of a cell cannot take in, or would give back otherwise.

    Args:
        state: that was read from a file.
        name: of the file.
        config: of the cell.
        now_us: the present, microseconds since 1970-01-01 UTC.
        digest: the content digest that it must have, hexadecimal; empty: any.

    Raises:
        StateUnfit: and why.
    """
    found, own_max = state.content_digest.hex(), config.limits.state_part_bytes_max
    part_max = state.head.part_bytes_max
    if digest and digest.lower() != found:
        raise StateUnfit(f"{name} has the digest {found}, wanted is {digest}", "it is another state, or another file")
    if state.head.state_format != STATE_FORMAT:
        raise StateUnfit(f"{name} has state format {state.head.state_format}, this cell uses {STATE_FORMAT}")
    if part_max != own_max:
        # The domains would cut the very same state elsewhere, and their digest would be another one.
        words = f"{name} is cut into parts of at most {part_max} bytes, this cell's service cuts at {own_max}"
        raise StateUnfit(words, f"say state_part_bytes_max = {part_max} in [limits]")
    begin_us, stands_us = config.service.clock_start_us or now_us, state.head.service_time_us
    if begin_us <= stands_us:
        # Services may rely on time that never goes back, as within one cell it does not.
        words = f"in {name} the service's clock stands at {stands_us}, this cell's begins at {begin_us}"
        raise StateUnfit(words, f"say clock_start_us = {stands_us + 1}, or later, in [service]")


def require_service(state: StateFile, name: str, service: str) -> None:
    """Refuse a state of another service, if the file says of which it is.

    Raises:
        StateUnfit: it is another one's.
    """
    if state.head.service and service != state.head.service:
        raise StateUnfit(f"{name} is a state of the service {state.head.service}, the domains run {service}")
