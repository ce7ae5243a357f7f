"""The disk of one domain: a qcow2 overlay over an image's read-only disk.

Source: QEMU, docs/interop/qcow2.txt (header); qemu-img(1).
"""

import struct
import subprocess
from pathlib import Path
from typing import Final

from replica_manager.hypervisor.hypervisor import DomainRefused, HypervisorError, HypervisorUnavailable

_HEADER: Final = struct.Struct(">4sIQI")
"""Magic, version, offset and length of the backing file's name."""
_MAGIC: Final = b"QFI\xfb"
_BACKING_NAME_BYTES_MAX: Final = 1023
_QEMU_IMG_TIMEOUT_S: Final = 60.0
"""An overlay takes 10 ms; a minute means that the storage hangs."""


def create_overlay(base: Path, overlay: Path, *, reuse: bool) -> None:
    """Create `overlay` over the qcow2 disk `base`.  Blocks for about 10 ms.

    Args:
        base: A disk that nobody writes to while overlays stand on it.
        overlay: The file to create; its directories are made too.
        reuse: Keep the overlay that is there; without, it is replaced.

    Raises:
        DomainRefused: the file to be reused is no overlay over `base`.
        HypervisorError: qemu-img failed.
        HypervisorUnavailable: qemu-img is not installed.
    """
    base = base.resolve()
    if reuse and overlay.exists():
        found = backing_file(overlay)
        if found != base:
            raise DomainRefused(f"{overlay} exists and is no overlay over {base} but over {found}.")
        return
    overlay.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A crash in the middle must not leave a file that looks complete.
    unfinished = overlay.with_name(overlay.name + ".new")
    unfinished.unlink(missing_ok=True)
    _qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(unfinished))
    unfinished.rename(overlay)


def backing_file(overlay: Path) -> Path | None:
    """Return the file that the qcow2 file `overlay` stands on, or `None` if it stands alone or is no qcow2 file."""
    with overlay.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        magic, _, offset, length = _HEADER.unpack(header)
        if magic != _MAGIC or not offset or length > _BACKING_NAME_BYTES_MAX:
            return None
        file.seek(offset)
        return Path(file.read(length).decode(errors="replace"))


def _qemu_img(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["qemu-img", *arguments], capture_output=True, text=True, check=False, timeout=_QEMU_IMG_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise HypervisorUnavailable("qemu-img is not installed; install the package qemu-utils.") from error
    except subprocess.TimeoutExpired as error:
        raise HypervisorError(f"qemu-img {arguments[0]} has not finished in {_QEMU_IMG_TIMEOUT_S:.0f} s.") from error
    if done.returncode:
        raise HypervisorError(f"qemu-img {arguments[0]} {arguments[-1]} failed: {done.stderr.strip()}.")
