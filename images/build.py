"""Building an image: recipe → layers → root file system → initrd and disk → manifest → catalog.

A build works in a hidden directory of the catalog and ends with one rename.  Whatever interrupts it leaves the
catalog as it was; the hidden directory is removed at the end, or, after a `kill -9`, by the next build of that image.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from images.bootstrap import Workshop, assemble_rootfs
from images.catalog import Catalog, Image, image_directory_name, open_image
from images.disk import build_disk, missing_disk_tools
from images.errors import BuildToolMissing, DiskFull, ImageCorrupt
from images.initrd import Kernel, build_initrd, read_busybox, read_kernel
from images.layers import LayerStore
from images.locking import exclusive
from images.manifest import (
    DISK_FILE,
    IMAGE_FILES,
    INITRD_FILE,
    KERNEL_FILE,
    MANIFEST_FILE,
    ROOTFS_FILE,
    describe_file,
    encode_manifest,
    manifest_digest,
)
from images.overlay import PROJECT_ROOT, BuildInputs, collect_inputs, write_overlay
from images.progress import BuildProgress, ProgressLog, Report, open_progress
from images.provenance import describe_image
from images.recipe import RECIPES, ImageDefinition, define_image
from images.wheels import NO_WHEELS, Wheels, fetch_wheels

STEP_COUNT: Final = 7
"""As many as `_run_steps` has."""
FREE_MIB_MIN: Final = 1024
"""What a build needs besides three times the recipe's disk."""
_TOOLS: Final = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "setpriv": "util-linux"}
_REMOVAL_TRIES: Final = 5


def build(
    recipe_name: str,
    catalog: Catalog,
    report: Report,
    variant: str | None = None,
    *,
    is_refresh: bool = False,
    recipes: Path = RECIPES,
    project_root: Path = PROJECT_ROOT,
) -> Image:
    """Return the image of a recipe; build it unless the catalog has one of the same inputs.

    Args:
        recipe_name: of the recipe, or `RECIPE+VARIANT`.
        catalog: where the image goes.
        report: called in this thread with every sign of progress.
        variant: of the recipe; `None`: the plain image.
        is_refresh: build in any case, with the newest packages of the mirrors.
        recipes: directory of the recipes.
        project_root: where the project's own packages are.

    Raises:
        RecipeUnknown: no such recipe or variant.
        RecipeInvalid: the recipe has a mistake.
        BuildToolMissing: a program is missing on this machine.
        BuildFailed: a step failed.
        DiskFull: not enough space.
    """
    definition = define_image(recipe_name, variant, recipes)
    inputs = collect_inputs(definition, project_root)
    progress = open_progress(definition.name, STEP_COUNT, report)
    with _named_disk_errors(catalog.directory):
        catalog.directory.mkdir(parents=True, exist_ok=True)
        with exclusive(catalog.directory / ".locks" / definition.name, progress, definition.name):
            existing = None if is_refresh else _reuse(catalog, definition, inputs)
            return existing or _build_new(definition, inputs, catalog, progress, is_refresh)


def check_tools() -> None:
    """Look for what a build needs of this machine.

    Raises:
        BuildToolMissing: programs are missing, or the rights of root.
    """
    if os.geteuid() != 0:
        raise BuildToolMissing("Images can only be built as root.", "Run the command with sudo.")
    missing = {program: package for program, package in _TOOLS.items() if shutil.which(program) is None}
    missing |= missing_disk_tools()
    if missing:
        names, packages = ", ".join(missing), " ".join(sorted(set(missing.values())))
        raise BuildToolMissing(f"Images cannot be built without {names}.", f"apt-get install {packages}")


def _reuse(catalog: Catalog, definition: ImageDefinition, inputs: BuildInputs) -> Image | None:
    image = catalog.find_by_input(definition.name, inputs.digest)
    if image is None:
        return None
    intact = _intact_image(catalog, image.directory)
    if intact is None:
        return None
    # The newest image of a name is the one that is used: this is what was asked for last.
    os.utime(image.directory)
    return intact


def _build_new(
    definition: ImageDefinition, inputs: BuildInputs, catalog: Catalog, progress: ProgressLog, is_refresh: bool
) -> Image:
    check_tools()
    _check_space(catalog.directory, definition)
    log = catalog.directory / ".logs" / f"{definition.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    with _work_directory(catalog.directory, definition.name) as directory:
        workshop = Workshop(directory, log, definition.recipe.source_date_epoch, progress)
        layers = LayerStore(catalog.directory / ".layers", is_refresh)
        return _run_steps(definition, inputs, catalog, workshop, layers)


def _run_steps(
    definition: ImageDefinition, inputs: BuildInputs, catalog: Catalog, workshop: Workshop, layers: LayerStore
) -> Image:
    recipe, progress = definition.recipe, workshop.progress
    result = workshop.directory / "image"
    result.mkdir()
    with progress.step("kernel"):
        kernel = read_kernel(layers.kernel(recipe, workshop), recipe.modules)
        (result / KERNEL_FILE).write_bytes(kernel.image)
    with progress.step("Debian packages"):
        base = layers.base(recipe, workshop)
    with progress.step("Python libraries"):
        wheels = _fetch_wheels(definition, inputs, workshop)
    with progress.step("root file system"):
        overlay = workshop.directory / "overlay.tar"
        write_overlay(overlay, (*wheels.files, *inputs.files), recipe.source_date_epoch)
        assemble_rootfs(base, overlay, result / ROOTFS_FILE, workshop)
    with progress.step("initial file system"):
        busybox = read_busybox(result / ROOTFS_FILE)
        (result / INITRD_FILE).write_bytes(build_initrd(kernel, recipe.modules, busybox))
    with progress.step("disk"):
        build_disk(result / ROOTFS_FILE, recipe.disk_mib, result / DISK_FILE, workshop)
    with progress.step("manifest"):
        image = _publish(definition, inputs, catalog, result, kernel, wheels)
        progress.note(image.image_id)
    return image


def _fetch_wheels(definition: ImageDefinition, inputs: BuildInputs, workshop: Workshop) -> Wheels:
    if inputs.requirements is None:
        return NO_WHEELS
    directory = workshop.directory / "wheels"
    directory.mkdir()
    return fetch_wheels(inputs.requirements, definition.recipe.release, directory, workshop.log, workshop.progress)


def _publish(
    definition: ImageDefinition, inputs: BuildInputs, catalog: Catalog, result: Path, kernel: Kernel, wheels: Wheels
) -> Image:
    files = {name: describe_file(result / name) for name in IMAGE_FILES}
    manifest = describe_image(definition, inputs, kernel, wheels.digests, files, result / ROOTFS_FILE)
    encoded = encode_manifest(manifest)
    (result / MANIFEST_FILE).write_bytes(encoded)
    for path in result.iterdir():
        path.chmod(0o444)
    target = catalog.directory / image_directory_name(definition.name, manifest_digest(encoded))
    existing = _intact_image(catalog, target)
    if existing is None:
        result.rename(target)
        return open_image(target)
    # A refresh that brought nothing new.  Domains may be running from the image that is there.
    os.utime(target)
    return existing


def _intact_image(catalog: Catalog, directory: Path) -> Image | None:
    """Return the image in `directory`; a damaged one is removed."""
    if not directory.is_dir():
        return None
    try:
        image = open_image(directory)
        catalog.verify(image)
    except ImageCorrupt:
        shutil.rmtree(directory)
        return None
    return image


@contextmanager
def _work_directory(catalog: Path, name: str) -> Iterator[Path]:
    """Give a temporary directory on the catalog's file system, and remove what killed builds of `name` left."""
    prefix = f".building-{name}-"
    for stale in catalog.glob(f"{prefix}*"):
        _remove_tree(stale)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=catalog))
    # Programs in the root file system run under their own users, and look through it from above.
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        _remove_tree(directory)


def _remove_tree(directory: Path) -> None:
    # A killed program may still be writing for a moment.
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
    shutil.rmtree(directory)


def _check_space(directory: Path, definition: ImageDefinition) -> None:
    needed_mib = 3 * definition.recipe.disk_mib + FREE_MIB_MIN
    free_mib = shutil.disk_usage(directory).free // 1048576
    if free_mib < needed_mib:
        raise DiskFull(
            f"Building {definition.name} needs about {needed_mib} MiB, but {directory} has only {free_mib} MiB left.",
            "Free some space, or put the catalog on another file system.",
        )


@contextmanager
def _named_disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The file system of {directory} is full.", "Free some space and build again.") from error
        raise


__all__ = ["BuildProgress", "build", "check_tools"]
