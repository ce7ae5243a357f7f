"""Network namespaces with a name: the files below `/run/netns` that `ip netns` knows too.

A network namespace belongs to a thread.  What has to happen inside one runs in a thread of its own, which enters it and
ends; a process as a whole enters by `enter`, before it has any other thread.

Differs from `ip netns add` in one point: `/run/netns` is not turned into a mount of its own, so that nothing is left
when the last namespace is gone.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from replica_manager.network.errors import NetworkError

DIRECTORY = Path("/run/netns")
PROCESSES = Path("/proc")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 0x2
_LIBC = ctypes.CDLL(None, use_errno=True)

ResultT = TypeVar("ResultT")


def path_of(name: str) -> Path:
    """Return the file that stands for the namespace."""
    return DIRECTORY / name


def exists(name: str) -> bool:
    """Tell whether there is a namespace of this name; a file that none is bound to is the rest of a crash."""
    try:
        return path_of(name).stat().st_dev != DIRECTORY.stat().st_dev
    except OSError:
        return False


def names() -> list[str]:
    """Return the names of all files below `/run/netns`, also of half-made namespaces."""
    return sorted(path.name for path in DIRECTORY.iterdir()) if DIRECTORY.is_dir() else []


def create(name: str) -> bool:
    """Make a namespace unless it exists; tell whether it was made.

    Raises:
        NetworkError: the kernel refuses, mostly for want of root.
    """
    if exists(name):
        return False
    try:
        DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
        path_of(name).touch(mode=0o444)
    except OSError as error:
        raise NetworkError(f"network namespace {name} cannot be made: {error.strerror}") from error
    _in_thread(lambda: _unshare_and_bind(name))
    return True


def delete(name: str) -> bool:
    """Remove a namespace and all that is in it, or what a crash left of it; tell whether there was anything.

    Processes inside keep it alive, without a name, until they end.

    Raises:
        NetworkError: the kernel refuses.
    """
    path = path_of(name)
    if not path.exists():
        return False
    # Bound more than once if `/run/netns` became a mount of its own meanwhile.
    while exists(name):
        _check(_LIBC.umount2(os.fsencode(path), _MNT_DETACH), f"network namespace {name} cannot be removed")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise NetworkError(f"network namespace {name} cannot be removed: {error.strerror}") from error
    return True


def enter(name: str) -> None:
    """Move this process into a namespace; sockets it has already stay where they are.

    Raises:
        NetworkError: the process has other threads (they would stay outside), or there is no such namespace.
    """
    if threading.active_count() != 1:
        raise NetworkError(f"network namespace {name} cannot be entered by a process with several threads")
    _enter_thread(name)


def call_in(name: str, action: Callable[[], ResultT]) -> ResultT:
    """Run `action` inside a namespace, in a thread of its own; return its result or raise its exception.

    Sockets that it makes belong to the namespace wherever they are used; processes that it starts run inside.
    """

    def in_namespace() -> ResultT:
        _enter_thread(name)
        return action()

    return _in_thread(in_namespace)


def process_ids(name: str) -> list[int]:
    """Return the processes inside a namespace, without this one."""
    try:
        wanted = path_of(name).stat().st_ino
    except OSError:
        return []
    return [pid for pid in _all_process_ids() if pid != os.getpid() and _namespace_of(pid) == wanted]


def _all_process_ids() -> list[int]:
    return sorted(int(path.name) for path in PROCESSES.iterdir() if path.name.isdigit())


def _namespace_of(pid: int) -> int | None:
    try:
        return os.stat(PROCESSES / str(pid) / "ns" / "net").st_ino
    except OSError:
        # Ended meanwhile, or a zombie.
        return None


def _unshare_and_bind(name: str) -> None:
    """Give the calling thread a new namespace and its name; the name keeps it when the thread ends."""
    _check(_LIBC.unshare(_CLONE_NEWNET), f"network namespace {name} cannot be made")
    source = b"/proc/thread-self/ns/net"
    bound = _LIBC.mount(source, os.fsencode(path_of(name)), b"none", _MS_BIND, None)
    _check(bound, f"network namespace {name} cannot be given its name")


def _enter_thread(name: str) -> None:
    try:
        descriptor = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkError(f"network namespace {name} cannot be entered: {error.strerror}") from error
    try:
        _check(_LIBC.setns(descriptor, _CLONE_NEWNET), f"network namespace {name} cannot be entered")
    finally:
        os.close(descriptor)


def _in_thread(action: Callable[[], ResultT]) -> ResultT:
    """Run `action` in a fresh thread; return its result or raise its exception here."""
    results: list[ResultT] = []
    errors: list[BaseException] = []

    def run() -> None:
        # A supervisor: whatever is raised in the thread is raised in its caller.
        try:
            results.append(action())
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run, name="in-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _check(status: int, what: str) -> None:
    """Raise the kernel's error of the last call.

    Raises:
        NetworkError: `status` is not 0.
    """
    if status != 0:
        code = ctypes.get_errno()
        hint = "; run as root" if code == errno.EPERM else ""
        raise NetworkError(f"{what}: {os.strerror(code)}{hint}")
