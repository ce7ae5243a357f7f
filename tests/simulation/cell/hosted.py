"""The domains of a simulated server, their disks and their hypervisor."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from exec_wrapper.wire import Execute, ToWrapper
from replica_manager.execution.feed import PowerAction
from replica_manager.identifiers import DomainId
from tests.simulation.cell.misbehaviour import Misbehaviour
from tests.simulation.cell.rules import require
from tests.simulation.fake_domain import FakeDisk, FakeDomain

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer

BOOT_US = (100_000, 600_000)
FIRST_BOOT_US = (1000, 20_000)
HELLO_LIMIT_US = 3_000_000
"""A fresh domain that says no Hello for so long could not be booted."""
ROWS_PER_PART = 2
"""So that a state has more parts than may be on their way at a time."""


class HostedDomains:
    """What outlives the manager's process: disks, and for a while the domains themselves."""

    def __init__(self, server: "SimulatedServer", power_us_max: int) -> None:
        """Host nothing."""
        self._server = server
        self._power_us_max = power_us_max
        self._honest = Misbehaviour(server.world.random)
        self.disks: dict[DomainId, FakeDisk] = {}
        self.running: dict[DomainId, FakeDomain] = {}
        self.misbehaviours: dict[DomainId, Misbehaviour] = {}
        self.slowness: dict[DomainId, int] = {}
        self.suspended: set[DomainId] = set()
        self.held: set[int] = set()
        """Requests that must be fed to nobody."""
        self._known: set[DomainId] = set()
        """Domains of this process whose destruction was not asked for."""
        self._ending: set[DomainId] = set()
        self._busy_until_us: dict[DomainId, int] = {}
        self._handed: dict[DomainId, deque[ToWrapper]] = {}
        """Frames that were not answered yet."""
        self.on_boot: Callable[[DomainId], None] = lambda _domain: None

    # -- life --------------------------------------------------------------------------------------------------

    def open(self, *, keep_disks: bool) -> None:
        """A manager starts: it destroys what a former one left, with the disks or without."""
        self.end()
        self._known.clear()
        self._ending.clear()
        self.held.clear()
        if not keep_disks:
            self.disks.clear()

    def end(self) -> None:
        """All domains end: they may have done a part of what they were handed, and written a part of that."""
        draw = self._server.world.random
        for name, domain in self.running.items():
            for _ in range(draw.randint(0, len(self._handed[name]))):
                frame = self._handed[name].popleft()
                if isinstance(frame, Execute) and frame.payload in self._server.history.lethal:
                    break
                domain.receive(frame)
            domain.disk.lose(draw.choice((0, draw.randint(0, domain.disk.unsynced_count))))
        self.running.clear()
        self.suspended.clear()

    def lose_power(self) -> None:
        """All domains end at once, and what was not synced may be lost."""
        draw = self._server.world.random
        for domain in self.running.values():
            domain.disk.lose(draw.choice((domain.disk.unsynced_count, draw.randint(0, domain.disk.unsynced_count))))
        self.running.clear()
        self.suspended.clear()

    def boot_first(self, domain: DomainId) -> None:
        """A new cell starts."""
        self._start(domain, FakeDisk(), FIRST_BOOT_US)

    def boot_fresh(self, domain: DomainId) -> None:
        """Boot from a clean image."""
        server = self._server
        require(domain not in server.history.names_known, "names of domains are never used again", domain)
        server.history.fresh.add(domain)
        self.on_boot(domain)
        self._start(domain, FakeDisk(), BOOT_US)

    def boot_from_disk(self, domain: DomainId) -> None:
        """Boot from its own disk, if it is there."""
        disk = self.disks.get(domain)
        if disk is None:
            self._server.later(1000, lambda: self._fail_boot(domain, "its disk is not there"))
        else:
            self._start(domain, disk, BOOT_US)

    def _start(self, domain: DomainId, disk: FakeDisk, boot_us: tuple[int, int]) -> None:
        server = self._server
        self.disks[domain] = disk
        self.running[domain] = FakeDomain(domain, ROWS_PER_PART, disk)
        self._known.add(domain)
        self._busy_until_us[domain] = 0
        self._handed[domain] = deque()
        server.later(server.world.random.randrange(*boot_us), lambda: self._link(domain))

    def _link(self, domain: DomainId) -> None:
        server, replica = self._server, self.running.get(domain)
        if replica is None:
            return
        hello = self._behaviour(domain).hello(replica.hello())
        if hello is None:
            server.later(HELLO_LIMIT_US, lambda: self._fail_boot(domain, "its wrapper says nothing"))
            return
        replica.cursor, replica.previous = hello.cursor, hello.cursor - 1  # it believes what it claims
        server.linked_cursors[domain] = hello.cursor
        server.core.on_domain_linked(domain, hello)
        server.touch()

    def _fail_boot(self, domain: DomainId, reason: str) -> None:
        self._server.core.on_boot_failed(domain, reason)
        self._server.touch()

    def kill(self, domain: DomainId, reason: str) -> None:
        """The domain's process or connection ends; the manager is told."""
        if domain in self.running:
            self._server.history.faulty.setdefault(domain, reason)
            del self.running[domain]
            self._server.core.on_domain_gone(domain, reason)
            self._server.touch()

    # -- what the manager asks ---------------------------------------------------------------------------------

    def power(self, domain: DomainId, action: PowerAction) -> None:
        """Suspend, resume or destroy, in its own time."""
        server = self._server
        if domain not in self._known:
            if action is PowerAction.DESTROY and domain not in self._ending:
                server.core.on_power_done(domain, action)  # it never came to be
            return
        if action is PowerAction.DESTROY:
            self._known.discard(domain)
            self._ending.add(domain)

        def done() -> None:
            if domain not in self.running and action is not PowerAction.DESTROY:
                return
            if action is PowerAction.DESTROY:
                self.running.pop(domain, None)
                self.disks.pop(domain, None)
                self.suspended.discard(domain)
                self._ending.discard(domain)
            server.core.on_power_done(domain, action)
            if action is PowerAction.SUSPEND:
                self.suspended.add(domain)
            elif action is PowerAction.RESUME:
                self.suspended.discard(domain)
            server.touch()

        server.later(server.world.random.randrange(1000, self._power_us_max), done)

    def feed(self, domain: DomainId, frame: ToWrapper) -> None:
        """Send a frame; the answer follows."""
        assert domain not in self.suspended, f"{domain} is asleep and was sent {type(frame).__name__}"
        if isinstance(frame, Execute):
            require(frame.sequence not in self.held, "held requests are fed to nobody", f"{domain}: {frame.sequence}")
        if domain not in self.running:
            return
        server = self._server
        self._handed[domain].append(frame)
        now_us = server.world.now_us
        start_us = max(now_us + 60, self._busy_until_us[domain])
        end_us = start_us + server.world.random.randrange(50, 400) * self.slowness.get(domain, 1)
        end_us += self._behaviour(domain).delay_us(frame)
        self._busy_until_us[domain] = end_us
        server.later(end_us - now_us, lambda: self._answer(domain))

    def _answer(self, domain: DomainId) -> None:
        if domain not in self.running:
            return
        frame = self._handed[domain].popleft()
        if isinstance(frame, Execute) and frame.payload in self._server.history.lethal:
            self.kill(domain, "killed by a request")
            return
        behaviour = self._behaviour(domain)
        answers = behaviour.answer(frame, self.running[domain].receive(frame))
        if behaviour.is_fatal:
            self.kill(domain, "sent what is no frame")
        elif answers:
            self._server.core.on_domain_frames(domain, answers, self._server.world.now_ms)
            self._server.touch()

    def _behaviour(self, domain: DomainId) -> Misbehaviour:
        return self.misbehaviours.get(domain, self._honest)
