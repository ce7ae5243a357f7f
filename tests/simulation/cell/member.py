"""The shell of a simulated member: the same order of work as the real one, over virtual disk and network."""

from collections.abc import Callable, Sequence
from typing import Any

from agreement.identifiers import Identity, MemberId
from agreement.node import Node
from agreement.output import NOTHING
from agreement.records import PREFIX, PREFIX_END
from agreement.settings import AgreementSettings
from agreement.storage import Write
from agreement.witness import Witness
from tests.simulation.cell.network import Network
from tests.simulation.cell.world import World
from tests.simulation.fake_storage import FakeStableStorage

SYNC_US_MIN, SYNC_US_MAX = 200, 2000


class SimulatedMember:
    """Runs a node or a witness, one process after the other, on one disk."""

    def __init__(self, world: World, network: Network, own: MemberId) -> None:
        """Prepare; `begin_life` starts the first process."""
        self.world = world
        self.network = network
        self.own = own
        self.agreement: Node | Witness
        self.is_up = False
        self.life = 0
        """Counts starts and ends."""
        self.storage = FakeStableStorage(is_synced=False)
        self.on_deliveries: Callable[[Any], None] = lambda _: None
        self.on_events: Callable[[Any], None] = lambda _: None

    def begin_life(self, core: Node | Witness) -> None:
        """A process starts."""
        assert not self.is_up
        self.life += 1
        self.is_up = True
        self.agreement = core
        self._outgoing: dict[MemberId, list[object]] = {}
        self._timer_us = -1
        self._pass_is_due = False
        self._written_us = 0
        self.network.join(self.own, self.receive)
        self.touch()

    def crash(self) -> None:
        """End at once; what was not synced may be lost."""
        self.end_life()
        self.storage.crash(self.world.random)

    def end_life(self) -> None:
        """The process ends."""
        self.is_up = False
        self.life += 1
        self.network.leave(self.own)

    def later(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do something, unless this process has ended by then."""
        life = self.life

        def act() -> None:
            if life == self.life:
                action()

        self.world.after(delay_us, act)

    def receive(self, sender: MemberId, messages: list[object]) -> None:
        """Take a batch of messages."""
        if self.is_up:
            for message in messages:
                self.take(sender, message)
            self.touch()

    def take(self, sender: MemberId, message: Any) -> None:
        """Take one message."""
        self.agreement.receive(sender, message, self.world.now_ms)

    def post(self, member: MemberId, message: object) -> None:
        """Send with the other messages of this turn."""
        self._outgoing.setdefault(member, []).append(message)

    def touch(self) -> None:
        """See to it that a pass follows."""
        if not self._pass_is_due:
            self._pass_is_due = True
            self.later(5, self._pass)

    def _pass(self) -> None:
        self._pass_is_due = False
        life = self.life
        while (output := self.agreement.take_output()) is not NOTHING:
            if output.token is not None:
                self._write_log(output.writes, output.token)
            for member, message in output.sends:
                self.post(member, message)
            if output.deliveries:
                self.on_deliveries(output.deliveries)
            if output.events:
                self.on_events(output.events)
            if life != self.life:
                return
        self.after_pass()
        if life != self.life:
            return
        for member, messages in self._outgoing.items():
            self.network.send(self.own, member, messages)
        self._outgoing = {}
        self._arm()

    def after_pass(self) -> None:
        """Do what else a pass has to do, before messages leave."""

    def _write_log(self, writes: Sequence[Write], token: int) -> None:
        def written() -> None:
            self.agreement.on_persisted(token, self.world.now_ms)
            self.touch()

        self.write(writes, written)

    def write(self, writes: Sequence[Write], on_written: Callable[[], None]) -> None:
        """Write a batch behind all earlier ones: a disk writes one after the other."""
        self.storage.write(writes)

        def written() -> None:
            self.storage.sync(1)
            on_written()

        sync_us = self.world.random.randrange(SYNC_US_MIN, SYNC_US_MAX)
        self._written_us = max(self._written_us, self.world.now_us + sync_us)
        self.later(self._written_us - self.world.now_us, written)

    def _arm(self) -> None:
        due_ms = self.agreement.next_timer_ms()
        if due_ms is None or 0 <= self._timer_us <= due_ms * 1000:
            return
        due_us = max(due_ms * 1000, self.world.now_us + 1000)
        self._timer_us = due_us
        self.later(due_us - self.world.now_us, lambda: self._timer(due_us))

    def _timer(self, due_us: int) -> None:
        if due_us != self._timer_us:
            return  # an earlier one was set since
        self._timer_us = -1
        self.agreement.on_timer(self.world.now_ms)
        self.touch()


class SimulatedWitness(SimulatedMember):
    """A witness and its disk."""

    def __init__(
        self, world: World, network: Network, own: MemberId, settings: AgreementSettings, members: list[Identity]
    ) -> None:
        """Start for the first time."""
        super().__init__(world, network, own)
        self._settings = settings
        self._members = members
        self.begin_life(Witness.born(Identity(own, 1), settings, members, 0))

    def restart(self) -> None:
        """Come back with what the disk holds."""
        content = list(self.storage.scan(PREFIX, PREFIX_END))
        identity = Identity(self.own, 1)
        if content:
            core = Witness.recovered(identity, self._settings, self._members, content, self.world.now_ms)
        else:
            core = Witness.born(identity, self._settings, self._members, self.world.now_ms)
        self.begin_life(core)
