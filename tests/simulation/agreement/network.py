"""A network that loses, duplicates, delays and cuts, in one direction or both."""

import random
from collections.abc import Callable, Iterable

from agreement.identifiers import MemberId
from agreement.messages import Message, decode_message, encode_message
from tests.simulation.agreement.options import Options


class SimulatedNetwork:
    """Decides for every message when it arrives, and how often."""

    def __init__(
        self,
        options: Options,
        rng: random.Random,
        deliver_after: Callable[[int, MemberId, MemberId, Message], None],
    ) -> None:
        """`deliver_after(delay_ms, sender, receiver, message)` puts a message into the schedule."""
        self._options = options
        self._rng = rng
        self._deliver_after = deliver_after
        self._cut: set[tuple[MemberId, MemberId]] = set()
        self.is_perfect = False
        self.witness_messages = 0

    def send(self, sender: MemberId, receiver: MemberId, message: Message) -> None:
        """Take a message; what becomes of it is drawn."""
        if not (sender.is_server and receiver.is_server):
            self.witness_messages += 1
        if (sender, receiver) in self._cut:
            return
        options, rng = self._options, self._rng
        if options.goes_by_wire:
            message = decode_message(encode_message(message))
        if self.is_perfect:
            self._deliver_after(1, sender, receiver, message)
            return
        if options.loss and rng.random() < options.loss:
            return
        for _ in range(2 if options.duplication and rng.random() < options.duplication else 1):
            delay_ms = rng.randint(1, options.delay_max_ms)
            if options.straggling and rng.random() < options.straggling:
                delay_ms *= rng.randint(1, 10)
            self._deliver_after(delay_ms, sender, receiver, message)

    def is_cut(self, sender: MemberId, receiver: MemberId) -> bool:
        """Whether this direction is cut."""
        return (sender, receiver) in self._cut

    def cut(self, senders: Iterable[MemberId], receivers: Iterable[MemberId]) -> None:
        """Lose everything from each of `senders` to each of `receivers`."""
        targets = list(receivers)
        self._cut |= {(sender, receiver) for sender in senders for receiver in targets if sender != receiver}

    def split(self, sides: Iterable[Iterable[MemberId]]) -> None:
        """Replace all cuts by a partition into `sides`."""
        self.heal()
        members = [list(side) for side in sides]
        for one in members:
            for other in members:
                if one is not other:
                    self.cut(one, other)

    def heal(self) -> None:
        """End all cuts."""
        self._cut.clear()
