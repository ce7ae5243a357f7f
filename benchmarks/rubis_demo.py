"""`spare demo`: RUBiS on a one-machine cell of real virtual machines, under emulated users.

Builds the image if it is not there, starts the cell (f = 1: two servers, a witness, four virtual machines), has
emulated users browse, bid and sell, compares the databases of all domains at one agreed position before and after,
stops everything, and writes `report.json` and `summary.txt`.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.image_building import build_image
from benchmarks.machine_traces import left_behind, machine_traces
from benchmarks.session_window import Moment, look_now, window_figures
from replica_manager.config import Config
from replica_manager.config_addresses import parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down, take_down_whole
from replica_manager.control.cell_network import network_of
from replica_manager.control.cell_up import bring_up
from replica_manager.control.checkpoint import take_checkpoint
from replica_manager.event_loop import run as run_event_loop
from replica_manager.network import namespaces
from replica_manager.network.address_plan import namespace_name
from rubis_adapter.client_emulator.emulation import run_emulation
from rubis_adapter.client_emulator.settings import EmulatorSettings, Phase, Progress

IMAGE = "rubis-mariadb"
DATA_SET_START_US = 1_700_000_000_000_000
"""When the image's data set begins: auctions end one to seven days later."""
CHECKPOINT_TIMEOUT_S = 600.0
POLL_S = 0.2
USERS_PATIENCE_S = 5.0
"""For the users to go when the demo is interrupted; they look up once a second."""
FULL_SESSION_S = 120
Report = Callable[[str], None]

CELL_FILE = f"""# Made by `spare demo`; `spare cell down -c` this file removes everything after a crash of the command.
[cell]
name = "%(name)s"
f = 1
state_dir = "cell"

[service]
image = "{IMAGE}"
listen = "http"
clock_start_us = {DATA_SET_START_US}

[hypervisor]
image_dir = "%(images)s"

[updates]
refresh_updates_max = %(refresh_updates_max)d

[[server]]
id = 0
%(publish)s
[[server]]
id = 1
"""


class DemoFailed(Exception):
    """Raised when the demo ran and something that it is to show is not so; the report says what."""


@dataclass(frozen=True)
class DemoSettings:
    """How long and how much."""

    directory: Path
    images: Path
    clients: int = 50
    session_s: float = 240.0
    up_ramp_s: float = 20.0
    think_time_scale: float = 0.5
    seed: int = 1
    refresh_updates_max: int = 20
    """Updates per refresh of a passive domain."""
    publish: str = ""
    """`address:port` of this machine where a browser finds the site while the demo runs."""
    cell_name: str = "demo"
    """Cells with different names do not get in each other's way."""


def run_demo(settings: DemoSettings, report: Report) -> dict[str, Any]:
    """Run the demo; return the report, which is also written.

    Raises:
        DemoFailed: a reply failed, or databases differ.
        ControlError, ImageError, NetworkError: the cell cannot be started; nothing is left behind.
    """
    settings.directory.mkdir(parents=True, exist_ok=True)
    build_image(IMAGE, settings.images, report)
    config = _configure(settings)
    network = network_of(config)
    take_down(config, network, plan_down(config, purge=True), report)
    traces = machine_traces(str(settings.directory), settings.cell_name)
    try:
        bring_up(config, network, report)
        document = _serve(settings, config, report)
    finally:
        report("stopping the cell")
        take_down_whole(config, network, report)
    document["left_behind"] = left_behind(traces, machine_traces(str(settings.directory), settings.cell_name))
    return _conclude(settings, document)


def _configure(settings: DemoSettings) -> Config:
    file = settings.directory / "cell.toml"
    publish = f'publish = "{settings.publish}"\n' if settings.publish else ""
    values = {
        "name": settings.cell_name,
        "images": settings.images,
        "refresh_updates_max": settings.refresh_updates_max,
        "publish": publish,
    }
    file.write_text(CELL_FILE % values)
    return load(file)


# -- under load ------------------------------------------------------------------------------------------------


def _serve(settings: DemoSettings, config: Config, report: Report) -> dict[str, Any]:
    before = environment()
    first = take_checkpoint(config, CHECKPOINT_TIMEOUT_S)
    report(f"checkpoint at {first.point}: {'all databases equal' if first.is_equal else 'DATABASES DIFFER'}")
    emulation, window = _run_load(settings, config, report)
    last = take_checkpoint(config, CHECKPOINT_TIMEOUT_S)
    report(f"checkpoint at {last.point}: {'all databases equal' if last.is_equal else 'DATABASES DIFFER'}")
    return {
        **before,
        **emulation,
        **window,
        "replica_state_digests": dict(last.digests),
        "replica_state_digests_at_start": dict(first.digests),
        "checkpoints": [first.point, last.point],
        "refresh_updates_max": settings.refresh_updates_max,
        "load_average_after": environment()["load_average"],
    }


class _Abandoned(Exception):
    """Raised in the emulation when the demo was interrupted."""


class _Phases:
    """Hears the emulation's progress; the main thread looks at the cell when the runtime session begins and ends."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.session_began = threading.Event()
        self.session_ended = threading.Event()
        self.is_abandoned = False
        """Set by the main thread: the users go home."""
        self._told_s = -10.0

    def hear(self, progress: Progress) -> None:
        """Called by the emulation once a second."""
        if self.is_abandoned:
            raise _Abandoned
        if progress.phase is not Phase.UP_RAMP:
            self.session_began.set()
        if progress.phase not in (Phase.UP_RAMP, Phase.RUNTIME_SESSION):
            self.session_ended.set()
        if progress.elapsed_s - self._told_s >= 10 or progress.phase is Phase.FINISHING:
            self._told_s = progress.elapsed_s
            self._report(
                f"{progress.phase}: {progress.elapsed_s:.0f} of {progress.total_s:.0f} s, "
                f"{progress.running_clients} users, {progress.requests} requests, "
                f"{progress.requests_per_s:.0f}/s, {progress.failed_requests} failed"
            )


def _run_load(settings: DemoSettings, config: Config, report: Report) -> tuple[dict[str, Any], dict[str, Any]]:
    phases = _Phases(report)
    outcome: dict[str, Any] = {}
    emulator = EmulatorSettings(
        addresses=tuple(parse_address(server.public_address) for server in config.server),
        clients=settings.clients,
        think_time_scale=settings.think_time_scale,
        up_ramp_s=settings.up_ramp_s,
        session_s=settings.session_s,
        down_ramp_s=5.0,
        seed=settings.seed,
    )

    def emulate() -> None:
        try:
            place = namespace_name(config.cell.name, "clients")
            result = namespaces.call_in(place, lambda: run_event_loop(run_emulation(emulator, phases.hear)))
            outcome["report"] = result.to_json()
        except _Abandoned:
            pass
        finally:
            phases.session_began.set()
            phases.session_ended.set()

    thread = threading.Thread(target=emulate, name="emulated-users", daemon=True)
    thread.start()
    try:
        began = _look_after(phases.session_began, config)
        ended = _look_after(phases.session_ended, config)
        while thread.is_alive():
            thread.join(POLL_S)
    except BaseException:
        # Ctrl-C too: users of a cell that is stopped would only report its end as failures.
        phases.is_abandoned = True
        thread.join(USERS_PATIENCE_S)
        raise
    if "report" not in outcome:
        raise DemoFailed("the client emulator ended without a report; see the lines above")
    return outcome["report"], window_figures(began, ended)


def _look_after(event: threading.Event, config: Config) -> Moment:
    while not event.wait(POLL_S):
        pass
    return look_now(config)


# -- the conclusion --------------------------------------------------------------------------------------------


def _conclude(settings: DemoSettings, document: dict[str, Any]) -> dict[str, Any]:
    problems = list(_problems(document))
    document["problems"] = problems
    (settings.directory / "report.json").write_text(json.dumps(document, indent=2, default=str) + "\n")
    summary = "\n".join(_summary_lines(document)) + "\n"
    (settings.directory / "summary.txt").write_text(summary)
    document["summary"] = summary
    if problems:
        raise DemoFailed(f"{summary}\nthe demo failed: {'; '.join(problems)}")
    return document


def _problems(document: dict[str, Any]) -> "list[str]":
    digests = set(document["replica_state_digests"].values())
    start = set(document["replica_state_digests_at_start"].values())
    checks = {
        f"{document['failed_requests']} requests failed": document["failed_requests"] == 0,
        "the databases of the domains differ": len(digests) == 1 and len(start) == 1,
        "the databases did not change": digests != start,
        f"only {len(document['replica_state_digests'])} domains gave their state": len(
            document["replica_state_digests"]
        )
        == 4,
        f"left behind: {document['left_behind']}": not document["left_behind"],
    }
    if document["settings"]["session_s"] >= FULL_SESSION_S:
        checks |= _load_checks(document)
    return [problem for problem, is_good in checks.items() if not is_good]


def _load_checks(document: dict[str, Any]) -> dict[str, bool]:
    """What only a session of full length is sure to show."""
    expected, visited = document["expected_interactions"], document["interactions"]
    missed = sorted(name for name, count in expected.items() if count >= 10 and not visited.get(name))
    return {
        f"never visited: {', '.join(missed)}": not missed,
        f"{document['sorry_share']:.0%} of the pages found nothing": document["sorry_share"] <= 0.2,
        f"only {document['modifying_requests']} modifying requests": document["modifying_requests"] >= 100,
        f"refreshes {document['refreshes']}": min(document["refreshes"].values()) >= 3,
        f"passive domains used {document['passive_cpu_share']:.1%}": document["passive_cpu_share"] < 0.05,
    }


def _summary_lines(document: dict[str, Any]) -> "list[str]":
    latency, session_s = document["latency_ms"], document["settings"]["session_s"]
    digests = sorted(set(document["replica_state_digests"].values()))
    equality = f"all equal: {digests[0][:16]}" if len(digests) == 1 else "DIFFERENT"
    rate = f"{document['requests']} in {session_s:.0f} s ({document['throughput_rps']:.1f}/s)"
    counts = f"{document['failed_requests']} failed, {document['modifying_requests']} changed the database"
    percentiles = ", ".join(f"{name} {latency[name]:.0f} ms" for name in ("p50", "p90", "p99"))
    lines = [
        f"RUBiS on a cell of 2 servers, 1 witness and 4 virtual machines, {document['settings']['clients']} users",
        f"  requests            {rate}, {counts}",
        f"  nothing found       {100 * document['sorry_share']:.1f} % of the pages",
        f"  latency             {percentiles}",
        f"  databases           {len(document['replica_state_digests'])} domains, {equality}",
        f"  passive domains     {100 * document['passive_cpu_share']:.1f} % of the active ones' CPU time",
    ]
    for name, role in sorted(document["roles"].items()):
        asleep = document["suspended_seconds"].get(name)
        sleep = f", suspended {asleep:.0f} of {document['window_s']:.0f} s" if asleep is not None else ""
        lines.append(f"    {name} {role:<8} {document['cpu_seconds'][name]:7.1f} CPU s{sleep}")
    for server, count in sorted(document["refreshes"].items()):
        lines.append(f"    {server} refreshed its passive domain {count} times")
    return lines
