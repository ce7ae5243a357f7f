"""What is laid over the packages of Debian: the project's own files, as a deterministic archive."""

import hashlib
import io
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from images.errors import RecipeInvalid
from images.recipe import ImageDefinition, Recipe, RecipeFile, canonical_recipe

BUILD_FORMAT: Final = 3
"""Counts up whenever the builder makes something else of the same inputs."""
GUEST_ROOT: Final = "/opt/spare"
WHEELS_ROOT: Final = f"{GUEST_ROOT}/lib"
BUILD_SCRIPT: Final = f"{GUEST_ROOT}/build/run"
"""Runs the recipe's steps inside the root file system and is removed with its directory afterwards."""
GUEST_SCRIPTS: Final = Path(__file__).parent / "guest"
PROJECT_ROOT: Final = Path(__file__).parent.parent
_PYTHONPATH: Final = f"{GUEST_ROOT}:{WHEELS_ROOT}"


@dataclass(frozen=True, slots=True)
class OverlayFile:
    """A regular file of the overlay, owned by root."""

    path: str
    """Absolute, in the guest."""
    content: bytes
    permissions: int = 0o644


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """Everything that a build reads from this project, read once, so that editors may go on meanwhile."""

    files: tuple[OverlayFile, ...]
    requirements: bytes | None
    """A pip requirements file."""
    project_packages: Mapping[str, str]
    """SHA-256 over the files of each of this project's packages, by name."""
    digest: str
    """SHA-256 over the above, the recipe, and the builder's own format."""


def collect_inputs(definition: ImageDefinition, project_root: Path = PROJECT_ROOT) -> BuildInputs:
    """Read what `definition` asks for.

    Args:
        definition: what is to be built.
        project_root: where the project's packages are.

    Raises:
        RecipeInvalid: a project package does not exist.
    """
    recipe = definition.recipe
    packages = {name: tuple(_package_files(recipe, name, project_root)) for name in recipe.project_packages}
    files = (
        *_guest_files(recipe),
        *(file for package in packages.values() for file in package),
        *(_recipe_file(item, definition.directory) for item in recipe.files),
    )
    requirements = None
    if recipe.requirements is not None:
        requirements = (definition.directory / recipe.requirements).read_bytes()
    package_digests = {name: _digest_contents(package) for name, package in packages.items()}
    return BuildInputs(files, requirements, package_digests, _digest_inputs(definition, files, requirements))


def write_overlay(path: Path, files: Iterable[OverlayFile], time_s: int) -> None:
    """Write an archive of `files`; of two with the same path the later one counts.

    Args:
        path: of the archive.
        files: in any order.
        time_s: modification time of every file, seconds since 1970.

    Raises:
        OSError: the archive cannot be written.
    """
    by_path = {file.path: file for file in files}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(by_path):
            info = tarfile.TarInfo("." + name)
            info.size = len(by_path[name].content)
            info.mode = by_path[name].permissions
            info.mtime = time_s
            info.uname = info.gname = "root"
            tar.addfile(info, io.BytesIO(by_path[name].content))


def _guest_files(recipe: Recipe) -> Iterator[OverlayFile]:
    environment = {"PYTHONPATH": _PYTHONPATH, **recipe.environment}
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(environment.items()))
    entry = f"#!/bin/sh\n# What this domain runs; made from its recipe.\n{exports}cd /\n{recipe.entry.strip()}\n"
    yield OverlayFile("/usr/sbin/spare-init", (GUEST_SCRIPTS / "spare-init").read_bytes(), 0o755)
    yield OverlayFile("/etc/spare/entry", entry.encode(), 0o755)
    yield OverlayFile("/etc/hostname", b"spare\n")
    yield OverlayFile("/etc/hosts", b"127.0.0.1 localhost\n")
    yield OverlayFile(BUILD_SCRIPT, _build_script(recipe, exports).encode(), 0o755)
    for number, step in enumerate(recipe.steps, start=1):
        yield OverlayFile(f"{GUEST_ROOT}/build/step-{number}", step.run.encode(), 0o755)


def _build_script(recipe: Recipe, exports: str) -> str:
    lines = ["#!/bin/sh", "set -eu", exports, "export PYTHONDONTWRITEBYTECODE=1"]
    # An emulated processor compiles a large library for minutes; and the bytecode must not depend on file times,
    # which are cut to the image's date.
    compile_all = f"python3 -m compileall -q -f --invalidation-mode unchecked-hash {GUEST_ROOT} >&2"
    lines += ["if command -v python3 > /dev/null; then", "  echo 'compiling Python files'", f"  {compile_all}", "fi"]
    for number, step in enumerate(recipe.steps, start=1):
        name = shlex.quote(step.name)
        lines.append(f"echo {name}")
        lines.append(f"sh -eu {GUEST_ROOT}/build/step-{number} || {{ echo E: step {name} failed; exit 1; }}")
    return "\n".join(lines) + "\n"


def _package_files(recipe: Recipe, package: str, root: Path) -> Iterator[OverlayFile]:
    excludes = tuple(PurePosixPath(path) for path in recipe.project_excludes)
    if not (root / package / "__init__.py").is_file():
        raise RecipeInvalid(
            f"{recipe.name}.toml: the project package {package!r} does not exist in {root}.",
            "Check project_packages.",
        )
    for path in sorted((root / package).rglob("*")):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        if path.is_file() and _is_source(relative) and not any(map(relative.is_relative_to, excludes)):
            yield OverlayFile(f"{GUEST_ROOT}/{relative}", path.read_bytes())


def _is_source(path: PurePosixPath) -> bool:
    return "__pycache__" not in path.parts and path.suffix != ".pyc" and not path.name.startswith(".")


def _recipe_file(item: RecipeFile, directory: Path) -> OverlayFile:
    content = (item.content or "").encode() if item.source is None else (directory / item.source).read_bytes()
    return OverlayFile(item.path, content, int(item.mode, 8))


def _digest_inputs(definition: ImageDefinition, files: Iterable[OverlayFile], requirements: bytes | None) -> str:
    initrd_init = (GUEST_SCRIPTS / "initrd-init").read_bytes()
    parts = (BUILD_FORMAT, canonical_recipe(definition), requirements, initrd_init, _digest_contents(files))
    return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()


def _digest_contents(files: Iterable[OverlayFile]) -> str:
    contents = [(file.path, file.permissions, file.content) for file in sorted(files, key=lambda file: file.path)]
    return hashlib.sha256(msgspec.msgpack.encode(contents)).hexdigest()
