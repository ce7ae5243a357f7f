"""Manager cores of a whole cell in one thread, with a plain queue instead of agreement and network.

Everything is delivered at once and in order; the simulator in `tests/simulation` does the rest.
"""

import contextlib
from collections import deque
from collections.abc import Callable

from agreement.messages import Change, Entry
from exec_wrapper.wire import Pong, StateSet, ToWrapper
from replica_manager.cell.entries import CellEntry, encode_entry
from replica_manager.core_output import CoreOutput, ExportFailed
from replica_manager.core_settings import CoreSettings
from replica_manager.execution.feed import FeedSettings, Power, PowerAction
from replica_manager.faults.fault_handling import FaultSettings
from replica_manager.faults.watch import WatchSettings
from replica_manager.identifiers import ClientId, DomainId
from replica_manager.intake.port import Outcome, Submission
from replica_manager.manager_core import ManagerCore
from replica_manager.peer_messages import ManagerMessage, Part
from replica_manager.recovery.proactive_recovery import RecoverySettings
from replica_manager.recovery.repair import RepairSettings
from tests.simulation.fake_domain import DomainDied, FakeDomain
from tests.simulation.fake_part_spool import MemorySpool

FEED = FeedSettings(
    refresh_updates_max=10,
    refresh_bytes_max=10_000,
    refresh_lag_max=1000,
    batch_bytes_max=5_000,
    state_format=1,
    is_passive_kept_running=False,
)


FAULTS = FaultSettings(stall_start_ms=250, stall_max_ms=5_000, offer_delay_ms=0)


def core_settings(
    server: int, f: int, feed: FeedSettings = FEED, faults: FaultSettings = FAULTS, *, is_repairing: bool = True
) -> CoreSettings:
    """Small bounds for tests."""
    return CoreSettings(
        server=server,
        f=f,
        client_table_entries_max=1000,
        open_requests_max=500,
        request_bytes_max=1000,
        buffer_entries_max=10_000,
        buffer_bytes_max=10_000_000,
        progress_ms=1000,
        sync_ms=2000,
        stall_start_ms=250,
        feed=feed,
        faults=faults,
        watch=WatchSettings(applied_timeout_ms=5_000, state_timeout_ms=5_000, execution_limit_ms=20_000),
        repair=RepairSettings(is_immediate=is_repairing, patience_ms=10_000, feed=feed, settle_ms=0),
        recovery=RecoverySettings(),
    )


class RecordingSink:
    """A client connection."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self.clients: list[ClientId | None] = []
        self.replies: list[tuple[ClientId, int, Outcome, bytes]] = []

    def client_opened(self, token: int, client: ClientId | None) -> None:
        """Remember the id."""
        self.clients.append(client)

    def replied(self, client: ClientId, number: int, outcome: Outcome, reply: bytes) -> None:
        """Remember the reply."""
        self.replies.append((client, number, outcome, reply))


class LockstepCell:
    """`f+1` cores and their domains."""

    def __init__(
        self, f: int = 1, feed: FeedSettings = FEED, faults: FaultSettings = FAULTS, *, is_repairing: bool = True
    ) -> None:
        """Boot every domain and have it say Hello."""
        settings = [core_settings(server, f, feed, faults, is_repairing=is_repairing) for server in range(f + 1)]
        self._begin([ManagerCore(own, 0) for own in settings])
        for server, core in enumerate(self.cores):
            for name in core.feeds:
                core.on_domain_linked(name, self.domains[name].hello())
            self._drain(server)
        self.settle()

    def _begin(self, cores: list[ManagerCore]) -> None:
        """Nothing has happened yet."""
        self.now_ms = 0
        self.now_us = 1_000_000
        self.cores = cores
        self.spools = [MemorySpool() for _ in self.cores]
        self.files = [FakeDomain("file") for _ in self.cores]
        """To which each server exports."""
        self.is_file_stuck = False
        """Whether they take nothing in."""
        self.exported: list[tuple[int, int, dict[bytes, bytes]]] = []
        """Server, point and rows of each file that is whole."""
        self.exports_failed: list[str] = []
        """Why, in order."""
        self.domains = {name: FakeDomain(name) for core in self.cores for name in core.feeds}
        self.running = dict.fromkeys(self.domains, True)
        self.order: deque[Entry | Change] = deque()
        self.sequence = 0
        self.muted: set[DomainId] = set()
        """Domains that answer nothing."""
        self.paused: dict[DomainId, list[ToWrapper]] = {}
        """Domains that have no CPU time for a while, without their managers' knowledge, and what they are told."""
        self.fresh_domain: Callable[[DomainId], FakeDomain | None] = FakeDomain
        """Boots a fresh domain; None: it cannot be booted."""
        self.is_boot_slow = False
        """Whether fresh domains say nothing before `finish_boots`."""
        self.booting: list[DomainId] = []
        self.leaving: list[int] = []
        """Servers that asked to leave, in order."""
        self.is_lost: Callable[[int, int, ManagerMessage], bool] = lambda _sender, _receiver, _message: False
        """Decides about every message between managers."""
        self.is_unread: Callable[[int], bool] = lambda _server: False
        """Asked before a server reads the next entry; one that does not read it reads on when this is taken back."""
        self._unread: list[deque[tuple[int, Entry | Change]]] = [deque() for _ in cores]
        self.events: list[tuple[int, str, dict[str, object]]] = []
        self.power_actions: list[tuple[DomainId, PowerAction]] = []
        self._numbers = [0] * len(cores)
        self.agreed: list[Entry | Change] = []
        """Everything that was delivered, from number 1."""

    def order_change(self, change: Change) -> None:
        """Have agreement deliver a membership change."""
        self.order.append(change)
        self.settle()

    def open_client(self, server: int, sink: RecordingSink) -> ClientId:
        """Return a client id issued by the cell."""
        self.cores[server].open_client(sink, 1, bytes(16))
        self.settle()
        client = sink.clients[-1]
        assert client is not None
        return client

    def submit(self, server: int, sink: RecordingSink, client: ClientId, number: int, payload: bytes) -> None:
        """Send a request and let everything happen that follows."""
        self.now_us += 10
        self.cores[server].submit(sink, Submission(client, number, payload), self.now_us, b"r" * 16)
        self.settle()

    def pass_time(self, ms: int, tick_ms: int = 50) -> None:
        """Let time pass in ticks as short as a manager's, so that none looks like a pause."""
        for _ in range(ms // tick_ms):
            self.tick(tick_ms)

    def told(self, kind: str) -> list[dict[str, object]]:
        """Return what the servers recorded of a kind, in order."""
        return [data for _, name, data in self.events if name == kind]

    def order_entry(self, entry: CellEntry, server: int = 0) -> None:
        """Have agreement deliver an entry as if a server had ordered it."""
        self._numbers[server] += 1
        self.order.append(Entry(server, 1, self._numbers[server], encode_entry(entry)))
        self.settle()

    def tick(self, ms: int = 1000) -> None:
        """Let time pass."""
        self.now_ms += ms
        for core in self.cores:
            core.on_timer(self.now_ms)
        self.settle()

    def pause(self, *domains: DomainId) -> None:
        """Take the CPU from domains; nobody is told."""
        self.paused |= {domain: [] for domain in domains}

    def proceed(self, *domains: DomainId) -> None:
        """Give it back: they answer everything that they were told meanwhile."""
        for domain in domains:
            core = self.cores[int(domain[1])]
            for frame in self.paused.pop(domain):
                if domain in core.feeds and core.feeds[domain].power is not Power.GONE:
                    self._hand(core, domain, frame)
        self.settle()

    def settle(self) -> None:
        """Carry every message until nothing is left to do."""
        for _ in range(1000):
            busy = False
            for server in range(len(self.cores)):
                self._read(server)
                busy |= self._drain(server)
            while self.order:
                busy = True
                self.sequence += 1
                agreed = self.order.popleft()
                self.agreed.append(agreed)
                for server in range(len(self.cores)):
                    self._unread[server].append((self.sequence, agreed))
                    self._read(server)
            if not busy:
                return
        raise AssertionError("the cell does not settle")

    def _read(self, server: int) -> None:
        while self._unread[server] and not self.is_unread(server):
            self.cores[server].deliver(*self._unread[server].popleft())

    def _drain(self, server: int) -> bool:
        core = self.cores[server]
        output = core.take_output()
        for payload in output.proposals:
            self._numbers[server] += 1
            self.order.append(Entry(server, 1, self._numbers[server], payload))
        for peer in range(len(self.cores)):
            messages = list(output.broadcasts) + [m for target, m in output.sends if target == peer]
            for message in [core.position, *messages] if peer != server else []:
                if not self.is_lost(server, peer, message):
                    self.cores[peer].on_peer_message(server, message, self.now_ms)
        self._serve(core, output)
        self.events += [(server, event.kind, event.data) for event in output.events]
        work = (output.proposals, output.broadcasts, output.sends, output.frames, output.power, output.export)
        return any((*work, output.boots, output.parts_wanted))

    def _repair(self, core: ManagerCore, output: CoreOutput) -> None:
        spool = self.spools[core.settings.server]
        for domain, part in output.parts:
            with contextlib.suppress(OSError):
                spool.keep(part.point, domain, part.data)
        for wanted in output.parts_wanted:
            data = spool.read(wanted.point, wanted.domain, wanted.part_index) or b""
            part_read = Part(wanted.point, wanted.domain, wanted.part_index, data)
            if wanted.receiver is None:
                core.on_part(part_read)
            else:
                self.cores[wanted.receiver].on_peer_message(core.settings.server, part_read, self.now_ms)
        for point in output.points_ended:
            spool.drop(point)
        for domain in output.boots:
            self._boot(core, domain)
        if output.is_leaving:
            self.leaving.append(core.settings.server)

    def _export(self, core: ManagerCore, output: CoreOutput) -> None:
        server = core.settings.server
        for step in output.export:
            if isinstance(step, ExportFailed):
                self.exports_failed.append(step.reason)
                continue
            for answer in () if self.is_file_stuck else self.files[server].receive(step):
                assert isinstance(answer, Pong | StateSet)
                if isinstance(answer, StateSet):
                    self.exported.append((server, answer.point, dict(self.files[server].rows)))
                core.on_export_frame(answer)

    def finish_boots(self) -> None:
        """Fresh domains that boot slowly say Hello."""
        self.is_boot_slow = False
        for domain in self.booting:
            self._boot(self.cores[int(domain[1])], domain)
        self.booting.clear()
        self.settle()

    def _boot(self, core: ManagerCore, domain: DomainId) -> None:
        if self.is_boot_slow:
            self.booting.append(domain)
            return
        fresh = self.fresh_domain(domain)
        if fresh is None:
            core.on_boot_failed(domain, "no space left on the simulated disk")
            return
        self.domains[domain] = fresh
        self.running[domain] = True
        core.on_domain_linked(domain, fresh.hello())

    def _hand(self, core: ManagerCore, domain: DomainId, frame: ToWrapper) -> None:
        try:
            answers = self.domains[domain].receive(frame)
        except DomainDied as end:
            core.on_domain_gone(domain, str(end))
            return
        core.on_domain_frames(domain, answers, self.now_ms)

    def _serve(self, core: ManagerCore, output: CoreOutput) -> None:
        for domain, frame in output.frames:
            assert self.running[domain], f"{domain} was sent {frame} while suspended"
            if domain in self.paused:
                self.paused[domain].append(frame)
            elif domain not in self.muted:
                self._hand(core, domain, frame)
        for domain, action in output.power:
            self.power_actions.append((domain, action))
            if action is not PowerAction.SERVE:
                self.running[domain] = action is PowerAction.RESUME
            core.on_power_done(domain, action)
        self._repair(core, output)
        self._export(core, output)
        for opening in output.openings:
            opening.sink.client_opened(opening.token, opening.client)
        for reply in output.replies:
            reply.sink.replied(reply.client, reply.number, reply.outcome, reply.reply)
