"""Requests that kill the domains which execute them.

If more than `f'` domains stopped at the same number, the bound is exceeded: no further domain is fed it, so that the
rest keep their state, until an operator decides.  Whether a number is stable somewhere is no agreed knowledge, so it is
skipped only when every live server has said that it is not stable there; and only if some domain has nothing of it in
its state, for the cell has to go on from that one.

Source: design "More rounds, and more than f faults" (`L13` of its list of traps).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

NO_FRESH_DOMAIN = "every domain has executed it, so skipping it would leave no state to go on from"
MEMBERS_CHANGED = "servers left, joined or started again meanwhile; ask again"
IS_STABLE = "it is stable on server {}"


@dataclass(slots=True)
class Skipping:
    """An operator's wish to skip a number, until every server has answered."""

    token: int
    consents: dict[int, bool] = field(default_factory=dict)
    """Server → whether a domain there was not handed the number."""


class Poison:
    """How many domains stopped at which number, and what was decided about it."""

    def __init__(self) -> None:
        """Nobody died."""
        self._deaths: dict[int, int] = {}
        self._held: set[int] = set()
        self.skipped: set[int] = set()
        """Numbers that have a fixed error reply and no update."""
        self._skipping: dict[int, Skipping] = {}

    def note_death(self, sequence: int, f_prime: int) -> bool:
        """A domain stopped while it executed `sequence`; return whether the number is held from now on."""
        deaths = self._deaths[sequence] = self._deaths.get(sequence, 0) + 1
        if deaths <= f_prime or sequence in self._held or sequence in self.skipped:
            return False
        self._held.add(sequence)
        return True

    def is_held(self, sequence: int) -> bool:
        """Whether no domain may be fed this number."""
        return sequence in self._held

    def is_being_skipped(self, sequence: int) -> bool:
        """Whether servers are being asked about this number."""
        return sequence in self._skipping

    def begin_skipping(self, sequence: int, token: int) -> None:
        """Every live server is asked for its consent."""
        self._skipping[sequence] = Skipping(token)

    def consent(self, server: int, sequence: int, *, is_open: bool, has_fresh_domain: bool) -> tuple[int, str] | None:
        """Note a server's answer; return `(token, objection)` if it ends the asking with a refusal."""
        skipping = self._skipping.get(sequence)
        if skipping is None:
            return None
        if not is_open:
            del self._skipping[sequence]
            return skipping.token, IS_STABLE.format(server)
        skipping.consents[server] = has_fresh_domain
        return None

    def conclude(self, live_servers: Iterable[int]) -> list[tuple[int, int, str]]:
        """Return `(sequence, token, objection)` of each number about which every live server has answered."""
        live = set(live_servers)
        done = []
        for sequence, skipping in sorted(self._skipping.items()):
            if live <= skipping.consents.keys():
                has_fresh = any(skipping.consents[server] for server in live)
                done.append((sequence, skipping.token, "" if has_fresh else NO_FRESH_DOMAIN))
        for sequence, _, objection in done:
            del self._skipping[sequence]
            if not objection:
                self._held.discard(sequence)
                self.skipped.add(sequence)
        return done

    def retry(self, sequence: int) -> None:
        """Domains may be fed the number again; deaths are counted anew."""
        self._held.discard(sequence)
        self._deaths.pop(sequence, None)

    def give_up_skipping(self) -> list[tuple[int, int, str]]:
        """Membership changed, or the cell restarts: who was asked is not who has to consent; return what ended."""
        ended = [(sequence, skipping.token, MEMBERS_CHANGED) for sequence, skipping in sorted(self._skipping.items())]
        self._skipping.clear()
        return ended

    def drop_through(self, stable_all: int) -> None:
        """Forget what every live server has stable."""
        for sequence in [sequence for sequence in self._deaths if sequence <= stable_all]:
            del self._deaths[sequence]
        self._held = {sequence for sequence in self._held if sequence > stable_all}
        self.skipped = {sequence for sequence in self.skipped if sequence > stable_all}

    def rows(self) -> list[object]:
        """Return everything in a canonical order."""
        skipping = [[sequence, s.token, sorted(s.consents.items())] for sequence, s in sorted(self._skipping.items())]
        return [sorted(self._deaths.items()), sorted(self._held), sorted(self.skipped), skipping]

    @classmethod
    def of_rows(cls, rows: list[object]) -> "Poison":
        """Return what `rows` wrote."""
        deaths, held, skipped, skipping = rows
        assert isinstance(deaths, list)
        assert isinstance(held, list)
        assert isinstance(skipped, list)
        assert isinstance(skipping, list)
        poison = cls()
        poison._deaths, poison._held, poison.skipped = dict(deaths), set(held), set(skipped)
        poison._skipping = {sequence: Skipping(token, dict(consents)) for sequence, token, consents in skipping}
        return poison
