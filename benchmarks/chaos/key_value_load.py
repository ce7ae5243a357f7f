"""Clients of the key-value store: reads and writes that are recorded, and appends that are counted in the end."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.load_thread import LoadFailed, LoadThread, Phases
from benchmarks.chaos.tally import Tally
from benchmarks.chaos.tokens import Ledger
from benchmarks.linearizability.recorded import HistoryWriter
from exec_wrapper.examples.key_value_commands import encode_append, encode_echo, encode_get, encode_set
from images.fault_orders import FaultOrder, key_value_read, key_value_write
from replica_manager.client.errors import CellUnreachable
from replica_manager.client.failover_client import ClientSession, FailoverClient
from replica_manager.client.failover_values import FailoverSettings, Noted
from replica_manager.config_addresses import Address
from replica_manager.intake.port import Outcome

JOURNAL = b"journal."
"""Keys to which tokens are appended; see `tokens_in`."""
TOKENS_PER_JOURNAL = 50
"""An update carries the whole value: longer journals would make every append dear."""
SHARED_KEYS = 20
CLIENTS_PER_KEY_MAX = 10
"""The search for a linearization is exponential in them."""
DEADLINE_MS = 60_000
QUIET_PATIENCE_S = 90.0
_NOT_EXECUTED = frozenset((Outcome.UNAVAILABLE, Outcome.TOO_LARGE, Outcome.SKIPPED))


@dataclass(frozen=True, slots=True)
class KeyValueSettings:
    """One load."""

    addresses: Sequence[Address]
    namespace: str
    """Where the clients are; empty: here."""
    clients: int
    pause_s: float
    seed: int
    history: Path


class KeyValueLoad:
    """Implements `Load`."""

    def __init__(self, settings: KeyValueSettings, on_note: Callable[[Noted], None]) -> None:
        """Prepare; `on_note` hears, in the load's thread, what happens to servers."""
        self.tally = Tally(time.monotonic())
        self.ledger = Ledger()
        self.settings = settings
        self._on_note = on_note
        self._thread = LoadThread(self._work, settings.namespace)

    def start(self) -> None:
        """See `Load.start`."""
        self._thread.start()

    def require_running(self) -> None:
        """See `Load.require_running`."""
        self._thread.require_running()

    def become_quiet(self) -> None:
        """See `Load.become_quiet`."""
        self._thread.become_quiet(QUIET_PATIENCE_S)

    def stop(self, patience_s: float) -> None:
        """See `Load.stop`."""
        self._thread.stop(patience_s)

    def give_order(self, order: FaultOrder, *, is_for_passive: bool) -> None:
        """See `Load.give_order`."""
        self._require_answer(key_value_write(order) if is_for_passive else key_value_read(order))

    def write_once(self) -> None:
        """See `Load.write_once`."""
        self._require_answer(encode_set(b"nobody's", b"%d" % time.monotonic_ns()))

    def _require_answer(self, payload: bytes) -> None:
        outcome = self._thread.call(self._ask_once(payload))
        if outcome is not Outcome.ANSWERED:
            raise LoadFailed(f"a request of the runner was answered {outcome.name.lower()}")

    async def _ask_once(self, payload: bytes) -> Outcome:
        session = await self._client.open_session()
        outcome, _ = await session.request(payload)
        self._client.retire(session.client_id)
        return outcome

    async def _work(self, phases: Phases) -> None:
        failover = FailoverSettings(deadline_ms=DEADLINE_MS)
        generator = random.Random(self.settings.seed)
        with HistoryWriter(self.settings.history) as self.history:
            async with FailoverClient(
                self.settings.addresses, failover, generator=generator, on_note=self._on_note
            ) as self._client:
                clients = [_Client(self, index, phases.stopping) for index in range(self.settings.clients)]
                async with asyncio.TaskGroup() as group:
                    for client in clients:
                        group.create_task(client.run(self._client))
                phases.is_quiet.set()
                await phases.ending.wait()


class _Client:
    """One client: one request after another."""

    def __init__(self, load: KeyValueLoad, index: int, stopping: asyncio.Event) -> None:
        self._load = load
        self._index = index
        self._stopping = stopping
        self._random = random.Random(f"{load.settings.seed} {index}")
        group = index // CLIENTS_PER_KEY_MAX
        self._keys = [b"k%d.%d" % (group, number) for number in range(SHARED_KEYS)]
        self._serial = 0
        self._lives = 0

    async def run(self, client: FailoverClient) -> None:
        """Send until told to stop; after a request whose outcome is unknown, under a new id."""
        while not self._stopping.is_set():
            try:
                session = await client.open_session()
            except CellUnreachable:
                self._load.tally.failed("no client id", time.monotonic())
                continue
            self._lives += 1
            while not self._stopping.is_set() and await self._request(session):
                await asyncio.sleep(self._load.settings.pause_s * self._random.uniform(0.5, 1.5))

    async def _request(self, session: ClientSession) -> bool:
        load = self._load
        payload, token = self._draw()
        recorded = load.history.sent(f"{self._index}.{self._lives}", payload, time.monotonic_ns())
        if token:
            load.ledger.sent(token)
        outcome, reply = await session.request(payload)
        if outcome is Outcome.ANSWERED:
            load.history.replied(recorded, reply, time.monotonic_ns())
            load.tally.replied(time.monotonic())
            if token:
                load.ledger.acknowledged(token)
            return True
        load.tally.failed(outcome.name.lower(), time.monotonic())
        if outcome in _NOT_EXECUTED:
            load.history.refused(recorded, time.monotonic_ns())
            if token:
                load.ledger.refused(token)
        return False

    def _draw(self) -> tuple[bytes, str]:
        """Return a request and its token, if it is a write that is counted; no value is written twice."""
        self._serial += 1
        value = b"%d.%d;" % (self._index, self._serial)
        key = self._random.choice(self._keys)
        kind = self._random.random()
        if kind < 0.4:
            journal = JOURNAL + b"%d.%d" % (self._index, self._serial // TOKENS_PER_JOURNAL)
            return encode_append(journal, value), value[:-1].decode()
        if kind < 0.7:
            return encode_get(key), ""
        return (encode_set(key, value) if kind < 0.9 else encode_echo(value)), ""


def tokens_in(entries: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Return the tokens that a store with these keys and values holds, as often as it holds them.  Pure."""
    journals = [value for key, value in entries if key.startswith(JOURNAL)]
    return [token.decode() for value in journals for token in value.split(b";") if token]
