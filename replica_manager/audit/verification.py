"""Reads the audit logs on this machine, and says what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replica_manager.audit.chain import Chain, check_head, decode_head, read_chain
from replica_manager.audit.comparison import compare
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """One server's log."""

    server: int
    file: Path
    record_count: int
    head: str
    """Number and hash of the newest record, `12 3fa9…`: to be kept elsewhere by whoever does not trust this machine."""
    problems: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Verification:
    """All logs on this machine."""

    logs: Sequence[VerifiedLog]
    contradictions: Sequence[str] = field(default=())
    """Between logs of several servers."""

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.contradictions and not any(log.problems for log in self.logs)


def read_chains(config: Config) -> Mapping[int, Chain]:
    """Return the audit logs on this machine by server.

    Raises:
        OSError: one is there and cannot be read.
    """
    paths = CellPaths.of(config)
    files = {server.id: paths.audit_log(server.id) for server in config.server}
    return {server: read_chain(file.read_bytes(), server) for server, file in files.items() if file.exists()}


def verify(config: Config, now_us: int) -> Verification:
    """Verify every audit log on this machine, each for itself and against the others.

    Args:
        config: complete configuration.
        now_us: wall clock.

    Raises:
        OSError: a file cannot be read.
    """
    paths = CellPaths.of(config)
    # Heads first: a server that runs moves its head on only behind its log.
    heads = {server.id: _read(paths.audit_head(server.id)) for server in config.server}
    chains = read_chains(config)
    is_expected = config.cell.kind == "one-machine" and bool(chains)
    logs = []
    for server, head in heads.items():
        file, chain = paths.audit_log(server), chains.get(server)
        if chain is not None:
            logs.append(_verified(server, file, chain, head))
        elif head is not None or is_expected:
            logs.append(VerifiedLog(server, file, 0, "", ["it is not there"], ()))
    return Verification(logs, compare(chains, now_us))


def _verified(server: int, file: Path, chain: Chain, head: bytes | None) -> VerifiedLog:
    behind = f", and {chain.break_count - 1} more breaks behind it" if chain.break_count > 1 else ""
    breaks = [f"{chain.first_break}{behind}"] if chain.first_break else []
    against_head = check_head(chain, None if head is None else decode_head(head))
    problems = [*breaks, *([against_head] if against_head else []), *chain.losses]
    end = f"{chain.end.number} {chain.end.stated.hex()}" if chain.end.number else ""
    return VerifiedLog(server, file, len(chain.records), end, problems, tuple(chain.notes))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
