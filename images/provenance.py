"""What went into an image, read from its own root file system."""

import hashlib
import posixpath
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from images.errors import BuildFailed
from images.initrd import Kernel
from images.manifest import MANIFEST_FORMAT, Manifest, ManifestFile
from images.overlay import BuildInputs
from images.recipe import ImageDefinition, canonical_recipe

_DPKG_STATUS: Final = "var/lib/dpkg/status"


def describe_image(
    definition: ImageDefinition,
    inputs: BuildInputs,
    kernel: Kernel,
    wheels: Mapping[str, str],
    files: Mapping[str, ManifestFile],
    rootfs: Path,
) -> Manifest:
    """Return the manifest of a finished build.

    Args:
        definition: what was built.
        inputs: everything that came from this project.
        kernel: the kernel that was put in.
        wheels: digests of the Python wheels by file name.
        files: the files of the image by name.
        rootfs: the root file system archive.

    Raises:
        BuildFailed: a step did not leave the data set's description where the recipe says.
    """
    recipe = definition.recipe
    wanted = {_DPKG_STATUS} | ({recipe.data_set_file.lstrip("/")} if recipe.data_set_file else set())
    contents = _read_members(rootfs, wanted)
    data_set = None
    if recipe.data_set_file is not None:
        data_set = _parse_data_set(recipe.data_set_file, contents.get(recipe.data_set_file.lstrip("/")))
    return Manifest(
        format=MANIFEST_FORMAT,
        name=definition.name,
        summary=recipe.summary,
        fault_injection=definition.fault_injection,
        release=recipe.release,
        kernel_release=kernel.release,
        memory_mib=recipe.memory_mib,
        disk_mib=recipe.disk_mib,
        cmdline=recipe.cmdline,
        entry=recipe.entry.strip(),
        packages=parse_dpkg_status(contents.get(_DPKG_STATUS, b"").decode()),
        kernel_package=f"{recipe.kernel_package} {kernel.package_version}",
        wheels=dict(wheels),
        files=dict(files),
        recipe_digest=hashlib.sha256(canonical_recipe(definition)).hexdigest(),
        input_digest=inputs.digest,
        source_date_epoch=recipe.source_date_epoch,
        data_set=data_set,
        not_reproducible=recipe.not_reproducible,
        project_packages=dict(inputs.project_packages),
    )


def parse_dpkg_status(text: str) -> dict[str, str]:
    """Return the version of every installed package.

    Source: deb822(5), dpkg's status file.
    """
    packages = {}
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            packages[fields["Package"]] = fields["Version"]
    return packages


def _read_members(archive: Path, wanted: set[str]) -> dict[str, bytes]:
    contents = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            if name in wanted and (file := tar.extractfile(member)) is not None:
                contents[name] = file.read()
    return contents


def _parse_data_set(path: str, content: bytes | None) -> dict[str, str | int]:
    hint = "A step of the recipe has to write it, as one JSON object of strings and numbers."
    if content is None:
        raise BuildFailed(f"The root file system has no {path}.", hint)
    try:
        return msgspec.json.decode(content, type=dict[str, str | int])
    except msgspec.DecodeError as error:
        raise BuildFailed(f"{path} does not describe a data set: {error}.", hint) from error
