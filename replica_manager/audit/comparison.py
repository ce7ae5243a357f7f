"""Where the audit logs of several servers contradict each other.  Pure.

All servers that were told of a position record the same changes there.  What a server was not told (a snapshot covered
it, its disk refused, the operator accepted a loss) its log names, and nobody expects it there.  At the end of a log
nothing is expected of a server that has left, that ended in good order, or that others are a few seconds ahead of.

A cell that was discarded and began anew (`cell up --fresh`) counts positions from 1 again: such lives are numbered
backwards, since older records may be missing; the present one is 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replica_manager.audit.chain import Chain
from replica_manager.audit.record import AGREED_KINDS, CHANGES_DROPPED, LOG_OPENED, ROLES_READ, AuditRecord

GRACE_US = 10_000_000
"""A server that lives records a change this long after another one at the latest."""
SETTLED_US = 1_000_000
"""The newest position of a log is compared when its last record is older than this."""

Contents = Mapping[bytes, AuditRecord]


@dataclass(slots=True)
class Life:
    """What one log says of one life of the cell."""

    records: list[AuditRecord] = field(default_factory=list)
    positions: dict[int, dict[bytes, AuditRecord]] = field(default_factory=dict)
    """Agreed changes by position."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Positions of which the log says that it does not have them: after the first one, up to the second one."""
    newest: int = 0
    live_servers: Sequence[int] = ()
    """At the end, as this log has it."""

    def add(self, record: AuditRecord) -> None:
        """Take in the next record of the file."""
        self.records.append(record)
        data = record.data
        if record.kind in (ROLES_READ, CHANGES_DROPPED):
            since, through = record.number_in("since"), record.number_in("through")
            self.gaps.append((since, through))
            self.newest = max(self.newest, through)
        elif record.kind == LOG_OPENED and data.get("is_loss_accepted"):
            self.gaps.append((0, self.newest))
        elif record.kind in AGREED_KINDS:
            self.positions.setdefault(record.position, {})[record.content] = record
            self.newest = max(self.newest, record.position)
        if isinstance(data.get("live_servers"), list):
            self.live_servers = data["live_servers"]

    def covers(self, position: int, now_us: int) -> bool:
        """Whether the log claims to have everything at `position`."""
        if not 0 < position <= self.newest:
            return False
        # Several changes at one position are several writes: a reader may come between them.
        is_settled = position < self.newest or self.records[-1].at_us < now_us - SETTLED_US
        return is_settled and not any(since < position <= through for since, through in self.gaps)


def lives_of(chain: Chain) -> Sequence[Life]:
    """Return the lives of the cell in a log, the present one first; those in which nothing was agreed are left out."""
    lives = [Life()]
    for record in chain.records:
        if record.is_birth:
            lives.append(Life())
        lives[-1].add(record)
    *former, present = lives
    return [present, *(life for life in reversed(former) if life.positions)]


def compare(chains: Mapping[int, Chain], now_us: int) -> Sequence[str]:
    """Return a sentence for every position where logs contradict each other, and for every log that ends early.

    Args:
        chains: by server.
        now_us: wall clock.
    """
    by_server = {server: lives_of(chain) for server, chain in chains.items()}
    found: list[str] = []
    for index in range(max(map(len, by_server.values()), default=0)):
        lives = {server: lives[index] for server, lives in by_server.items() if index < len(lives)}
        found += _contradictions(lives, now_us)
        if index == 0:
            closed = {server for server, chain in chains.items() if chain.is_closed}
            found += _early_ends(lives, closed, now_us)
    return found


def _contradictions(lives: Mapping[int, Life], now_us: int) -> Iterator[str]:
    for position in sorted({position for life in lives.values() for position in life.positions}):
        covering = [(server, life) for server, life in lives.items() if life.covers(position, now_us)]
        told = {server: life.positions.get(position, {}) for server, life in covering}
        everything = {content for contents in told.values() for content in contents}
        if any(contents.keys() != everything for contents in told.values()):
            words = "; ".join(_words(servers, contents) for servers, contents in _grouped(told))
            yield f"position {position}: {words}"


def _grouped(told: Mapping[int, Contents]) -> Iterator[tuple[Sequence[int], Contents]]:
    """Servers that say the same, together."""
    groups: dict[frozenset[bytes], list[int]] = {}
    for server, contents in told.items():
        groups.setdefault(frozenset(contents), []).append(server)
    for servers in groups.values():
        yield servers, told[servers[0]]


def _words(servers: Sequence[int], contents: Contents) -> str:
    who = ", ".join(f"server {server}" for server in servers)
    verb = "says" if len(servers) == 1 else "say"
    return f"{who} {verb} {_describe(contents.values()) if contents else 'nothing'}"


def _describe(records: Iterable[AuditRecord]) -> str:
    return " and ".join(f"({describe(record.kind, record.data)})" for record in records)


def describe(kind: str, data: Mapping[str, Any]) -> str:
    """Return a change in one line."""
    return kind.replace("_", " ") + ": " + ", ".join(f"{key} {value}" for key, value in data.items())


def _early_ends(lives: Mapping[int, Life], closed: Iterable[int], now_us: int) -> Iterator[str]:
    ahead = max(lives, key=lambda server: lives[server].newest, default=None)
    if ahead is None:
        return
    furthest = lives[ahead]
    for server, life in lives.items():
        lacking = [
            record
            for position, contents in furthest.positions.items()
            if position > life.newest
            for record in contents.values()
        ]
        is_expected = server in furthest.live_servers and server not in closed
        if is_expected and any(record.at_us < now_us - GRACE_US for record in lacking):
            yield (
                f"server {server} has nothing behind position {life.newest}, server {ahead} goes on to"
                f" {furthest.newest}: its log was cut, or its process was killed and has not started again"
            )
