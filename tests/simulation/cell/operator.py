"""The operator, who decides about requests that the cell holds."""

from tests.simulation.cell.budget import Budget
from tests.simulation.cell.domain_checkers import present_voters
from tests.simulation.cell.history import History
from tests.simulation.cell.world import World

LOOK_US = 100_000
REACTION_US = 500_000
"""From the alarm to the decision, at least."""
ANSWER_US = 3_000_000
"""A decision without an answer for so long is given again."""


class Operator:
    """Skips or retries held requests."""

    def __init__(self, world: World, budget: Budget, history: History) -> None:
        """Nothing is held."""
        self._world = world
        self._budget = budget
        self._history = history
        self._token = 0
        self._ordered_us = 0
        self._sequence = 0
        self.has_lost = False
        """Whether so many domains died of a request that too few are left to vote: an operator would import a state."""

    def watch(self) -> None:
        """Look now and then until the poisonous request was dealt with."""
        self._look()
        if not self._is_over():
            self._world.after(LOOK_US, self.watch)

    def _is_over(self) -> bool:
        resolution = self._history.resolutions.get(self._token)
        is_dealt_with = resolution is not None and not resolution.objection
        if self.has_lost or (is_dealt_with and self._budget.is_whole()):
            self._budget.end_poison()
            return True
        return False

    def _look(self) -> None:
        servers = self._budget.remaining
        for server in servers:
            # Who has lost all its domains leaves; with a witness down as well, too few are left to agree on anything.
            is_split = self._budget.witnesses_down > 0 and not server.is_serving
            if is_split or len(present_voters(server)) < server.core.cell.threshold:
                self.has_lost = True
        resolution = self._history.resolutions.get(self._token)
        if resolution is not None and not resolution.objection:
            return
        for sequence, noticed_us in self._history.held.items():
            is_time = self._world.now_us >= noticed_us + REACTION_US
            is_answered = resolution is not None or self._world.now_us >= self._ordered_us + ANSWER_US
            if is_time and (not self._token or is_answered):
                # A number that could not be skipped is tried once more.
                self._decide(sequence, "retry" if resolution is not None else None)
                return

    def _decide(self, sequence: int, action: str | None) -> None:
        draw = self._world.random
        chosen = action or draw.choice(("skip", "skip", "retry"))
        if chosen == "retry":
            self._history.lethal.clear()  # the cause was removed
        self._token += 1
        self._ordered_us = self._world.now_us
        server = draw.choice(self._budget.remaining)
        server.core.order_resolution(sequence, chosen, self._token)
        server.touch()
