"""One user's way through the site: draws the next interaction, keeps the way back.

Source: the RUBiS client emulator's transition rule.
"""

from random import Random
from typing import Final

from rubis_adapter.client_emulator.interactions import BACK, END_OF_SESSION, Interaction
from rubis_adapter.client_emulator.transitions import TransitionTable

TRANSITIONS_MAX: Final = 1000
"""Interactions after which a session ends whatever the table says; the original emulator's default."""


class SessionWalk:
    """The walk of one session, from `Home` to the end of the session.

    `current` is the interaction whose request is to be sent or has been sent last.  The history is the way back from
    it: it grows while the interactions allow going back and is dropped as soon as one does not.
    """

    def __init__(self, table: TransitionTable, random: Random, transitions_max: int = TRANSITIONS_MAX) -> None:
        self.current: Interaction = Interaction.HOME
        self._table = table
        self._random = random
        self._transitions_left = transitions_max - 1
        self._history: list[Interaction] = []

    def advance(self) -> Interaction | None:
        """Draws what follows the answered `current`; None at the end of the session."""
        if self._transitions_left <= 0:
            return None
        self._transitions_left -= 1
        column = self._table.draw(self.current, self._random.random())
        if column == END_OF_SESSION:
            return None
        if column == BACK:
            return self.go_back()
        chosen = Interaction(column)
        if self._table.allows_back(chosen):
            self._history.append(self.current)
        else:
            self._history.clear()
        self.current = chosen
        return chosen

    def go_back(self) -> Interaction:
        """Returns to the interaction before `current`, or to `Home` where the history has none.

        Also the way out of a page that found nothing ("Sorry") and of one that lacks what the next request needs.
        """
        self.current = self._history.pop() if self._history else Interaction.HOME
        return self.current

    def reset(self) -> Interaction:
        """Returns to `Home` after a failed request; the history is dropped, the session goes on."""
        self._history.clear()
        self.current = Interaction.HOME
        return self.current
