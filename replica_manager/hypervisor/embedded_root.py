"""The root directory of libvirt's embedded QEMU driver, and what it asks of the process that embeds it.

Source: libvirt, "QEMU driver", section "Embedded driver"; prctl(2).
"""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from replica_manager.hypervisor.domain_process import process_usage
from replica_manager.hypervisor.hypervisor import DomainRefused

ROOT_PATH_BYTES_MAX: Final = 60
"""libvirt binds monitor sockets at `<root>/lib/qemu/domain-<id>-<20 bytes of name>/monitor.sock`."""

QEMU_CONFIGURATION: Final = """\
# Without a daemon there is no virtlogd to write consoles.
stdio_handler = "file"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
"""

_PR_SET_CHILD_SUBREAPER: Final = 36
_CAPABILITIES: Final = Path("cache/qemu/capabilities")


def prepare_root(root: Path, capabilities_cache: Path | None) -> None:
    """Make `root` ready to be opened; idempotent.

    Raises:
        DomainRefused: the path is too long for the sockets below it.
    """
    length = len(bytes(root))
    if length > ROOT_PATH_BYTES_MAX:
        raise DomainRefused(
            f"The hypervisor's directory {root} has {length} bytes; with more than {ROOT_PATH_BYTES_MAX}"
            " its sockets cannot be bound: choose a shorter runtime_dir."
        )
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/qemu.conf").write_text(QEMU_CONFIGURATION)
    if capabilities_cache is not None:
        _copy_new(capabilities_cache, root / _CAPABILITIES)


def keep_capabilities(root: Path, capabilities_cache: Path) -> None:
    """Keep what libvirt found out about QEMU for the next root; it checks by itself whether that is still true.

    Asking QEMU takes 1.7 s with our reaping, 8 s without, and two cores.
    """
    _copy_new(root / _CAPABILITIES, capabilities_cache)


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep the calling thread on one processor.

    libvirt throws what it knows of QEMU away when the processor's identification has changed ("host cpuid changed"),
    and that holds the number of the processor on which the embedded driver happened to be opened.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends, as every QEMU of the embedded driver does.

    libvirt waits until a destroyed QEMU has been reaped; some first processes take more than a second for that.

    Raises:
        OSError: the kernel refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def reap_probes() -> int:
    """Reap ended QEMU children, which libvirt started to learn their capabilities; return how many.

    libvirt kills each of them and then waits up to 20 s for its end to be noticed: with us as the parent nobody else
    notices it.  Only to be called before the first domain starts.  Never waits for other children: they are
    somebody's, and a status can be taken only once.
    """
    reaped = 0
    for pid in _children():
        usage = process_usage(pid)
        if usage is None or usage.state != "Z" or not _name_of(pid).startswith("qemu-system"):
            continue
        try:
            reaped += os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            continue
    return reaped


def _children() -> list[int]:
    # Orphans are given to the main thread, whose id is the process id.
    return [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _copy_new(source: Path, target: Path) -> None:
    """Copy the files of `source` that `target` does not have; no reader ever sees half a file."""
    if not source.is_dir():
        return
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in source.iterdir():
        wanted = target / file.name
        if file.suffix != ".xml" or (wanted.exists() and wanted.stat().st_mtime >= file.stat().st_mtime):
            continue
        unfinished = target / f".{file.name}.{os.getpid()}"
        shutil.copy2(file, unfinished)
        unfinished.rename(wanted)
