"""What every test here needs: root, programs, images, and the machine for itself."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.build import build
from images.catalog import Catalog, Image
from images.overlay import PROJECT_ROOT
from tests.vm.waiting import until

LOCK = PROJECT_ROOT / "var" / "vm-tests.lock"
LOCK_PATIENCE_S = 1800.0
NEEDED_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mariadbd": "mariadb-server",
    "ip": "iproute2",
    "nft": "nftables",
    "losetup": "mount",
}
"""Programs and the Debian packages that bring them."""


@pytest.fixture(scope="package", autouse=True)
def _machine() -> Iterator[None]:
    """Root, the programs, and no other run of these tests: two cells at a time are too much for two processors."""
    assert os.geteuid() == 0, "cells of virtual machines need root: run the tests as root"
    missing = sorted({package for program, package in NEEDED_PROGRAMS.items() if shutil.which(program) is None})
    assert not missing, f"programs are missing: apt-get install {' '.join(missing)}"
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as file:
        until(lambda: _take(file.fileno()), f"{LOCK} is free: another run of these tests ends", LOCK_PATIENCE_S)
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The catalog of this working copy: images survive from run to run."""
    return Catalog(PROJECT_ROOT / "var" / "images")


def _built(catalog: Catalog, recipe: str, variant: str | None = None) -> Image:
    return build(recipe, catalog, lambda progress: None, variant)


@pytest.fixture(scope="session")
def key_value_image(catalog: Catalog) -> Image:
    """The key-value service."""
    return _built(catalog, "key-value")


@pytest.fixture(scope="session")
def treacherous_image(catalog: Catalog) -> Image:
    """The key-value service behind a wrapper that obeys orders to misbehave."""
    return _built(catalog, "key-value", "treacherous")


@pytest.fixture(scope="session")
def rubis_image(catalog: Catalog) -> Image:
    """The auction site."""
    return _built(catalog, "rubis-mariadb")


@pytest.fixture(scope="session")
def rounding_image(catalog: Catalog) -> Image:
    """The auction site on a database that rounds bids; its Python code is the same."""
    return _built(catalog, "rubis-mariadb", "rounded-bids")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory for the cells of a module.

    Not below pytest's own: a database reads disks from here under its own account.
    """
    path = PROJECT_ROOT / "var" / "vm-tests" / f"{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)
