"""Proactive recoveries: where each server is on the way to a fresh domain in the place of one that has served long.

A recovery goes through the same steps on every server: its next generation is booted, all are filled with the state at
one point, and then, one server after the other, the sleeper becomes active, the next generation sleeps, and the domain
that was active is given up.  Whatever ends a step early, on any server, leaves the others where they are.

Source: SPARE §4.5; design "Proactive recovery".
"""

from dataclasses import astuple, dataclass, field

from replica_manager.identifiers import DomainId

LIGHTWEIGHT = "lightweight"
"""Only sleepers give their state: no client waits for it."""
RESILIENT = "resilient"
"""Active domains give theirs too: what was executed is compared with what was voted on."""
BOOTS_MAX = 3
"""Next generations that are booted for one server before the recovery goes on without it."""


@dataclass(slots=True)
class Renewal:
    """One server's part in a recovery."""

    server: int
    fresh: str = ""
    """Its next generation; empty: none is booted."""
    boots: int = 0
    """Next generations that were there so far."""
    is_filled: bool = False
    old: str = ""
    """The active domain that is given up; empty: not decided yet."""
    successor: str = ""
    """The sleeper that has become active in its place."""
    switched_at: int = 0
    """Position of the `Switch`; 0: none yet."""

    @property
    def is_leaving(self) -> bool:
        """Whether only the end of the old domain is missing."""
        return bool(self.old)


@dataclass(slots=True)
class Recovery:
    """A recovery that is under way."""

    number: int
    kind: str
    token: int
    """Chosen by who asked for it; 0: nobody did."""
    began_at: int
    point: int = 0
    """Position of the states that the next generations get; 0: not reached."""
    renewals: list[Renewal] = field(default_factory=list)
    """Servers that are not through, ascending."""
    renewed: list[int] = field(default_factory=list)
    """Servers that are."""
    given_up: list[tuple[int, str]] = field(default_factory=list)
    """Servers without which it went on, and why."""

    def of_server(self, server: int) -> Renewal | None:
        """Return a server's part, while it is not through."""
        return next((one for one in self.renewals if one.server == server), None)

    @property
    def leaving(self) -> tuple[DomainId, ...]:
        """Active domains that only wait for their successors."""
        return tuple(DomainId(one.old) for one in self.renewals if one.old)

    def of_fresh(self, domain: str) -> Renewal | None:
        """Return the part whose next generation this is."""
        return next((one for one in self.renewals if one.fresh == domain), None)

    @property
    def turn(self) -> int | None:
        """The server that boots its next generation now: one at a time, for they slow each other down."""
        return next((one.server for one in self.renewals if not one.fresh), None) if not self.point else None

    @property
    def is_booted(self) -> bool:
        """Whether every next generation is there."""
        return all(one.fresh for one in self.renewals)

    @property
    def fresh(self) -> tuple[DomainId, ...]:
        """All next generations that are not filled."""
        return tuple(DomainId(one.fresh) for one in self.renewals if one.fresh and not one.is_filled)

    @property
    def stage(self) -> str:
        """What it does now, for people."""
        if not self.point:
            return "booting"
        return "filling" if any(not one.is_filled for one in self.renewals) else "switching"

    def give_up(self, renewal: Renewal, reason: str) -> None:
        """Go on without a server."""
        self.renewals.remove(renewal)
        self.given_up.append((renewal.server, reason))

    def finish(self, renewal: Renewal) -> None:
        """A server is through."""
        self.renewals.remove(renewal)
        self.renewed.append(renewal.server)


class Recoveries:
    """The current recovery, and what decides about the next one."""

    def __init__(self) -> None:
        """None was ordered yet."""
        self.current: Recovery | None = None
        self.begun_count = 0
        self.debt = 0
        """How many in a row did not renew every server."""
        self.since_resilient = 0
        """How many were complete since the last one that compared what was executed."""

    def begin(self, kind: str, token: int, servers: tuple[int, ...], position: int) -> Recovery:
        """Begin the next one."""
        self.begun_count += 1
        renewals = [Renewal(server) for server in servers]
        self.current = Recovery(self.begun_count, kind, token, position, renewals=renewals)
        return self.current

    def note_gone(self, domain: DomainId) -> None:
        """A domain is retired, for whatever reason."""
        current = self.current
        if current is None:
            return
        for renewal in list(current.renewals):
            if domain == renewal.old:
                current.finish(renewal)
            elif domain == renewal.successor:
                current.give_up(renewal, f"{domain} ended before it could take over")
            elif domain == renewal.fresh:
                self._note_fresh_gone(current, renewal)

    @staticmethod
    def _note_fresh_gone(current: Recovery, renewal: Renewal) -> None:
        if renewal.is_leaving:
            return  # it sleeps already; redundancy is repaired as ever
        if current.point or renewal.boots >= BOOTS_MAX:
            current.give_up(renewal, f"{renewal.fresh} ended")
        else:
            renewal.fresh = ""

    def note_left(self, server: int) -> None:
        """A server left, with all its domains: it comes back with fresh ones in any case."""
        renewal = None if self.current is None else self.current.of_server(server)
        if self.current is not None and renewal is not None:
            self.current.renewals.remove(renewal)

    def abort(self, reason: str) -> None:
        """Go on without the servers that hold the recovery up: whose next generation is not there, or not filled."""
        current = self.current
        if current is None:
            return
        without = [] if current.point else [one for one in current.renewals if not one.fresh]
        for renewal in without or [one for one in current.renewals if not one.is_filled]:
            current.give_up(renewal, reason)

    def maybe_end(self) -> Recovery | None:
        """Return the recovery if it has just ended."""
        current = self.current
        if current is None or current.renewals:
            return None
        self.current = None
        self.debt = self.debt + 1 if current.given_up else 0
        if not current.given_up:
            self.since_resilient = 0 if current.kind == RESILIENT else self.since_resilient + 1
        return current

    # -- transferring ------------------------------------------------------------------------------------------

    def rows(self) -> list[object]:
        """Return everything in a canonical order."""
        return [self._current_row(), self.begun_count, self.debt, self.since_resilient]

    def _current_row(self) -> list[object] | None:
        one = self.current
        if one is None:
            return None
        renewals = [list(astuple(renewal)) for renewal in one.renewals]
        return [one.number, one.kind, one.token, one.began_at, one.point, renewals, one.renewed, one.given_up]

    @classmethod
    def of_rows(cls, rows: list[object]) -> "Recoveries":
        """Return what `rows` wrote."""
        current, begun_count, debt, since_resilient = rows
        assert isinstance(begun_count, int)
        assert isinstance(debt, int)
        assert isinstance(since_resilient, int)
        recoveries = cls()
        recoveries.begun_count, recoveries.debt, recoveries.since_resilient = begun_count, debt, since_resilient
        if isinstance(current, list):
            number, kind, token, began_at, point, renewals, renewed, given_up = current
            recoveries.current = Recovery(
                number, kind, token, began_at, point, [Renewal(*row) for row in renewals], list(renewed)
            )
            recoveries.current.given_up = [(server, reason) for server, reason in given_up]
        return recoveries
