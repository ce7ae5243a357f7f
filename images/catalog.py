"""The catalog: a directory of images, each in a directory named `NAME-DIGEST` with the first 12 digits of its digest.

Several processes may use one catalog: an image appears by one rename, complete, and is never changed afterwards.
Names that begin with a dot are the builder's.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.errors import ImageCorrupt, ImageRefused, ImageUnknown
from images.manifest import (
    BOOT_FILES,
    DIGEST_CHARACTERS,
    DISK_FILE,
    IMAGE_FILES,
    INITRD_FILE,
    KERNEL_FILE,
    MANIFEST_FILE,
    ROOTFS_FILE,
    Manifest,
    file_digest,
    read_manifest,
)

DIGEST_PREFIX_CHARACTERS_MIN: Final = 6


@dataclass(frozen=True, slots=True)
class Image:
    """One complete image."""

    name: str
    digest: str
    """SHA-256 of the manifest, hexadecimal."""
    directory: Path
    kernel: Path
    initrd: Path
    disk: Path
    """Base of the copy-on-write disk of every domain; never written."""
    rootfs_tar: Path
    manifest: Manifest
    memory_mib: int
    cmdline: str
    """Kernel parameters of this image, besides those of the hypervisor driver."""

    @property
    def image_id(self) -> str:
        """`NAME-DIGEST`, as in logs, in `spare.image=` and in the wrapper's hello."""
        return image_directory_name(self.name, self.digest)


class Catalog:
    """The images below one directory."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which need not exist yet."""
        # The disk of a domain names the image's disk: a relative path would be one from the domain's directory.
        self.directory = directory.absolute()

    def list(self) -> tuple[Image, ...]:
        """Return all images, by name, the newest of a name first.

        A directory whose manifest cannot be read is left out: `damaged` names it.
        """
        images = []
        for directory in self._image_directories():
            try:
                images.append((directory.stat().st_mtime_ns, open_image(directory)))
            except (ImageCorrupt, FileNotFoundError):  # damaged, or removed by another process meanwhile
                continue
        images.sort(key=lambda item: (item[1].name, -item[0], item[1].digest))
        return tuple(image for _, image in images)

    def damaged(self) -> tuple[ImageCorrupt, ...]:
        """Return why directories of the catalog that look like images are none; intact files are not read."""
        errors = []
        for directory in self._image_directories():
            try:
                open_image(directory)
            except ImageCorrupt as error:
                errors.append(error)
        return tuple(errors)

    def superseded(self, kept_count: int = 1) -> tuple[Image, ...]:
        """Return the images that could be removed: all but the `kept_count` newest of each name."""
        images = self.list()
        return tuple(
            image
            for index, image in enumerate(images)
            if index >= kept_count and images[index - kept_count].name == image.name
        )

    def resolve(self, name_or_digest: str, *, is_fault_injection_allowed: bool = False) -> Image:
        """Find an image.

        Args:
            name_or_digest: a name (its newest image), `NAME-DIGEST`, or at least 6 digits of a digest.
            is_fault_injection_allowed: whether an image that misbehaves on purpose will do.

        Raises:
            ImageUnknown: there is none, or more than one begins with these digits.
            ImageRefused: it misbehaves on purpose and `is_fault_injection_allowed` is false.
        """
        images = self.list()
        found = [image for image in images if image.name == name_or_digest][:1]
        if not found:
            found = [image for image in images if _is_meant(image, name_or_digest)]
        if len(found) != 1:
            raise self._unknown(name_or_digest, found)
        if found[0].manifest.fault_injection and not is_fault_injection_allowed:
            raise ImageRefused(
                f"The image {found[0].image_id} misbehaves on purpose and is for tests only.",
                "Choose an image without a fault variant.",
            )
        return found[0]

    def find_by_input(self, name: str, input_digest: str) -> Image | None:
        """Return the image that was built from exactly these inputs; `None`: it has to be built."""
        found = (image for image in self.list() if image.name == name)
        return next((image for image in found if image.manifest.input_digest == input_digest), None)

    def verify(self, image: Image) -> None:
        """Compare every file of an image with its digest.

        Raises:
            ImageCorrupt: names the first file that is missing or differs.
        """
        _verify_files(image, IMAGE_FILES)

    def verify_boot_files(self, image: Image) -> None:
        """Compare what a virtual machine is booted from, before each boot; the archive for containers is left out.

        Raises:
            ImageCorrupt: names the first file that is missing or differs.
        """
        _verify_files(image, BOOT_FILES)

    def remove(self, image: Image) -> None:
        """Delete an image; domains that run from its disk keep it open, but cannot be started again."""
        grave = self.directory / f".removed-{image.directory.name}"
        image.directory.rename(grave)
        shutil.rmtree(grave)

    def _image_directories(self) -> tuple[Path, ...]:
        if not self.directory.is_dir():
            return ()
        entries = sorted(self.directory.iterdir())
        return tuple(item for item in entries if not item.name.startswith(".") and (item / MANIFEST_FILE).is_file())

    def _unknown(self, wanted: str, found: Sequence[Image]) -> ImageUnknown:
        if found:
            ids = ", ".join(image.image_id for image in found)
            return ImageUnknown(f"{wanted!r} may mean {ids}.", "Write more digits of the digest.")
        recipe = wanted.rsplit("-", 1)[0] if wanted[-1:].isdigit() else wanted
        return ImageUnknown(
            f"The catalog {self.directory} has no image {wanted!r}.", f"Build it: spare image build {recipe}"
        )


def image_directory_name(name: str, digest: str) -> str:
    """Return the name of an image's directory."""
    return f"{name}-{digest[:DIGEST_CHARACTERS]}"


def open_image(directory: Path) -> Image:
    """Return the image in `directory`, without a look at its files but the manifest.

    Raises:
        ImageCorrupt: the manifest is damaged or belongs to another image.
    """
    manifest, digest = read_manifest(directory)
    if directory.name != image_directory_name(manifest.name, digest):
        raise ImageCorrupt(
            f"The manifest in {directory} belongs to {image_directory_name(manifest.name, digest)}.",
            "Remove the directory and build the image again.",
        )
    return Image(
        name=manifest.name,
        digest=digest,
        directory=directory,
        kernel=directory / KERNEL_FILE,
        initrd=directory / INITRD_FILE,
        disk=directory / DISK_FILE,
        rootfs_tar=directory / ROOTFS_FILE,
        manifest=manifest,
        memory_mib=manifest.memory_mib,
        cmdline=manifest.cmdline,
    )


def _is_meant(image: Image, wanted: str) -> bool:
    is_long_enough = len(wanted) >= DIGEST_PREFIX_CHARACTERS_MIN
    return image.image_id == wanted or (is_long_enough and image.digest.startswith(wanted))


def _verify_files(image: Image, names: tuple[str, ...]) -> None:
    manifest, digest = read_manifest(image.directory)
    hint = f"Do not boot it; remove {image.directory} and build the image again."
    if digest != image.digest:
        raise ImageCorrupt(f"The manifest of {image.image_id} has changed: its digest is {digest[:12]}.", hint)
    for name in names:
        expected = manifest.files.get(name)
        if expected is None:
            raise ImageCorrupt(f"The manifest of {image.image_id} does not list {name}.", hint)
        try:
            actual = file_digest(image.directory / name)
        except OSError as error:
            raise ImageCorrupt(f"{name} of {image.image_id} cannot be read: {error.strerror}.", hint) from error
        if actual != expected.digest:
            raise ImageCorrupt(
                f"{name} of {image.image_id} is damaged: its digest is {actual[:12]}, not {expected.digest[:12]}.",
                hint,
            )
