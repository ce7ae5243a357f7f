"""What an image consists of: the file that gives it its name.

The digest of an image is the SHA-256 of its `manifest.json`, and the manifest has the digest of every other file.
It holds nothing that differs between two builds of the same inputs: no time, no path, no host.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from images.errors import ImageCorrupt

MANIFEST_FILE: Final = "manifest.json"
KERNEL_FILE: Final = "vmlinuz"
INITRD_FILE: Final = "initrd"
ROOTFS_FILE: Final = "rootfs.tar"
DISK_FILE: Final = "disk.qcow2"
IMAGE_FILES: Final = (KERNEL_FILE, INITRD_FILE, ROOTFS_FILE, DISK_FILE)
BOOT_FILES: Final = (KERNEL_FILE, INITRD_FILE, DISK_FILE)
"""What a virtual machine is started from; containers use `ROOTFS_FILE`."""
DIGEST_CHARACTERS: Final = 12
"""How much of the digest is in a directory's name: 48 bits, against accidents; `verify` compares all of it."""
MANIFEST_FORMAT: Final = 1
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ManifestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the image directory."""

    digest: Sha256
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is known about an image."""

    format: int
    name: str
    """Of the recipe, with `+VARIANT`."""
    summary: str
    fault_injection: bool
    """It misbehaves on purpose: for tests only."""
    release: str
    kernel_release: str
    memory_mib: int
    disk_mib: int
    cmdline: str
    """Kernel parameters besides those of the hypervisor driver."""
    entry: str
    packages: dict[str, str]
    """Debian packages of the root file system: version by name."""
    kernel_package: str
    """Name and version of the package that kernel and modules are from."""
    wheels: dict[str, Sha256]
    """Python wheels by file name."""
    files: dict[str, ManifestFile]
    recipe_digest: Sha256
    """Of the recipe's content, without its layout and comments."""
    input_digest: Sha256
    """Of everything that a build reads from this project; equal inputs need no second build."""
    source_date_epoch: int
    data_set: dict[str, str | int] | None
    """What the recipe's data step said about the data it loaded, with a content digest."""
    not_reproducible: tuple[str, ...]
    """Paths whose bytes differ between two builds of the same inputs, with the reason."""
    project_packages: dict[str, Sha256] = {}
    """This project's own packages: SHA-256 over the files of each, by name."""


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the only spelling of a manifest: sorted keys, indented for readers."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def manifest_digest(encoded: bytes) -> str:
    """Return the digest of the image that this manifest describes, in hexadecimal."""
    return hashlib.sha256(encoded).hexdigest()


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """Return the manifest of an image directory and the image's digest.

    Raises:
        ImageCorrupt: there is none, or it cannot be read.
    """
    path = directory / MANIFEST_FILE
    hint = "Remove the directory and build the image again."
    try:
        with path.open("rb") as file:
            encoded = file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise ImageCorrupt(f"The manifest {path} cannot be read: {error.strerror}.", hint) from error
    if len(encoded) > MANIFEST_BYTES_MAX:
        raise ImageCorrupt(f"The manifest {path} has more than {MANIFEST_BYTES_MAX} bytes.", hint)
    try:
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImageCorrupt(f"The manifest {path} is damaged: {error}.", hint) from error
    return manifest, manifest_digest(encoded)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> ManifestFile:
    """Return the manifest's entry for a file.

    Raises:
        OSError: it cannot be read.
    """
    return ManifestFile(file_digest(path), path.stat().st_size)
