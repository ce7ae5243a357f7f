"""Runs an emulation: all clients on one event loop, phase after phase."""

import asyncio
import resource
from collections.abc import Callable, Sequence
from typing import Final

from rubis_adapter.client_emulator.emulated_client import EmulatedClient
from rubis_adapter.client_emulator.errors import InvalidSettings
from rubis_adapter.client_emulator.http_client import HttpClient
from rubis_adapter.client_emulator.report import EmulationReport
from rubis_adapter.client_emulator.settings import EmulatorSettings, Phase, Progress
from rubis_adapter.client_emulator.statistics import SessionStatistics
from rubis_adapter.client_emulator.transitions import load_mix
from rubis_adapter.client_emulator.visitor import Visitor

PROGRESS_INTERVAL_S: Final = 1.0
FINISHING_POLL_S: Final = 0.05
FINISHING_MARGIN_S: Final = 1.0
SPARE_DESCRIPTORS: Final = 64
"""Open files of the process besides the clients' connections."""


async def run_emulation(settings: EmulatorSettings, progress: Callable[[Progress], None]) -> EmulationReport:
    """Runs all phases and waits for the last replies.

    Args:
        settings: What to do.
        progress: Called about once a second, and once at the end.

    Returns:
        The report on the runtime session.  Failing requests are part of it and raise nothing.

    Raises:
        InvalidSettings: The process may not open a connection for every client.
    """
    require_descriptors(settings.clients)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    begin_s = start_s + settings.up_ramp_s
    statistics = SessionStatistics(begin_s, begin_s + settings.session_s)
    clients = _make_clients(settings, loop, statistics)
    try:
        for number, client in enumerate(clients):
            share = number / len(clients)
            stop_s = begin_s + settings.session_s + settings.down_ramp_s * share
            client.start(start_s + settings.up_ramp_s * share, stop_s)
        await _Watch(settings, clients, statistics, start_s, progress).run()
    finally:
        for client in clients:
            client.close()
    return EmulationReport(settings, statistics)


def require_descriptors(clients: int) -> None:
    """Raises the process's limit of open files so that every client can have a connection.

    Raises:
        InvalidSettings: The hard limit is below that.
    """
    wanted = clients + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise InvalidSettings(f"{clients} clients need {wanted} open files; this process may have {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _make_clients(
    settings: EmulatorSettings, loop: asyncio.AbstractEventLoop, statistics: SessionStatistics
) -> Sequence[EmulatedClient]:
    table = load_mix(settings.mix)
    return [
        EmulatedClient(
            loop,
            HttpClient(loop, settings.addresses, number, settings.timeout_s),
            Visitor(table, settings.users, settings.seed, number),
            statistics,
            think_time_scale=settings.think_time_scale,
            loads_images=settings.loads_images,
        )
        for number in range(settings.clients)
    ]


class _Watch:
    """Waits for the end of an emulation and tells how far it is."""

    def __init__(
        self,
        settings: EmulatorSettings,
        clients: Sequence[EmulatedClient],
        statistics: SessionStatistics,
        start_s: float,
        progress: Callable[[Progress], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clients = clients
        self._statistics = statistics
        self._start_s = start_s
        self._ends_s = (
            (Phase.UP_RAMP, settings.up_ramp_s),
            (Phase.RUNTIME_SESSION, settings.up_ramp_s + settings.session_s),
            (Phase.DOWN_RAMP, settings.up_ramp_s + settings.session_s + settings.down_ramp_s),
        )
        self._total_s = self._ends_s[-1][1]
        self._finishing_s = settings.timeout_s + FINISHING_MARGIN_S
        self._progress = progress
        self._told_s = 0.0
        self._told_requests = 0

    async def run(self) -> None:
        """Returns when all phases are over and no request is under way, at most a time-out later."""
        while (left_s := self._total_s - self._elapsed_s()) > 0:
            await asyncio.sleep(min(PROGRESS_INTERVAL_S, left_s))
            self._tell()
        while any(client.is_running for client in self._clients):
            if self._elapsed_s() > self._total_s + self._finishing_s:
                break
            await asyncio.sleep(FINISHING_POLL_S)
        self._tell()

    def _elapsed_s(self) -> float:
        return self._loop.time() - self._start_s

    def _tell(self) -> None:
        elapsed_s = self._elapsed_s()
        requests = self._statistics.requests_of_all_phases
        passed_s = max(elapsed_s - self._told_s, 1e-9)
        per_s = (requests - self._told_requests) / passed_s
        self._told_s, self._told_requests = elapsed_s, requests
        self._progress(
            Progress(
                phase=next((phase for phase, end_s in self._ends_s if elapsed_s < end_s), Phase.FINISHING),
                elapsed_s=elapsed_s,
                total_s=self._total_s,
                running_clients=sum(client.is_running for client in self._clients),
                requests=requests,
                failed_requests=self._statistics.failed_requests_of_all_phases,
                requests_per_s=per_s,
            )
        )
