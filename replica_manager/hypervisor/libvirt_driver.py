"""The one module that imports libvirt: blocking calls, its event thread, its errors in our words.

Everything here may block for as long as the hypervisor likes and runs in threads of `LibvirtHypervisor`, except the
callbacks, which run in libvirt's event thread.
Source: libvirt, "API reference" (virDomain, virEvent); design "Hypervisor".
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

# libvirt reads this when it is imported.  Without it the embedded driver writes a line to the standard error for every
# start and for every error that it also raises; an operator who wants them sets the variable.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

import libvirt

from replica_manager.hypervisor.embedded_root import on_one_processor
from replica_manager.hypervisor.hypervisor import DomainState, HypervisorError, HypervisorUnavailable

LifecycleCallback = Callable[[str, str, DomainState, str], None]
"""Name and UUID of the domain, its new state, the reason in libvirt's words."""

EMBEDDED_URI: Final = "qemu:///embed"

KEEPALIVE_INTERVAL_S: Final = 2
KEEPALIVE_COUNT: Final = 3
"""A daemon that has been silent for 8 s counts as lost."""

_STATE_OF: Final = {
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.SUSPENDED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.SUSPENDED,
}
"""Anything else is `STOPPED`."""

_STATE_AFTER: Final = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: DomainState.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: DomainState.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: DomainState.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: DomainState.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: DomainState.STOPPED,
}
"""Other events (defined, undefined) change nothing that we report.  After `SHUTDOWN` no guest runs any more."""

_EVENT_NAMES: Final = ("STARTED", "RESUMED", "SUSPENDED", "PMSUSPENDED", "SHUTDOWN", "STOPPED", "CRASHED")

_REASONS: Final = {
    (getattr(libvirt, f"VIR_DOMAIN_EVENT_{event}"), number): f"{event} {constant.rpartition('_')[2]}".lower()
    for event in _EVENT_NAMES
    for constant, number in vars(libvirt).items()
    if constant.startswith(f"VIR_DOMAIN_EVENT_{event}_")
}
"""Event and detail to libvirt's words for them: `stopped crashed`, `suspended ioerror`, `shutdown guest`, …"""

_LOST_CONNECTION: Final = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_AUTH_FAILED,
    }
)

_HINTS: Final = (
    ("Failed to parse user 'libvirt-qemu'", "install libvirt-daemon-system or create the system user libvirt-qemu"),
    ("Failed to acquire pid file", "another process uses this hypervisor directory; is the server running already?"),
    ("already open with path", "a process can open one hypervisor directory only"),
    ("Failed to connect socket", "is libvirtd running, and may this user connect?"),
    ("no connection driver available", "install libvirt-daemon-driver-qemu"),
)
"""Words of libvirt 9.0 and what an operator can do about them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One active domain as libvirt knows it."""

    name: str
    uuid: str
    state: DomainState


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """CPU time and memory as libvirt counts them, for machines whose process this host does not see."""

    cpu_seconds: float
    memory_bytes: int


class LibvirtConnection:
    """A connection to one libvirt; every method blocks and may be called from any thread."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connection: libvirt.virConnect | None = None
        self._callback_id: int | None = None

    def open(self, on_lifecycle: LifecycleCallback, on_lost: Callable[[str], None]) -> None:
        """Connect; both callbacks are called in libvirt's event thread.

        Raises:
            HypervisorUnavailable: libvirt's words and, if known, what to do.
        """
        _start_event_thread()
        with _as_hypervisor_error(f"The hypervisor at {self.uri} cannot be opened", HypervisorUnavailable):
            connection = _open(self.uri)
            self._callback_id = connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _report_lifecycle, on_lifecycle
            )
            connection.registerCloseCallback(_report_close, on_lost)
        with suppress(libvirt.libvirtError):  # drivers inside this process have nothing to keep alive
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        self._connection = connection

    def close(self) -> None:
        """Disconnect; nothing happens if that was done already or the connection is lost.

        The embedded driver itself ends with the process.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
            if self._callback_id is not None:
                connection.domainEventDeregisterAny(self._callback_id)
            if connection is not _embedded_connection:
                connection.close()

    def probe(self) -> None:
        """Make libvirt find out what its hypervisor can do; a fresh embedded root needs seconds for it."""
        with _as_hypervisor_error(f"The capabilities of {self.uri} cannot be read"):
            self._require().getCapabilities()

    def create(self, name: str, xml: str) -> None:
        """Create and boot the transient domain that `xml` describes."""
        with _as_hypervisor_error(f"Domain {name} cannot be started"):
            self._require().createXML(xml, 0)

    def suspend(self, name: str) -> None:
        """Suspend an active domain, unless it is."""
        with _as_hypervisor_error(f"Domain {name} cannot be suspended"):
            domain = self._lookup(name)
            if _state(domain) is not DomainState.SUSPENDED:
                domain.suspend()

    def resume(self, name: str) -> None:
        """Resume an active domain, unless it runs."""
        with _as_hypervisor_error(f"Domain {name} cannot be resumed"):
            domain = self._lookup(name)
            if _state(domain) is DomainState.SUSPENDED:
                domain.resume()

    def destroy(self, name: str) -> None:
        """End a domain at once; nothing happens if it is not active."""
        with _as_hypervisor_error(f"Domain {name} cannot be destroyed"):
            try:
                self._lookup(name).destroy()
            except libvirt.libvirtError as error:
                # A persistent domain of this name, which somebody else defined, answers OPERATION_INVALID.
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                    raise

    def machines(self) -> list[Machine]:
        """Return all active domains of the connection."""
        with _as_hypervisor_error(f"The domains of {self.uri} cannot be listed"):
            active = self._require().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return list(_looked_at(active))

    def describe(self, name: str) -> str:
        """Return libvirt's XML of an active domain."""
        with _as_hypervisor_error(f"Domain {name} cannot be described"):
            return str(self._lookup(name).XMLDesc(0))

    def usage(self, name: str) -> MachineUsage:
        """Return what libvirt says that a domain has used."""
        with _as_hypervisor_error(f"Domain {name} cannot be looked at"):
            _, _, memory_kib, _, cpu_ns = self._lookup(name).info()
        return MachineUsage(cpu_ns / 1e9, memory_kib * 1024)

    def set_cpu_shares(self, name: str, weight: float, normal: int | None) -> int | None:
        """Give a domain `weight` of a normal domain's CPU shares.

        Args:
            name: An active domain.
            weight: 0 < weight ≤ 1.
            normal: What `normal` shares are, as an earlier call returned it; `None` at the first call, when the
                domain still has them (1024 with the first version of control groups, 100 with the second).

        Returns:
            The normal shares, or `None` if this libvirt does not control them (no control groups).
        """
        try:
            domain = self._lookup(name)
            if normal is None:
                normal = domain.schedulerParameters().get("cpu_shares")
            if normal is None:
                return None
            domain.setSchedulerParameters({"cpu_shares": max(2, round(normal * weight))})
        except libvirt.libvirtError:
            return None
        return normal

    def _require(self) -> "libvirt.virConnect":
        if self._connection is None:
            raise HypervisorUnavailable(f"The hypervisor at {self.uri} is not open.")
        return self._connection

    def _lookup(self, name: str) -> "libvirt.virDomain":
        return self._require().lookupByName(name)


_embedded_connection: "libvirt.virConnect | None" = None
"""The process's connection to its embedded driver, once opened."""


def _open(uri: str) -> "libvirt.virConnect":
    """Open a connection; the embedded driver only once.

    It cannot be left for another root, and libvirt registers it again with every connection, until after some fifteen
    it says "Too many drivers, cannot register QEMU".
    """
    global _embedded_connection
    if not uri.startswith(EMBEDDED_URI):
        return libvirt.open(uri)
    if _embedded_connection is None or _embedded_connection.getURI() != uri:
        with on_one_processor():
            _embedded_connection = libvirt.open(uri)
    return _embedded_connection


def _looked_at(domains: "list[libvirt.virDomain]") -> Iterator[Machine]:
    for domain in domains:
        try:
            state = _state(domain)
        except libvirt.libvirtError:
            continue  # it has ended since it was listed
        yield Machine(domain.name(), domain.UUIDString(), state)


def _state(domain: "libvirt.virDomain") -> DomainState:
    return _STATE_OF.get(domain.state()[0], DomainState.STOPPED)


@contextmanager
def _as_hypervisor_error(what: str, kind: type[HypervisorError] = HypervisorError) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        words = str(error.get_error_message() or error)
        hint = next((f" ({hint})" for fragment, hint in _HINTS if fragment in words), "")
        if error.get_error_code() in _LOST_CONNECTION:
            kind = HypervisorUnavailable
        raise kind(f"{what}: {words.rstrip('.')}{hint}.") from error


@functools.cache
def _start_event_thread() -> None:
    """Run libvirt's event loop, of which a process has one, in a thread for the rest of the process's life."""
    # Without this, every error that is handled is also printed on the standard error.
    libvirt.registerErrorHandler(_say_nothing, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, name="libvirt-events", daemon=True).start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _say_nothing(_context: object, _error: object) -> None:
    return


def _report_close(_connection: object, reason: int, on_lost: Callable[[str], None]) -> None:
    names = {
        libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "it closed the connection",
        libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "it does not answer",
        libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "we closed the connection",
    }
    on_lost(names.get(reason, "the connection failed"))


def _report_lifecycle(
    _connection: object, domain: "libvirt.virDomain", event: int, detail: int, on_lifecycle: LifecycleCallback
) -> None:
    state = _STATE_AFTER.get(event)
    if state is not None:
        on_lifecycle(domain.name(), domain.UUIDString(), state, _REASONS.get((event, detail), "unknown"))
