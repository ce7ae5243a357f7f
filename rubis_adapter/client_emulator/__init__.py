"""Emulated users of the auction site: thousands of them in one process, over plain HTTP.

In:     settings (addresses, clients, mix, think time, phases, seed) and the pages of the site.
Out:    a report on the runtime session: requests, failures by reason, interactions, throughput, latencies.
Owns:   the transition tables (`mixes/`), the walk through them, the HTTP client, the statistics.
Never:  imports the site, reads its database, or repeats a request that may have been executed.
Source: SPARE §4.11.1; the RUBiS client emulator.

A client's side without I/O is `visitor` (walk, requests, pages); `http_client` and `emulated_client` are its shell.
"""

from rubis_adapter.client_emulator.emulation import run_emulation
from rubis_adapter.client_emulator.errors import EmulatorError, InvalidSettings, InvalidTransitionTable
from rubis_adapter.client_emulator.report import EmulationReport
from rubis_adapter.client_emulator.settings import EmulatorSettings, Phase, Progress

__all__ = [
    "EmulationReport",
    "EmulatorError",
    "EmulatorSettings",
    "InvalidSettings",
    "InvalidTransitionTable",
    "Phase",
    "Progress",
    "run_emulation",
]
