"""A guest for tests that needs no image: Debian's cloud kernel, an initial file system of 300 bytes, an empty disk."""

import functools
import subprocess
import tarfile
from pathlib import Path

from replica_manager.hypervisor.hypervisor import DomainSpec
from replica_manager.hypervisor.probe_guest import busy_guest
from replica_manager.identifiers import DomainId

CACHE = Path(__file__).resolve().parents[2] / "var" / "test-guest"
META_PACKAGE = "linux-image-cloud-amd64"
GUEST_MEMORY_MIB = 128


@functools.cache
def kernel() -> Path:
    """Return Debian's present cloud kernel, fetched once with apt.

    Raises:
        subprocess.CalledProcessError: the package lists are missing (`apt-get update`) or the mirror is away.
    """
    for kept in CACHE.glob("vmlinuz-*"):
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    depends = _output("apt-cache", "depends", "--important", META_PACKAGE)
    package = next(word for word in depends.split() if word.startswith("linux-image-") and word != META_PACKAGE)
    _output("apt-get", "download", "-q", package, directory=CACHE)
    archive = next(CACHE.glob(f"{package}_*.deb"))
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as files,
    ):
        content = next(_content(files, member) for member in files if Path(member.name).name.startswith("vmlinuz-"))
        unpacking.kill()
    unfinished = CACHE / "unfinished"
    unfinished.write_bytes(content)
    archive.unlink()
    return unfinished.rename(CACHE / package.replace("linux-image", "vmlinuz"))


def guest_spec(directory: Path, generation: int, boot_kernel: Path) -> DomainSpec:
    """Return a domain that prints the mark on its console and then works for ever, with small rests."""
    initrd, base = directory / "busy.cpio", directory / "base.qcow2"
    if not base.exists():
        initrd.write_bytes(busy_guest())
        _output("qemu-img", "create", "-q", "-f", "qcow2", str(base), "16M")
    return DomainSpec(
        domain_id=DomainId(f"s0.g{generation}"),
        image="tiny-0123abcd",
        channel_path=directory / f"g{generation}.sock",
        disk_path=directory / "storage" / f"g{generation}.qcow2",
        console_path=directory / "console" / f"g{generation}.log",
        memory_mib=GUEST_MEMORY_MIB,
        kernel=boot_kernel,
        initrd=initrd,
        disk_base=base,
    )


def _content(files: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = files.extractfile(member)
    assert file is not None, f"{member.name} is no plain file"
    return file.read()


def _output(*command: str, directory: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory).stdout
