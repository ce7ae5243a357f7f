"""Recipes: what an image is made of, as data (`recipes/NAME.toml`).

A recipe says which Debian release and packages, wheels and project packages go in, which files and steps are added,
and what the guest starts.  A `[variant.NAME]` table adds to it.  `docs/images.md` documents every key.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from images.apt_sources import DEBIAN_RELEASES
from images.errors import RecipeInvalid, RecipeUnknown

RECIPES: Final = Path(__file__).parent / "recipes"
VARIANT_SEPARATOR: Final = "+"

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
PackageName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
MemoryMib = Annotated[int, msgspec.Meta(ge=64, le=65536)]
DiskMib = Annotated[int, msgspec.Meta(ge=64, le=1048576)]
Mode = Annotated[str, msgspec.Meta(pattern=r"^0[0-7]{3}$")]


class RecipeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that is put into the root file system."""

    path: Annotated[str, msgspec.Meta(pattern=r"^/[^\0]+$")]
    """Where; absolute.  An existing file is replaced."""
    content: str | None = None
    source: str | None = None
    """Instead of `content`: a file below the directory of the recipe."""
    mode: Mode = "0644"


class RecipeStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shell script that runs as root inside the root file system, after all files are in place."""

    name: str
    """What the progress display says."""
    run: str


class RecipeVariant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"files": "file", "steps": "step"}):
    """Additions to a recipe: same name, `+VARIANT` behind it."""

    summary: str
    fault_injection: bool
    """Whether it misbehaves on purpose.  Such an image is refused wherever nobody asks for one."""
    entry: str | None = None
    memory_mib: MemoryMib | None = None
    """Instead of the recipe's."""
    disk_mib: DiskMib | None = None
    files: tuple[RecipeFile, ...] = ()
    steps: tuple[RecipeStep, ...] = ()


class Recipe(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"files": "file", "steps": "step", "variants": "variant"},
):
    """One recipe as it was written."""

    name: Name
    summary: str
    release: str
    """Code name of the Debian release."""
    entry: str
    """Shell command that the guest starts; when it ends, the guest powers off.  `$SPARE_LINK` names the channel to
    the replica manager, `$SPARE_IMAGE` the image."""
    memory_mib: MemoryMib
    """What a domain needs."""
    disk_mib: DiskMib
    """Size of the file system, with what the service will write."""
    packages: tuple[PackageName, ...]
    kernel_package: PackageName
    modules: tuple[str, ...]
    """Kernel modules that the initial file system loads, in this order, each after those that it needs."""
    cmdline: str = ""
    """Kernel parameters of this image, besides those of the hypervisor driver."""
    project_packages: tuple[str, ...] = ()
    """Python packages of this project, copied to `/opt/spare`."""
    project_excludes: tuple[str, ...] = ()
    """Paths below `project_packages` that the guest does not need, such as `rubis_adapter/client_emulator`."""
    requirements: str | None = None
    """A pip requirements file beside the recipe, with a hash for every wheel; unpacked in `/opt/spare/lib`."""
    environment: dict[str, str] = {}
    """Environment of steps and entry."""
    files: tuple[RecipeFile, ...] = ()
    steps: tuple[RecipeStep, ...] = ()
    data_set_file: str | None = None
    """A JSON file in the root file system that a step wrote about the data it loaded; goes into the manifest."""
    not_reproducible: tuple[str, ...] = ()
    """Path patterns whose bytes differ from build to build, with the reason behind a `#`."""
    source_date_epoch: int = 1_700_000_000
    """Seconds since 1970: no file in the image is younger.  Changing it changes every image."""
    variants: dict[str, RecipeVariant] = {}


class ImageDefinition(msgspec.Struct, frozen=True):
    """A recipe with one of its variants, or none, applied: what is built."""

    name: str
    recipe: Recipe
    """Without variants; what a variant changes or adds is in it."""
    variant: str | None
    fault_injection: bool
    directory: Path
    """Where `source` and `requirements` are looked up."""


def recipe_names(directory: Path = RECIPES) -> tuple[str, ...]:
    """Return the names of all recipes, sorted."""
    return tuple(sorted(path.stem for path in directory.glob("*.toml")))


def load_recipe(name: str, directory: Path = RECIPES) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeUnknown: there is none with this name.
        RecipeInvalid: one sentence about the first mistake of form, or about all mistakes of meaning.
    """
    path = directory / f"{name}.toml"
    if "/" in name or not path.is_file():
        known = ", ".join(recipe_names(directory)) or "none"
        raise RecipeUnknown(f"There is no recipe {name!r}.", f"Known recipes: {known}.")
    try:
        recipe = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Recipe)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RecipeInvalid(f"{path.name}: {error}", "docs/images.md lists the keys of a recipe.") from error
    mistakes = list(_mistakes(recipe, path))
    if mistakes:
        raise RecipeInvalid(f"{path.name}: " + "; ".join(mistakes) + ".", "docs/images.md lists the keys.")
    return recipe


def define_image(recipe_name: str, variant: str | None = None, directory: Path = RECIPES) -> ImageDefinition:
    """Return what is to be built.

    Args:
        recipe_name: of a recipe, or `RECIPE+VARIANT`.
        variant: the other way to name a variant.
        directory: of the recipes.

    Raises:
        RecipeUnknown: no such recipe or variant.
        RecipeInvalid: see `load_recipe`.
    """
    base_name, _, named_variant = recipe_name.partition(VARIANT_SEPARATOR)
    variant = variant or named_variant or None
    recipe = load_recipe(base_name, directory)
    if variant is None:
        return ImageDefinition(recipe.name, _without_variants(recipe), None, False, directory)
    if variant not in recipe.variants:
        known = ", ".join(sorted(recipe.variants)) or "none"
        raise RecipeUnknown(f"The recipe {recipe.name!r} has no variant {variant!r}.", f"Its variants: {known}.")
    return _with_variant(recipe, variant, directory)


def canonical_recipe(definition: ImageDefinition) -> bytes:
    """Return a definition as bytes that do not depend on how its file is laid out."""
    fields = msgspec.to_builtins((definition.name, definition.recipe, definition.fault_injection))
    return msgspec.json.encode(fields, order="deterministic")


def _without_variants(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, variants={})


def _with_variant(recipe: Recipe, name: str, directory: Path) -> ImageDefinition:
    variant = recipe.variants[name]
    merged = msgspec.structs.replace(
        _without_variants(recipe),
        entry=variant.entry or recipe.entry,
        memory_mib=variant.memory_mib or recipe.memory_mib,
        disk_mib=variant.disk_mib or recipe.disk_mib,
        files=recipe.files + variant.files,
        steps=recipe.steps + variant.steps,
    )
    full_name = f"{recipe.name}{VARIANT_SEPARATOR}{name}"
    return ImageDefinition(full_name, merged, name, variant.fault_injection, directory)


def _mistakes(recipe: Recipe, path: Path) -> Iterable[str]:
    if recipe.name != path.stem:
        yield f"the name is {recipe.name!r} but the file is {path.name!r}"
    if recipe.release not in DEBIAN_RELEASES:
        yield f"the release {recipe.release!r} is none of {', '.join(DEBIAN_RELEASES)}"
    if not recipe.entry.strip():
        yield "the entry is empty"
    if recipe.requirements is not None and not (path.parent / recipe.requirements).is_file():
        yield f"the requirements file {recipe.requirements!r} does not exist"
    files = recipe.files + tuple(item for variant in recipe.variants.values() for item in variant.files)
    for item in files:
        yield from _file_mistakes(item, path.parent)


def _file_mistakes(item: RecipeFile, directory: Path) -> Iterable[str]:
    if (item.content is None) == (item.source is None):
        yield f"the file {item.path!r} needs either content or source"
    if item.source is not None and not (directory / item.source).is_file():
        yield f"the source {item.source!r} of the file {item.path!r} does not exist"
    if ".." in item.path.split("/"):
        yield f"the file path {item.path!r} leaves the root file system"
