"""How long a recovery takes when the state is large, and how much memory that costs the managers."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.cell_clients import RequestFailed
from benchmarks.chaos.load_thread import LoadThread, Phases
from benchmarks.fault_cell import FaultCell, Report
from benchmarks.null_cell import peak_memory_bytes
from benchmarks.recovery_run import run_recovery, wait_until_at_rest
from exec_wrapper.examples.key_value_commands import encode_set
from replica_manager.client.failover_client import ClientSession, FailoverClient
from replica_manager.config_addresses import Address
from replica_manager.intake.port import Outcome

SESSIONS = 32
VALUE_BYTES = 4096
SEED = 1
TOLD_EVERY_S = 10.0
POLL_S = 0.2


@dataclass(frozen=True)
class StateSettings:
    """How large."""

    values: int = 65_536
    """Each of `VALUE_BYTES` random bytes: 256 MiB."""


def measure_large_state(cell: FaultCell, settings: StateSettings, report: Report) -> dict[str, Any]:
    """Fill the cell and renew its domains once; return phases and the managers' memory.

    Raises:
        NotInTime: the cell does not become whole.
        LoadFailed: a value was not taken.
        ControlError: the recovery cannot be ordered, or does not end in time.
    """
    wait_until_at_rest(cell)
    filled_s = _fill(cell, settings.values, report)
    wait_until_at_rest(cell)
    peak_before = _peaks(cell)
    report(f"{settings.values} values in {filled_s:.0f} s; recovery begins")
    steps = run_recovery(cell, report)
    return {
        "values": settings.values,
        "state_bytes": settings.values * VALUE_BYTES,
        "filling_s": round(filled_s, 1),
        **steps.row(),
        "manager_peak_bytes_when_filled": peak_before,
        "manager_peak_bytes": _peaks(cell),
    }


def _peaks(cell: FaultCell) -> dict[str, int]:
    return {f"manager {server.id}": peak_memory_bytes(cell.manager_pid(server.id)) for server in cell.config.server}


def _fill(cell: FaultCell, values: int, report: Report) -> float:
    filling = _Filling(cell.client_addresses, values)
    thread = LoadThread(filling.work, cell.clients_namespace)
    began_s = told_s = time.monotonic()
    thread.start()
    try:
        while filling.done < values:
            thread.require_running()
            time.sleep(POLL_S)
            if time.monotonic() - told_s >= TOLD_EVERY_S:
                told_s = time.monotonic()
                report(f"{filling.done} of {values} values")
        return time.monotonic() - began_s
    finally:
        thread.stop(0.0)  # nothing is under way any more, or nobody wants to know what becomes of it


class _Filling:
    """Clients that write values, each one once."""

    def __init__(self, addresses: list[Address], values: int) -> None:
        self.done = 0
        """Values that the cell has."""
        self._addresses = addresses
        generator = random.Random(SEED)
        self._commands = (encode_set(b"value %d" % n, generator.randbytes(VALUE_BYTES)) for n in range(values))

    async def work(self, phases: Phases) -> None:
        """Write everything, and wait for the end."""
        async with FailoverClient(self._addresses) as client, asyncio.TaskGroup() as group:
            for session in [await client.open_session() for _ in range(SESSIONS)]:
                group.create_task(self._write(session, self._commands))
        phases.is_quiet.set()
        await phases.ending.wait()

    async def _write(self, session: ClientSession, commands: Iterator[bytes]) -> None:
        for command in commands:
            outcome, _ = await session.request(command)
            if outcome is not Outcome.ANSWERED:
                raise RequestFailed(f"a value was not taken: {outcome.name.lower()}")
            self.done += 1
