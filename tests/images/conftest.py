"""Catalogs with real images."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images.build import build
from images.catalog import Catalog, Image
from images.overlay import PROJECT_ROOT

TIMEOUT_S = 240.0


@pytest.fixture(scope="session")
def project_catalog() -> Catalog:
    """The catalog of this working copy: layers and images survive from run to run."""
    return Catalog(PROJECT_ROOT / "var" / "images")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's packages that guests get, so that edits during a test run change no image."""
    root = tmp_path_factory.mktemp("sources")
    for package in ("exec_wrapper", "rubis_adapter"):
        shutil.copytree(PROJECT_ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="session")
def key_value_image(project_catalog: Catalog, sources: Path) -> Image:
    """The plain key-value image of the sources as they are."""
    return build("key-value", project_catalog, lambda progress: None, project_root=sources)


@pytest.fixture(scope="session")
def fresh_catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalog in which nothing was ever built, where only root gets to: like a checkout in root's home directory."""
    directory = tmp_path_factory.mktemp("catalog")
    directory.chmod(0o700)
    return Catalog(directory)


def link_layers(source: Catalog, target: Catalog) -> None:
    """Let the new catalog `target` begin with the layers of `source`, so that its builds fetch no packages."""
    directory = target.directory / ".layers"
    directory.mkdir(parents=True)
    for layer in (source.directory / ".layers").iterdir():
        (directory / layer.name).hardlink_to(layer)


def start_build(recipe: str, catalog: Catalog) -> "subprocess.Popen[bytes]":
    """Start a build in a process of its own, and return when it has got as far as fetching packages."""
    code = (
        "import sys; from pathlib import Path; from images.build import build; from images.catalog import Catalog;"
        " build(sys.argv[1], Catalog(Path(sys.argv[2])), lambda progress: None)"
    )
    command = [sys.executable, "-c", code, recipe, str(catalog.directory)]
    builder = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=PROJECT_ROOT)
    log = catalog.directory / ".logs" / f"{recipe}.log"
    deadline = time.monotonic() + TIMEOUT_S
    while not (log.exists() and "downloading packages" in log.read_text(errors="replace")):
        assert builder.poll() is None, builder.stderr.read().decode() if builder.stderr else ""
        assert time.monotonic() < deadline, "the build fetches no packages"
        time.sleep(0.05)
    return builder


def end_build(builder: "subprocess.Popen[bytes]", ending: signal.Signals, catalog: Catalog) -> bytes:
    """End a build; return what it wrote to its standard error when nothing of it is left running."""
    builder.send_signal(ending)
    _, errors = builder.communicate(timeout=TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while processes_of(catalog):
        assert time.monotonic() < deadline, processes_of(catalog)
        time.sleep(0.05)
    return errors


def processes_of(catalog: Catalog) -> list[str]:
    """Return the command lines of all processes but this one that name the catalog or work in it."""
    wanted = str(catalog.directory)
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            directory = os.readlink(path / "root")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if int(path.name) != os.getpid() and (wanted in command or directory.startswith(wanted)):
            found.append(command)
    return found
