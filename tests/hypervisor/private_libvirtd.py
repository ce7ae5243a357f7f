"""A libvirtd of the tests' own: private mounts, so that it shares no file with the machine's, and its own process ids,

so that it ends with everything it started.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replica_manager.hypervisor.embedded_root import QEMU_CONFIGURATION
from replica_manager.hypervisor.subprocess_driver import is_listening

START_TIMEOUT_S = 60.0

_SCRIPT = """
set -e
for pair in run:/run/libvirt etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
  mkdir -p "${pair#*:}"
  mount --bind "$1/${pair%%:*}" "${pair#*:}"
done
# The shell is process 1 here and, while it waits, reaps every QEMU whose parent has ended; libvirtd would not.
libvirtd -f "$1/libvirtd.conf" -p "$1/libvirtd.pid" &
wait
"""


@contextmanager
def private_libvirtd(directory: Path, capabilities: Path | None = None) -> Iterator[str]:
    """Run a libvirtd whose files are below `directory`; give its URI.

    Args:
        directory: Short; sockets are bound below it.
        capabilities: What is known of QEMU already, to save 8 s.
    """
    _prepare(directory, capabilities)
    socket = directory / "sock" / "libvirt-sock"
    isolation = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
    with (directory / "libvirtd.out").open("wb") as output:
        daemon = subprocess.Popen(
            ["unshare", *isolation, "sh", "-c", _SCRIPT, "sh", str(directory)], stdout=output, stderr=output
        )
    try:
        _wait_for(daemon, socket, directory / "libvirtd.out")
        yield f"qemu+unix:///system?socket={socket}"
    finally:
        daemon.kill()
        daemon.wait()


def _prepare(directory: Path, capabilities: Path | None) -> None:
    for name in ("run", "etc", "lib", "log", "cache/qemu/capabilities", "sock"):
        (directory / name).mkdir(parents=True)
    (directory / "etc/qemu.conf").write_text(QEMU_CONFIGURATION)
    (directory / "libvirtd.conf").write_text(
        f'unix_sock_dir = "{directory}/sock"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n'
    )
    for known in capabilities.glob("*.xml") if capabilities else ():
        (directory / "cache/qemu/capabilities" / known.name).write_bytes(known.read_bytes())


def _wait_for(daemon: "subprocess.Popen[bytes]", socket: Path, output: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not is_listening(socket):
        assert daemon.poll() is None, f"libvirtd ended at its start: {output.read_text()}"
        assert time.monotonic() < deadline_s, f"libvirtd does not listen on {socket}: {output.read_text()}"
        time.sleep(0.02)
