"""The connection to libvirt as the event loop sees it: calls in threads, events in the loop, reconnecting."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from replica_manager.hypervisor.domain_xml import DiskCache
from replica_manager.hypervisor.embedded_root import adopt_orphans, keep_capabilities, prepare_root, reap_probes
from replica_manager.hypervisor.hypervisor import DomainState
from replica_manager.hypervisor.libvirt_driver import EMBEDDED_URI, LibvirtConnection

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

THREADS_MAX: Final = 4
"""libvirt calls at a time: two domains being handled, one observation, one boot."""
_PROBE_REAP_INTERVAL_S: Final = 0.02

OnLifecycle = Callable[[str, str, DomainState, str, float], None]
"""Name and UUID of the domain, its new state, the reason, and when it came (`time.monotonic()`)."""


@dataclass(frozen=True, slots=True)
class LibvirtOptions:
    """How to reach libvirt and what the host adds to every domain."""

    uri: str = EMBEDDED_URI
    """Any libvirt URI; not used with `embedded_root`."""
    embedded_root: Path | None = None
    """Directory of an own embedded QEMU driver.  A process can use one such directory in its life."""
    capabilities_cache: Path | None = None
    """Shared by all embedded roots of this machine; saves a fresh one the seconds of asking QEMU."""
    name_prefix: str = ""
    """Put before domain ids, so that several cells can share one libvirt; domains without it are not ours."""
    disk_cache: DiskCache = "writeback"

    @property
    def full_uri(self) -> str:
        """The URI to open."""
        return self.uri if self.embedded_root is None else f"{EMBEDDED_URI}?root={self.embedded_root}"


class LibvirtSession:
    """Owns the connection and its threads."""

    def __init__(self, options: LibvirtOptions) -> None:
        self.connection = LibvirtConnection(options.full_uri)
        self._options = options
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="hypervisor")
        self._on_lifecycle: OnLifecycle | None = None
        self._lost: str | None = None
        """Why the connection was lost, until it is there again."""
        self._connecting = asyncio.Lock()

    async def open(self, on_lifecycle: OnLifecycle) -> None:
        """Connect; `on_lifecycle` is called in the event loop.

        Raises:
            DomainRefused: the embedded root's path is too long.
            HypervisorUnavailable: not reachable.
        """
        self._on_lifecycle = on_lifecycle
        root = self._options.embedded_root
        if root is None:
            await self._connect()
            return
        await self.in_thread(prepare_root, root, self._options.capabilities_cache)
        adopt_orphans()
        await self._connect()
        await self._learn_capabilities(root)

    async def close(self) -> None:
        """Disconnect; calls that hang are left behind."""
        self._on_lifecycle = None
        await self.in_thread(self.connection.close)
        self._threads.shutdown(wait=False)

    async def in_thread(
        self, call: Callable[Arguments, Result], *arguments: Arguments.args, **keywords: Arguments.kwargs
    ) -> Result:
        """Run a call that may block in one of the session's threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*arguments, **keywords))

    async def reconnect_if_lost(self) -> None:
        """Connect again if the connection has broken.

        Raises:
            HypervisorUnavailable: still not reachable.
        """
        async with self._connecting:
            if self._lost is not None:
                await self.in_thread(self.connection.close)
                await self._connect()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()

        def post(callback: Callable[..., None], *arguments: object) -> None:
            # The loop may have been closed while libvirt's thread had this event in its hands.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(callback, *arguments)

        await self.in_thread(
            self.connection.open,
            lambda *event: post(self._deliver, *event, time.monotonic()),
            lambda reason: post(self._note_loss, reason),
        )
        self._lost = None

    async def _learn_capabilities(self, root: Path) -> None:
        """Let libvirt ask QEMU what it can, with us reaping each QEMU that it starts and ends for that."""
        learning = asyncio.ensure_future(self.in_thread(self.connection.probe))
        while not learning.done():
            reap_probes()
            await asyncio.wait([learning], timeout=_PROBE_REAP_INTERVAL_S)
        learning.result()
        reap_probes()
        if self._options.capabilities_cache is not None:
            await self.in_thread(keep_capabilities, root, self._options.capabilities_cache)

    def _deliver(self, name: str, uuid: str, state: DomainState, reason: str, monotonic_s: float) -> None:
        if self._on_lifecycle is not None:
            self._on_lifecycle(name, uuid, state, reason, monotonic_s)

    def _note_loss(self, reason: str) -> None:
        self._lost = reason
