"""Python libraries of a guest: wheels, fetched by pip, pinned by hash, unpacked without running any of their code."""

import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from images.child_process import run
from images.errors import BuildFailed
from images.manifest import file_digest
from images.overlay import WHEELS_ROOT, OverlayFile
from images.progress import ProgressLog

GUEST_PYTHON: Final = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13"}
"""Version of `python3` in each Debian release."""
_PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
_LIBRARY_SCHEMES: Final = ("purelib", "platlib")


@dataclass(frozen=True, slots=True)
class Wheels:
    """The wheels of one image."""

    digests: Mapping[str, str]
    """SHA-256 by file name."""
    files: tuple[OverlayFile, ...]


NO_WHEELS: Final = Wheels({}, ())


def fetch_wheels(requirements: bytes, release: str, directory: Path, log: Path, progress: ProgressLog) -> Wheels:
    """Download what `requirements` pins, from wherever this machine's pip is configured to.

    Args:
        requirements: a requirements file with a hash for every wheel, dependencies included.
        release: Debian release of the guest, which decides the version of Python.
        directory: empty; the wheels are left there.
        log: gets pip's output.
        progress: told what pip says.

    Raises:
        BuildFailed: a wheel cannot be had, or its hash differs.
    """
    requirements_file = directory / "requirements.txt"
    requirements_file.write_bytes(requirements)
    platforms = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--progress-bar", "off"),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"),
        *("--python-version", GUEST_PYTHON[release], *platforms),
        *("--dest", str(directory), "--requirement", str(requirements_file)),
    ]
    run(command, progress, log, {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    wheels = sorted(directory.glob("*.whl"))
    files = tuple(file for wheel in wheels for file in unpack_wheel(wheel))
    return Wheels({wheel.name: file_digest(wheel) for wheel in wheels}, files)


def unpack_wheel(wheel: Path) -> Iterator[OverlayFile]:
    """Yield the library files of a wheel as they are laid out in a guest; scripts and headers are left out.

    Source: PEP 427, "Installing a wheel".

    Raises:
        BuildFailed: it is no wheel, or one of its paths leaves the library.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                path = _library_path(PurePosixPath(member.filename))
                if member.is_dir() or path is None:
                    continue
                if path.is_absolute() or ".." in path.parts:
                    raise BuildFailed(f"The wheel {wheel.name} holds the path {member.filename!r}.", "Do not use it.")
                yield OverlayFile(f"{WHEELS_ROOT}/{path}", archive.read(member))
    except zipfile.BadZipFile as error:
        raise BuildFailed(f"{wheel.name} is no wheel: {error}.", "Check the requirements file.") from error


def _library_path(path: PurePosixPath) -> PurePosixPath | None:
    if not path.parts or not path.parts[0].endswith(".data"):
        return path
    if len(path.parts) > 2 and path.parts[1] in _LIBRARY_SCHEMES:
        return PurePosixPath(*path.parts[2:])
    return None
