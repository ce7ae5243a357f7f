"""One fresh domain that recorded requests are executed in: booted by a hypervisor driver, fed over a wrapper link."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exec_wrapper.wire import FromWrapper, ToWrapper, WrapperHello
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.config_check import load
from replica_manager.domain_specs import DomainSpecs
from replica_manager.execution.feed import PowerAction
from replica_manager.execution.local_domains import ConnectLink, DomainLink, LocalDomains
from replica_manager.execution.wrapper_link import LinkSettings, UnixWrapperLink
from replica_manager.execution.wrapper_session import WrapperLimits
from replica_manager.hypervisor.console import last_words
from replica_manager.hypervisor.hypervisor import DomainSpec
from replica_manager.hypervisor.selection import open_hypervisor
from replica_manager.identifiers import DomainId, domain_id
from replica_manager.recording.recording_format import RecordingHead

SERVER = 0
DOMAIN = domain_id(SERVER, 1)
ANSWER_TIMEOUT_S = 300.0
"""Emulated machines on a busy host take seconds for one request."""

_HEAD = """# Made by `benchmarks.replay`.
[cell]
name = "{name}"
network = "loopback"
state_dir = "{directory}/state"
"""


class DomainFailed(Exception):
    """Raised when the domain ends, hangs, is not fresh, or answers what it was not asked."""


@dataclass(frozen=True)
class MachineSource:
    """A virtual machine of an image."""

    image: str
    images: Path

    def sections(self) -> str:
        """Return the sections of the configuration that say so."""
        return f'[service]\nimage = "{self.image}"\n\n[hypervisor]\nimage_dir = "{self.images.resolve()}"\n'


@dataclass(frozen=True)
class ProcessSource:
    """A child process."""

    command: tuple[str, ...]

    def sections(self) -> str:
        """Return the sections of the configuration that say so."""
        words = ", ".join(f'"{word}"' for word in self.command)
        return f'[service]\ncommand = [{words}]\n\n[hypervisor]\ndriver = "subprocess"\nisolation = "none"\n'


DomainSource = MachineSource | ProcessSource


class FreshDomain:
    """A booted domain; a `DomainHandler` whose frames are asked for one by one."""

    def __init__(self) -> None:
        """Nothing is booted yet."""
        self.hello: WrapperHello | None = None
        self.boot_s = 0.0
        self._frames: asyncio.Queue[FromWrapper | None] = asyncio.Queue()
        self._end = ""
        self._domains: LocalDomains | None = None

    async def boot(self, config: Config, domains: LocalDomains) -> None:
        """Boot the domain and take its Hello.

        Raises:
            DomainFailed: no wrapper answers, or one that has executed something already.
            HypervisorError: it does not boot.
        """
        self._domains = domains
        started_s = time.monotonic()
        spec = DomainSpecs(config, SERVER).make(DOMAIN, 0)
        await domains.start(spec)
        self.boot_s = time.monotonic() - started_s
        if self.hello is None:
            raise DomainFailed(f"{self._end}; its console ends with: {last_words(spec.console_path)}")
        if self.hello.cursor != 1:
            raise DomainFailed(f"the domain is not fresh: its cursor is {self.hello.cursor}")

    def send(self, message: ToWrapper) -> None:
        """Send one frame."""
        assert self._domains is not None, "not booted"
        self._domains.send(DOMAIN, message)

    async def answer(self) -> FromWrapper:
        """Return the next frame.

        Raises:
            DomainFailed: the domain has ended, or says nothing for `ANSWER_TIMEOUT_S`.
        """
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                frame = await self._frames.get()
        except TimeoutError as error:
            raise DomainFailed(f"no answer within {ANSWER_TIMEOUT_S:.0f} s") from error
        if frame is None:
            raise DomainFailed(self._end)
        return frame

    def on_domain_linked(self, _domain: DomainId, hello: WrapperHello) -> None:
        """See `DomainHandler`."""
        self.hello = hello

    def on_domain_frames(self, _domain: DomainId, frames: Sequence[FromWrapper]) -> None:
        """See `DomainHandler`."""
        for frame in frames:
            self._frames.put_nowait(frame)

    def on_domain_gone(self, domain: DomainId, reason: str) -> None:
        """See `DomainHandler`."""
        self._end = f"{domain} is gone: {reason}"
        self._frames.put_nowait(None)

    def on_power_done(self, _domain: DomainId, action: PowerAction) -> None:
        """See `DomainHandler`."""
        raise AssertionError(f"nobody asked to {action.value} the domain")

    def on_domain_event(self, kind: str, domain: DomainId, **data: Any) -> None:
        """See `DomainHandler`; nothing that the report does not say."""


@asynccontextmanager
async def fresh_domain(directory: Path, source: DomainSource, head: RecordingHead) -> AsyncIterator[FreshDomain]:
    """Boot a domain of `source` with the limits of the recorded cell; it and its files are gone afterwards.

    Raises:
        ConfigError, ImageError: there is no such image.
        DomainFailed, HypervisorError: it does not boot.
    """
    config = _configuration(directory, source, head)
    paths = CellPaths.of(config)
    domain = FreshDomain()
    domains = LocalDomains(open_hypervisor(config, SERVER), _connector(config), domain, 1.0)
    try:
        for place in (paths.runtime("server", SERVER), paths.state_dir / "log", *map(Path, config.server[0].storage)):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        await domains.open(keep_disks=False)
        try:
            await domain.boot(config, domains)
            yield domain
        finally:
            await domains.close()
    finally:
        shutil.rmtree(paths.runtime_dir, ignore_errors=True)
        shutil.rmtree(paths.state_dir, ignore_errors=True)


def _configuration(directory: Path, source: DomainSource, head: RecordingHead) -> Config:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "replay.toml"
    name = f"replay-{os.getpid()}"
    file.write_text(_HEAD.format(name=name, directory=directory.resolve()) + "\n" + source.sections())
    config = load(file)
    # Only these two of the recorded cell's limits are known, and only they matter to one domain.
    limits = msgspec.structs.replace(
        config.limits, state_part_bytes_max=head.state_part_bytes_max, frame_bytes_max=head.frame_bytes_max
    )
    return msgspec.structs.replace(config, limits=limits)


def _connector(config: Config) -> ConnectLink:
    limits = WrapperLimits(config.limits.frame_bytes_max, config.limits.state_part_bytes_max)
    settings = LinkSettings(
        limits,
        write_buffer_bytes_max=4 * config.limits.frame_bytes_max,
        open_timeout_ms=config.timeouts.boot_ms,
    )

    async def connect(
        spec: DomainSpec, on_frames: Callable[[Sequence[FromWrapper]], None], on_closed: Callable[[str], None]
    ) -> tuple[DomainLink, WrapperHello]:
        link = UnixWrapperLink(spec.channel_path, settings, on_frames, lambda end: on_closed(str(end)))
        return link, await link.open(os.urandom(16))

    return connect
