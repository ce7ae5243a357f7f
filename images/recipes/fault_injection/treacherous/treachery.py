"""What one domain was told to do, and when it is time to do it.  Pure."""

from typing import Dict, List, Optional, Set, Tuple

from .orders import FaultKind, FaultOrder, find_orders


class _Armed:
    """An order and how often it could have acted and has."""

    def __init__(self, order: FaultOrder) -> None:
        self.order = order
        self._occasions = 0
        self._actions = 0

    def is_due(self) -> bool:
        """Count an occasion; say whether to act."""
        self._occasions += 1
        since_first = self._occasions - self.order.first
        is_due = since_first >= 0 and since_first % self.order.every == 0
        if not is_due or 0 < self.order.times <= self._actions:
            return False
        self._actions += 1
        return True


class Treachery:
    """The orders of one domain.

    Each kind is asked for by one thread; a thread that streams a state may do so beside the main one.
    """

    def __init__(self, domain: str) -> None:
        """`domain` is the name under which the cell knows this domain, such as `s0.g1`."""
        self._domain = domain
        self._server = domain.partition(".")[0]
        self._armed: Tuple[_Armed, ...] = ()
        self._numbers: Set[int] = set()
        self._staged: Dict[int, List[FaultOrder]] = {}

    def take_orders(self, data: bytes) -> List[FaultOrder]:
        """Arm the orders within `data` that are for this domain and new; return them."""
        taken = [order for order in find_orders(data) if self._is_mine(order)]
        for order in taken:
            self._numbers.add(order.number)
            is_end = order.kind is FaultKind.BEHAVE
            self._armed = () if is_end else (*self._armed, _Armed(order))
        return taken

    def is_armed(self, *kinds: FaultKind) -> bool:
        """Say whether an order of one of `kinds` was given."""
        return any(armed.order.kind in kinds for armed in self._armed)

    def due(self, kind: FaultKind) -> Optional[FaultOrder]:
        """Count an occasion for `kind`; return the order to carry out now."""
        due = [armed.order for armed in self._armed if armed.order.kind is kind and armed.is_due()]
        return due[0] if due else None

    def stage(self, sequence: int, *kinds: FaultKind) -> None:
        """Count an occasion for each of `kinds`; keep what is due for the answer to `sequence`."""
        due = [order for order in map(self.due, kinds) if order is not None]
        if due:
            self._staged.setdefault(sequence, []).extend(due)

    @property
    def has_staged(self) -> bool:
        """Whether something is due at a coming answer."""
        return bool(self._staged)

    def take_staged(self, sequence: int) -> List[FaultOrder]:
        """Return, and forget, what is due at the answer to `sequence`."""
        return self._staged.pop(sequence, [])

    def _is_mine(self, order: FaultOrder) -> bool:
        return order.target in (self._domain, self._server) and order.number not in self._numbers
