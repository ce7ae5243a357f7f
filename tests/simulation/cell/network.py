"""The private network: links between members that delay, lose, repeat and reorder messages, or break."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from agreement.identifiers import MemberId
from tests.simulation.cell.world import World


@dataclass(slots=True)
class NetworkFaults:
    """Chances per message; 0 in a quiet network."""

    loss: float = 0.0
    duplication: float = 0.0
    latency_us_max: int = 400
    spike: float = 0.0
    """Chance that a message takes a hundred times as long: it is overtaken by later ones."""


Receive = Callable[[MemberId, list[object]], None]


class Network:
    """Carries batches of messages between members."""

    def __init__(self, world: World, faults: NetworkFaults) -> None:
        """Connect nobody yet."""
        self._world = world
        self.faults = faults
        self._receivers: dict[MemberId, Receive] = {}
        self._cut: Counter[tuple[MemberId, MemberId]] = Counter()
        """By link: cuts that have not been healed; there may be several."""
        self.on_healed: Callable[[MemberId, MemberId], None] = lambda _sender, _receiver: None
        self.lost_count = 0
        self._sure_us: dict[tuple[MemberId, MemberId], int] = {}

    def join(self, member: MemberId, receive: Receive) -> None:
        """Deliver what is sent to `member` to `receive`."""
        self._receivers[member] = receive

    def leave(self, member: MemberId) -> None:
        """`member` is gone."""
        self._receivers.pop(member, None)

    def cut(self, sender: MemberId, receiver: MemberId) -> None:
        """Lose everything from `sender` to `receiver`, in this direction."""
        self._cut[sender, receiver] += 1

    def heal(self, sender: MemberId, receiver: MemberId) -> None:
        """End a cut; after the last one both ends notice a new connection."""
        link = (sender, receiver)
        if link in self._cut:
            self._cut[link] -= 1
            if not self._cut[link]:
                del self._cut[link]
                self.on_healed(sender, receiver)

    def heal_all(self) -> None:
        """End every cut and every other fault."""
        self.faults = NetworkFaults()
        for sender, receiver in sorted(self._cut):
            self._cut[sender, receiver] = 1
            self.heal(sender, receiver)

    def send(self, sender: MemberId, receiver: MemberId, messages: list[object]) -> None:
        """Send a batch."""
        draw, faults = self._world.random, self.faults
        if (sender, receiver) in self._cut or (faults.loss and draw.random() < faults.loss):
            self.lost_count += 1
            return
        copies = 2 if faults.duplication and draw.random() < faults.duplication else 1
        for _ in range(copies):
            delay_us = 50 + int(draw.random() * faults.latency_us_max)
            if faults.spike and draw.random() < faults.spike:
                delay_us *= 100
            self._deliver_after(delay_us, sender, receiver, messages)

    def send_in_order(self, sender: MemberId, receiver: MemberId, message: object) -> None:
        """Send what is said once per connection: it comes in this order, unless there is no connection."""
        if (sender, receiver) in self._cut:
            return
        link, now_us = (sender, receiver), self._world.now_us
        due_us = now_us + 50 + int(self._world.random.random() * self.faults.latency_us_max)
        self._sure_us[link] = due_us = max(due_us, self._sure_us.get(link, 0))
        self._deliver_after(due_us - now_us, sender, receiver, [message])

    def is_cut(self, one: MemberId, other: MemberId) -> bool:
        """Whether nothing gets through in one of the directions."""
        return (one, other) in self._cut or (other, one) in self._cut

    def _deliver_after(self, delay_us: int, sender: MemberId, receiver: MemberId, messages: list[object]) -> None:
        """A connection is one of two processes: whoever starts again gets nothing that was meant for the former one."""
        receivers = self._receivers
        to, of = receivers.get(receiver), receivers.get(sender)

        def arrive() -> None:
            if to is not None and receivers.get(receiver) is to and receivers.get(sender) in (of, None):
                to(sender, messages)

        self._world.after(delay_us, arrive)
