"""Records what a cell agrees on while emulated users shop and bid: the material of `benchmarks.replay`."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loopback_ports import free_port
from benchmarks.native_rubis import START_TIME_US, NativeRubis
from replica_manager.config import Config
from replica_manager.config_addresses import parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down
from replica_manager.control.cell_network import network_of
from replica_manager.control.cell_up import bring_up
from replica_manager.control.checkpoint import Checkpoint, take_checkpoint
from replica_manager.control.event_reader import EventQuery, read_events
from replica_manager.event_loop import run as run_event_loop
from replica_manager.network.address_plan import namespace_name
from replica_manager.recording.recorder import recording_path
from rubis_adapter.client_emulator.emulation import run_emulation
from rubis_adapter.client_emulator.settings import EmulatorSettings, Progress

CHECKPOINT_TIMEOUT_S = 600.0
DISAGREEMENTS = ("vote_contradicts", "vote_diverged", "vote_exceeded", "domain_misbehaved")
"""Events of a domain that said something else than the others, or what no correct one says."""
EVENTS_READ_MAX = 1000
TOLD_EVERY_S = 10.0
RECORDINGS = "recordings"
"""Directory of the recordings, beside the cell's file."""
Report = Callable[[str], None]

_HEAD = f"""# Made by a benchmark; `spare cell down -c` this file removes everything after a crash of it.
[cell]
name = "%(name)s"
f = 1
network = "%(network)s"
state_dir = "cell"
restart = "never"

[service]
listen = "http"
clock_start_us = {START_TIME_US}
record = "%(record)s"
"""


class LiveRecordingFailed(Exception):
    """Raised when the cell did not serve the wanted number of requests: there is nothing to replay."""


@dataclass(frozen=True)
class LiveSettings:
    """How many users, and how much of them."""

    clients: int = 20
    requests: int = 5000
    """Users stop when so many are answered, or a second's worth more; never before the first checkpoint."""
    first_checkpoint_requests: int = 300
    """A first checkpoint is taken, while users go on, when so many are answered."""
    seed: int = 1
    session_s_max: float = 3600.0
    """Longest time for all requests; emulated machines take ten minutes for 5,000."""
    think_time_scale: float = 0.0
    """0: users wait for replies alone, so that requests of all of them contend for their order."""


@dataclass(frozen=True)
class LiveSession:
    """What was recorded."""

    recordings: tuple[Path, ...]
    """One per server."""
    checkpoints: tuple[Checkpoint, ...]
    requests: int
    failed_requests: int
    disagreements: Mapping[str, int]
    """Events of the kinds `DISAGREEMENTS`, in the logs of all servers; empty: every domain always said the same."""
    images: Mapping[str, str]
    """What each domain said that it was booted from, by domain; empty texts for child processes."""
    session_s: float


def native_cell(directory: Path, rubis: NativeRubis, name: str = "live", record: str = RECORDINGS) -> Config:
    """Return a cell of child processes on this machine, whose files are below `directory`; an empty `record`: none."""
    text = _HEAD % {"name": name, "network": "loopback", "record": record}
    words = ", ".join(f'"{word}"' for word in rubis.command())
    text += f'command = [{words}]\n\n[hypervisor]\ndriver = "subprocess"\nisolation = "none"\n'
    for server in range(2):
        text += f'\n[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
        text += f'framed_address = "127.0.0.1:{free_port()}"\n'
        text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
    text += f'\n[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'
    return _written(directory, text)


def machine_cell(
    directory: Path, server_images: Sequence[str], images: Path, name: str = "live", record: str = RECORDINGS
) -> Config:
    """Return a cell of virtual machines, each member in a network namespace of its own.

    Args:
        directory: for its files.
        server_images: the image of each server's machines.
        images: the image directory.
        name: of the cell; cells with different names do not get in each other's way.
        record: directory of the recordings; empty: none.
    """
    text = _HEAD % {"name": name, "network": "namespaces", "record": record}
    text += f'\n[hypervisor]\nimage_dir = "{images}"\n'
    for server, image in enumerate(server_images):
        text += f'\n[[server]]\nid = {server}\nimage = "{image}"\n'
    return _written(directory, text)


def _written(directory: Path, text: str) -> Config:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "cell.toml"
    file.write_text(text)
    return load(file)


def record_live(config: Config, settings: LiveSettings, report: Report) -> LiveSession:
    """Run a new cell under load, record it, and end it; its state is removed, its recordings stay.

    Raises:
        LiveRecordingFailed: the users ended before the wanted number of requests.
        ControlError: the cell cannot be started, or a checkpoint cannot be taken.
    """
    network = network_of(config)
    take_down(config, network, plan_down(config, purge=True), report)
    try:
        bring_up(config, network, report)
        session = _serve(config, settings, report)
    finally:
        take_down(config, network, plan_down(config, purge=False), report)
    take_down(config, network, plan_down(config, purge=True), report)
    return session


def _serve(config: Config, settings: LiveSettings, report: Report) -> LiveSession:
    users = _Users(config, settings, report)
    users.start()
    try:
        users.first_part.wait()
        checkpoints = [] if users.has_ended else [take_checkpoint(config, CHECKPOINT_TIMEOUT_S)]
    finally:
        users.end_when_enough()
        users.join()
    if users.requests < settings.requests:
        raise LiveRecordingFailed(f"the users ended after {users.requests} of {settings.requests} requests")
    checkpoints.append(take_checkpoint(config, CHECKPOINT_TIMEOUT_S))
    directory = Path(config.service.record)
    recordings = tuple(recording_path(directory, server.id) for server in config.server)
    disagreements = Counter(str(event["kind"]) for event in _events(config, *DISAGREEMENTS))
    images = {event["data"]["domain"]: event["data"]["image"] for event in _events(config, "domain_ready")}
    return LiveSession(
        recordings,
        tuple(checkpoints),
        users.requests,
        users.failed_requests,
        disagreements,
        images,
        users.session_s,
    )


def _events(config: Config, *kinds: str) -> Sequence[Mapping[str, Any]]:
    return read_events(config, [server.id for server in config.server], EventQuery(EVENTS_READ_MAX, kinds))


class _Users:
    """The emulated users, in a thread beside the one that looks after the cell."""

    def __init__(self, config: Config, settings: LiveSettings, report: Report) -> None:
        self.first_part = threading.Event()
        """Enough requests for the first checkpoint are answered, or the users have ended."""
        self.has_ended = False
        self.requests = 0
        self.failed_requests = 0
        self.session_s = 0.0
        self._config = config
        self._settings = settings
        self._report = report
        self._told_s = 0.0
        self._may_end = threading.Event()
        self._requests_before_end = 0
        # A daemon: Ctrl-C in the main thread ends the command without waiting for the users.
        self._thread = threading.Thread(target=self._run, name="emulated-users", daemon=True)
        self.start = self._thread.start

    def end_when_enough(self) -> None:
        """Let the users end from now on: after one more reply at least, so that a later checkpoint is another one."""
        self._requests_before_end = max(self._settings.requests, self.requests + 1)
        self._may_end.set()

    def join(self) -> None:
        """Wait until the users have ended; Ctrl-C is heard meanwhile."""
        while self._thread.is_alive():
            self._thread.join(0.2)

    def _run(self) -> None:
        try:
            if self._config.cell.network == "namespaces":
                from replica_manager.network import namespaces

                place = namespace_name(self._config.cell.name, "clients")
                namespaces.call_in(place, lambda: run_event_loop(self._emulate()))
            else:
                run_event_loop(self._emulate())
        finally:
            self.has_ended = True
            self.first_part.set()

    async def _emulate(self) -> None:
        enough = asyncio.Event()
        emulator = EmulatorSettings(
            addresses=tuple(parse_address(server.public_address) for server in self._config.server),
            clients=self._settings.clients,
            think_time_scale=self._settings.think_time_scale,
            up_ramp_s=0.0,
            session_s=self._settings.session_s_max,
            down_ramp_s=0.0,
            seed=self._settings.seed,
        )
        emulation = asyncio.create_task(run_emulation(emulator, lambda progress: self._hear(progress, enough)))
        stop = asyncio.create_task(enough.wait())
        await asyncio.wait((emulation, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not emulation.cancel():
            emulation.result()
        await asyncio.wait((emulation, stop))

    def _hear(self, progress: Progress, enough: asyncio.Event) -> None:
        self.requests, self.failed_requests = progress.requests, progress.failed_requests
        self.session_s = progress.elapsed_s
        if progress.elapsed_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = progress.elapsed_s
            self._report(
                f"{progress.elapsed_s:.0f} s: {progress.requests} of {self._settings.requests} requests, "
                f"{progress.requests_per_s:.0f}/s, {progress.failed_requests} failed"
            )
        if progress.requests >= self._settings.first_checkpoint_requests:
            self.first_part.set()
        if self._may_end.is_set() and progress.requests >= self._requests_before_end:
            enough.set()
