"""A load of gets, sets, appends and echoes over the framed protocol that records what every client saw.

Run as `python -m benchmarks.linearizability.load HOST:PORT… --history FILE`; judge the file with
`python -m benchmarks.linearizability FILE`.

A client has one request under way.  If its connection is lost, or the server is silent for too long, it sends the same
request (client id, number, payload) to the next server, so that it is executed at most once whatever happened to the
first.  A request whose outcome stays unknown stays pending in the history, and the client goes on under a new id.
"""

import argparse
import asyncio
import enum
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.linearizability.recorded import HistoryWriter
from exec_wrapper.examples.key_value_commands import encode_append, encode_echo, encode_get, encode_set
from replica_manager.client.framed_client import CellUnavailable, ConnectionLost, FramedClient
from replica_manager.config_addresses import parse_address
from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome

CLIENTS_PER_KEY_MAX = 10
"""The checker's search is exponential in them."""
PAUSE_S = 0.05
"""Between tries at a cell that refuses, or cannot be reached."""
_TROUBLE = (OSError, ConnectionLost, CellUnavailable, TimeoutError)


@dataclass(frozen=True)
class RecordingSettings:
    """What to send, where to, and for how long."""

    addresses: Sequence[tuple[str, int]]
    """Client ports, one per server."""
    clients: int = 10
    keys: int = 20
    """Invariant: a key has at most `CLIENTS_PER_KEY_MAX` clients."""
    session_s: float = 10.0
    requests_max: int = 0
    """In all; 0: no limit but the time."""
    silence_s: float = 5.0
    """A server that has not answered for so long is left for the next one."""
    unknown_after_s: float = 60.0
    """A request that nobody has answered for so long stays pending."""
    pause_s: float = 0.0
    """Between two requests of a client."""
    seed: int = 0
    key_prefix: bytes = b""
    """Keys that nobody has written before: a history begins with the empty service."""

    def __post_init__(self) -> None:
        """Keep the invariant.

        Raises:
            ValueError: too many clients per key, or none to talk to.
        """
        if not self.addresses or self.clients < 1:
            raise ValueError("a load needs an address and a client")
        if self.groups > self.keys:
            raise ValueError(
                f"{self.clients} clients need at least {self.groups} keys, not {self.keys}: "
                f"a key can be checked with at most {CLIENTS_PER_KEY_MAX} clients"
            )

    @property
    def groups(self) -> int:
        """Clients in tens, each with keys of its own."""
        return -(-self.clients // CLIENTS_PER_KEY_MAX)

    def keys_of(self, client: int) -> list[bytes]:
        """Return the keys of a client."""
        group = client // CLIENTS_PER_KEY_MAX
        return [self.key_prefix + b"k%d" % number for number in range(group, self.keys, self.groups)]


class _Fate(enum.Enum):
    """What became of a request without a reply."""

    REFUSED = "surely not executed, though it was sent"
    UNKNOWN = "executed or not"


class RecordingLoad:
    """One session."""

    def __init__(self, settings: RecordingSettings, history: HistoryWriter) -> None:
        """Prepare."""
        self.settings = settings
        self.history = history
        self.counts: Counter[str] = Counter()
        """`sent`, `answered`, `refused`, `unknown`; `repeated`: sendings after the first; `moved`: server left."""
        self._is_over = False

    async def run(self) -> Counter[str]:
        """Run all clients to the end of the session; return the counts."""
        clients = [_Client(self, index) for index in range(self.settings.clients)]
        tasks = [asyncio.create_task(client.run()) for client in clients]
        timer = asyncio.get_running_loop().call_later(self.settings.session_s, self.stop)
        try:
            await asyncio.gather(*tasks)
        finally:
            timer.cancel()
            for client in clients:
                client.hang_up()
        return self.counts

    def stop(self) -> None:
        """Send no new requests; those under way end first."""
        self._is_over = True

    @property
    def is_over(self) -> bool:
        """Whether no new request is to be sent."""
        limit = self.settings.requests_max
        return self._is_over or (limit > 0 and self.counts["sent"] >= limit)


class _Client:
    """One client, and whichever server it talks to."""

    def __init__(self, load: RecordingLoad, index: int) -> None:
        self._load = load
        self._settings = load.settings
        self._index = index
        self._random = random.Random(f"{load.settings.seed} {index}")
        self._keys = load.settings.keys_of(index)
        self._server = index % len(load.settings.addresses)
        self._connection: FramedClient | None = None
        self._lives = 0
        self._serial = 0

    async def run(self) -> None:
        """Live, and live again whenever an outcome stays unknown."""
        while not self._load.is_over:
            try:
                identity = await self._enter()
            except _TROUBLE:
                await self._move()
                continue
            self._lives += 1
            await self._live(identity)

    async def _enter(self) -> ClientId:
        connection = await self._connect()
        return await asyncio.wait_for(connection.open_client(), self._settings.silence_s)

    async def _live(self, identity: ClientId) -> None:
        number = 0
        while not self._load.is_over:
            number += 1
            if not await self._request(identity, number, self._draw()):
                return
            await asyncio.sleep(self._settings.pause_s)

    def _draw(self) -> bytes:
        """Return a request; no value is written twice."""
        self._serial += 1
        key = self._random.choice(self._keys)
        value = b"%d.%d;" % (self._index, self._serial)
        kind = self._random.random()
        if kind < 0.45:
            return encode_get(key)
        if kind < 0.75:
            return encode_set(key, value)
        return encode_append(key, value) if kind < 0.95 else encode_echo(value)

    async def _request(self, identity: ClientId, number: int, payload: bytes) -> bool:
        """Have one request answered and record it; return whether the identity may be used further."""
        load = self._load
        recorded = load.history.sent(f"{self._index}.{self._lives}", payload, time.monotonic_ns())
        load.counts["sent"] += 1
        answer = await self._ask(identity, number, payload)
        match answer:
            case bytes():
                load.history.replied(recorded, answer, time.monotonic_ns())
                load.counts["answered"] += 1
                return True
            case _Fate.REFUSED:
                load.history.refused(recorded, time.monotonic_ns())
                load.counts["refused"] += 1
            case _Fate.UNKNOWN:
                load.counts["unknown"] += 1
        return False

    async def _ask(self, identity: ClientId, number: int, payload: bytes) -> bytes | _Fate:
        """Send until somebody answers, the same everywhere."""
        deadline = time.monotonic() + self._settings.unknown_after_s
        is_surely_not_executed = True
        while time.monotonic() < deadline:
            try:
                connection = await self._connect()
            except _TROUBLE:
                await self._move()
                continue
            try:
                answer = connection.request(identity, number, payload)
                outcome, reply = await asyncio.wait_for(answer, self._settings.silence_s)
            except _TROUBLE:
                is_surely_not_executed = False
                self._load.counts["repeated"] += 1
                await self._move()
                continue
            if outcome is Outcome.ANSWERED:
                return reply
            if outcome is not Outcome.UNAVAILABLE:
                return self._fate(outcome, is_surely_not_executed)
            self._load.counts["repeated"] += 1
            await asyncio.sleep(PAUSE_S)
        return _Fate.REFUSED if is_surely_not_executed else _Fate.UNKNOWN

    def _fate(self, outcome: Outcome, is_surely_not_executed: bool) -> _Fate:
        """What an outcome means if every earlier submission of the request was refused, or if not.

        Neither `SUPERSEDED` nor `REPLY_LOST` says that nothing was executed.
        """
        is_refusal = outcome in (Outcome.UNKNOWN_CLIENT, Outcome.TOO_LARGE, Outcome.SKIPPED)
        return _Fate.REFUSED if is_refusal and is_surely_not_executed else _Fate.UNKNOWN

    # -- connections -------------------------------------------------------------------------------------------

    async def _connect(self) -> FramedClient:
        if self._connection is None:
            host, port = self._settings.addresses[self._server]
            self._connection = await asyncio.wait_for(FramedClient.connect(host, port), self._settings.silence_s)
        return self._connection

    async def _move(self) -> None:
        """Go to the next server."""
        self.hang_up()
        self._server = (self._server + 1) % len(self._settings.addresses)
        self._load.counts["moved"] += 1
        await asyncio.sleep(PAUSE_S)

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def record(settings: RecordingSettings, path: Path) -> Counter[str]:
    """Run a load and write its history to `path`; return its counts.

    Raises:
        OSError: the file cannot be written.
    """
    with HistoryWriter(path) as history:
        return await RecordingLoad(settings, history).run()


async def _record_until_interrupted(settings: RecordingSettings, path: Path) -> Counter[str]:
    """As `record`; the first SIGINT lets requests under way end, the second one does not."""
    loop = asyncio.get_running_loop()
    with HistoryWriter(path) as history:
        load = RecordingLoad(settings, history)

        def on_interrupt() -> None:
            load.stop()
            loop.remove_signal_handler(signal.SIGINT)

        loop.add_signal_handler(signal.SIGINT, on_interrupt)
        return await load.run()


def main() -> int:
    """Run from the command line; return an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.linearizability.load", description="Load a key-value cell and record the history."
    )
    parser.add_argument("addresses", nargs="+", help="HOST:PORT of every server's client port")
    parser.add_argument("--history", type=Path, required=True, help="the file to write")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--keys", type=int, default=20, help="a key is shared by at most ten clients")
    parser.add_argument("--session-s", type=float, default=10.0)
    parser.add_argument("--pause-s", type=float, default=0.0, help="between two requests of a client")
    parser.add_argument("--requests-max", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="the same requests per client again")
    options = parser.parse_args()
    try:
        settings = RecordingSettings(
            addresses=[(address.host, address.port) for address in map(parse_address, options.addresses)],
            clients=options.clients,
            keys=options.keys,
            session_s=options.session_s,
            pause_s=options.pause_s,
            requests_max=options.requests_max,
            seed=options.seed,
            key_prefix=b"%x." % time.time_ns(),
        )
    except ValueError as error:
        parser.error(str(error))
    sys.stderr.write(f"{settings.clients} clients, {settings.keys} keys, {settings.session_s:g} s …\n")
    counts = asyncio.run(_record_until_interrupted(settings, options.history))
    sys.stdout.write(", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
