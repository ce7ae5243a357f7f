"""The first file system of a guest: loads the drivers of its devices, mounts the disk, and goes on there.

It is made from the image's own packages, so that nothing of the building machine gets in.
"""

import gzip
import lzma
import posixpath
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.cpio import CpioEntry, character_device_entry, directory_entry, encode_cpio, file_entry
from images.errors import BuildFailed

INIT_SCRIPT: Final = Path(__file__).parent / "guest" / "initrd-init"
_DIRECTORIES: Final = ("bin", "dev", "modules", "proc", "root", "sys")
_BUSYBOX_PATHS: Final = ("usr/bin/busybox", "bin/busybox")
_MODULE: Final = re.compile(r"^(?:usr/)?lib/modules/([^/]+)/(?:.*/)?([^/]+)\.ko(\.xz)?$")
_BUILTIN: Final = re.compile(r"^(?:usr/)?lib/modules/[^/]+/modules\.builtin$")
_CHANGELOG: Final = re.compile(rb"\S+ \(([^)]+)\)")
_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as it comes out of its package."""

    release: str
    """As `uname -r` prints it."""
    package_version: str
    """Of the Debian package, from its changelog."""
    image: bytes
    modules: Mapping[str, bytes]
    """Loadable modules by name, dashes written as underscores; uncompressed."""
    builtin: frozenset[str]
    """Names of modules that are part of `image`."""


def read_kernel(archive: Path, wanted: Iterable[str]) -> Kernel:
    """Read a kernel and the modules `wanted`, with those that they need.

    Args:
        archive: an unpacked kernel package, as a tar file.
        wanted: names of modules.

    Raises:
        BuildFailed: there is no kernel in it, or it lacks a module.
    """
    with tarfile.open(archive) as tar:
        members = {posixpath.normpath(member.name): member for member in tar}
        image_name = next((name for name in members if name.startswith("boot/vmlinuz-")), None)
        if image_name is None:
            raise BuildFailed("The kernel package holds no /boot/vmlinuz.", "Check kernel_package in the recipe.")
        release = image_name.removeprefix("boot/vmlinuz-")
        modules, builtin = _read_modules(tar, members, wanted)
        version = _package_version(tar, members, release)
        return Kernel(release, version, _content(tar, members[image_name]), modules, builtin)


def module_dependencies(module: bytes) -> tuple[str, ...]:
    """Return the names of the modules that must be loaded before `module`, from its `.modinfo` section."""
    match = _DEPENDS.search(module)
    return tuple(_module_name(name) for name in match[1].decode().split(",") if name) if match else ()


def load_order(kernel: Kernel, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the modules to load, each behind those that it needs; what is built in is left out."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name in kernel.builtin:
            return
        for dependency in module_dependencies(kernel.modules[name]):
            visit(dependency)
        order.append(name)

    for name in wanted:
        visit(_module_name(name))
    return tuple(order)


def build_initrd(kernel: Kernel, wanted: Iterable[str], busybox: bytes) -> bytes:
    """Return the archive; equal arguments give equal bytes.

    Args:
        kernel: from `read_kernel`.
        wanted: names of modules, in the order in which to load them.
        busybox: a statically linked busybox.
    """
    order = load_order(kernel, wanted)
    entries: list[CpioEntry] = [directory_entry(name) for name in _DIRECTORIES]
    entries.append(character_device_entry("dev/console", 5, 1))
    entries.append(file_entry("bin/busybox", busybox, 0o755))
    entries.append(file_entry("init", INIT_SCRIPT.read_bytes(), 0o755))
    entries.append(file_entry("modules/order", "".join(f"{name}\n" for name in order).encode()))
    entries += [file_entry(f"modules/{name}.ko", kernel.modules[name]) for name in order]
    return encode_cpio(entries)


def read_busybox(rootfs: Path) -> bytes:
    """Return the static busybox of a root file system archive.

    Raises:
        BuildFailed: there is none.
    """
    with tarfile.open(rootfs) as tar:
        for member in tar:
            if posixpath.normpath(member.name) in _BUSYBOX_PATHS and member.isfile():
                return _content(tar, member)
    raise BuildFailed("The root file system has no busybox.", "Add busybox-static to the packages of the recipe.")


def _read_modules(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], wanted: Iterable[str]
) -> tuple[dict[str, bytes], frozenset[str]]:
    paths = {_module_name(match[2]): name for name in members if (match := _MODULE.match(name))}
    builtin_lists = [_content(tar, members[name]).decode() for name in members if _BUILTIN.match(name)]
    builtin = frozenset(_module_name(Path(line).stem) for text in builtin_lists for line in text.split())
    modules: dict[str, bytes] = {}
    pending = [_module_name(name) for name in wanted]
    while pending:
        name = pending.pop()
        if name in modules or name in builtin:
            continue
        if name not in paths:
            raise BuildFailed(f"The kernel has no module {name!r}.", "Check modules in the recipe.")
        modules[name] = _uncompressed(paths[name], _content(tar, members[paths[name]]))
        pending += module_dependencies(modules[name])
    return modules, builtin


def _package_version(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], release: str) -> str:
    directory = f"usr/share/doc/linux-image-{release}/"
    for name in (f"{directory}changelog.Debian.gz", f"{directory}changelog.gz"):
        if name in members and (match := _CHANGELOG.match(gzip.decompress(_content(tar, members[name])))):
            return match[1].decode()
    return "unknown"


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, member.name
    return file.read()


def _uncompressed(name: str, content: bytes) -> bytes:
    return lzma.decompress(content) if name.endswith(".xz") else content


def _module_name(name: str) -> str:
    # The kernel treats both spellings as one; files use either.
    return name.replace("-", "_")
