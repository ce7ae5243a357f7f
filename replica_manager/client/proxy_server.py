"""`spare proxy` at work: an HTTP listener before a failing-over client, and the lines that an operator reads."""

import asyncio
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from replica_manager.client.failover_client import FailoverClient
from replica_manager.client.failover_values import FailoverSettings, Noted
from replica_manager.client.proxy_port import ProxyPort
from replica_manager.config_addresses import Address
from replica_manager.control.event_rate import EventRate
from replica_manager.file_limit import admit_connections
from replica_manager.intake.http_listener import HttpListener
from replica_manager.intake.port import Outcome

SWEEP_INTERVAL_S = 5.0
DRAIN_S = 10.0
"""How long requests under way may take when the proxy is told to stop; a second signal ends it at once."""
LAST_REPLY_S = 0.05
"""For the last replies to leave."""
BACKLOG = 1024
LINES_BURST = 20
LINES_PER_SECOND = 1.0
"""Of one kind: a server that flaps does not fill the log."""
TOLD = frozenset(("connected", "lost", "unreachable", "misbehaved", "silent"))


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What the proxy serves."""

    addresses: Sequence[Address]
    """Where framed clients connect, one per server."""
    request_bytes_max: int
    """Of one request, head included: what the cell takes."""
    connections_max: int = 8192
    failover: FailoverSettings = field(default_factory=FailoverSettings)


class FailoverProxy:
    """One proxy; `serve` runs it."""

    def __init__(self, settings: ProxySettings, tell: Callable[[str], None]) -> None:
        """Prepare; `tell` takes lines for the operator."""
        self._tell = tell
        self._rate = EventRate(LINES_BURST, LINES_PER_SECOND)
        self._unreachable: set[int] = set()
        self._ended = asyncio.Event()
        self._signals = 0
        self._loop = asyncio.get_running_loop()
        self._client = FailoverClient(
            settings.addresses, settings.failover, generator=random.Random(), on_note=self._on_note
        )
        self.port = ProxyPort(self._client, self._loop.call_soon)
        connections_max = admit_connections(settings.connections_max)
        if connections_max < settings.connections_max:
            tell(f"{connections_max} of {settings.connections_max} connections: the system allows no more open files")
        self.listener = HttpListener(
            self.port,
            settings.request_bytes_max,
            connections_max,
            self._on_rejected,
            lambda: time.monotonic() * 1000,
        )

    async def serve(self, listening: socket.socket) -> None:
        """Serve on a bound socket until SIGTERM or Ctrl-C; then answer what is under way, and end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal)
        async with self._client:
            server = await self._loop.create_server(self.listener.connection, sock=listening, backlog=BACKLOG)
            sweeping = self._loop.create_task(self._sweep())
            host, port = listening.getsockname()[:2]
            self._tell(f"listening for HTTP on {_bracketed(host)}:{port}")
            try:
                await self._ended.wait()
                server.close()
                await self._drain()
            finally:
                sweeping.cancel()
                self.listener.close()
                self._tell(self._summary())

    def stop(self) -> None:
        """End `serve`."""
        self._ended.set()

    def _on_signal(self) -> None:
        self._signals += 1
        self._ended.set()

    async def _drain(self) -> None:
        """Wait for requests under way, but not for ever, and not after a second signal."""
        if self.port.open_count:
            self._tell(f"stopping; {self.port.open_count} requests are under way")
        deadline_s = self._loop.time() + DRAIN_S
        while self.port.open_count and self._signals < 2 and self._loop.time() < deadline_s:
            await asyncio.sleep(0.02)
        await asyncio.sleep(LAST_REPLY_S)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.listener.sweep()
            self._tell_suppressed()

    # -- lines -------------------------------------------------------------------------------------------------

    def _on_note(self, note: Noted) -> None:
        if note.kind == "connected":
            self._unreachable.discard(note.server)
        elif note.kind == "unreachable":
            # Once; that it still is so is no news.
            if note.server in self._unreachable:
                return
            self._unreachable.add(note.server)
        if note.kind in TOLD:
            self._say(note.kind, f"server {note.server}: {note.kind}" + (f": {note.detail}" if note.detail else ""))

    def _on_rejected(self, reason: str) -> None:
        self._say("rejected", f"a client was refused: {reason}")

    def _say(self, kind: str, line: str) -> None:
        if self._rate.admits(kind, _now_us()):
            self._tell(line)

    def _tell_suppressed(self) -> None:
        for kind, count in self._rate.take_suppressed(_now_us()):
            self._tell(f"{count} more lines of the kind `{kind}` were left out")

    def _summary(self) -> str:
        counts = self.port.counts
        others = [f"{count} {outcome.name.lower()}" for outcome, count in counts.items() if count and outcome]
        words = "; ".join([f"{counts[Outcome.ANSWERED]} requests answered", *others])
        return f"ended: {words}; {self._client.core.repeated} repeated, {self.port.opened} client ids"


async def run_proxy(settings: ProxySettings, listening: socket.socket, tell: Callable[[str], None]) -> None:
    """Serve HTTP on a bound socket until told to stop.

    Args:
        settings: the cell, and limits.
        listening: bound, not yet listening.
        tell: takes lines for the operator.
    """
    await FailoverProxy(settings, tell).serve(listening)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _now_us() -> int:
    return time.monotonic_ns() // 1000
