"""Rounds: the search for more active domains when a vote cannot end.

A round is opened by a `Stalled` entry for one number, or by an entry that leaves fewer than `T` domains active; then
it is for every number (`sequence` 0).  The next one closes it.

Source: SPARE §4.4.2, §4.4.3; design "Stalled verification" (`L2` of its list of traps: whether a domain "will answer"
is no function of the agreed order, so only positions decide here).
"""

from dataclasses import astuple, dataclass

from replica_manager.cell.entries import Stalled


@dataclass(slots=True)
class Round:
    """One round."""

    number: int
    count: int
    """Domains to be activated."""
    opened_at: int
    """Position of the entry that opened it."""
    sequence: int = 0
    """The number that stalls; 0: any."""
    accepted: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether as many domains were activated as it asked for."""
        return self.accepted >= self.count


class Rounds:
    """The current round, and what decides whether another one may be opened."""

    def __init__(self) -> None:
        """No round was opened yet."""
        self.current: Round | None = None
        self.opened_count = 0
        self._opened_at: dict[int, int] = {}
        """Number that stalled → position at which its newest round was opened."""
        self._accepted_at: dict[int, int] = {}
        """Number of the round → position of the newest offer accepted in it."""

    def is_void(self, stalled: Stalled) -> bool:
        """Whether something that may end the stall happened after what the proposer had seen.

        That is a round for the same number, or an accepted offer for it or a lower one: the domain activated then
        will vote on this number too.
        """
        if self._opened_at.get(stalled.sequence, 0) > stalled.seen:
            return True
        return any(
            position > stalled.seen for sequence, position in self._accepted_at.items() if sequence <= stalled.sequence
        )

    def open(self, sequence: int, count: int, position: int) -> Round:
        """Open a round; the one before is closed by that."""
        self.opened_count += 1
        self.current = Round(self.opened_count, count, position, sequence)
        self._opened_at[sequence] = position
        return self.current

    def maybe_accept(self, round_number: int, position: int) -> bool:
        """Accept an offer if it is for the current round and that one still lacks domains."""
        current = self.current
        if current is None or current.number != round_number or current.is_complete:
            return False
        current.accepted += 1
        self._accepted_at[current.sequence] = position
        return True

    def drop_through(self, stable_all: int) -> None:
        """Forget rounds for numbers that every live server has stable."""
        current = self.current
        if current is not None and 0 < current.sequence <= stable_all:
            self.current = None
        for positions in (self._opened_at, self._accepted_at):
            for sequence in [sequence for sequence in positions if 0 < sequence <= stable_all]:
                del positions[sequence]

    def rows(self) -> list[object]:
        """Return everything in a canonical order."""
        current = None if self.current is None else list(astuple(self.current))
        return [current, self.opened_count, sorted(self._opened_at.items()), sorted(self._accepted_at.items())]

    @classmethod
    def of_rows(cls, rows: list[object]) -> "Rounds":
        """Return what `rows` wrote."""
        current, opened_count, opened_at, accepted_at = rows
        rounds = cls()
        assert isinstance(opened_count, int)
        assert isinstance(opened_at, list)
        assert isinstance(accepted_at, list)
        rounds.opened_count = opened_count
        rounds.current = Round(*current) if isinstance(current, list) else None
        rounds._opened_at = dict(opened_at)
        rounds._accepted_at = dict(accepted_at)
        return rounds
