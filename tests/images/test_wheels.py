"""Unpacking Python libraries for a guest."""

import zipfile
from pathlib import Path

import pytest

from images.errors import BuildFailed
from images.recipe import RECIPES, load_recipe, recipe_names
from images.wheels import unpack_wheel


def _wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}")
    return path


def test_library_files_are_laid_out_as_an_installer_would(tmp_path: Path) -> None:
    """Both library schemes go to one directory; scripts and headers are for machines that people log in to."""
    wheel = _wheel(
        tmp_path / "shop-1.whl",
        *("shop/__init__.py", "shop-1.dist-info/METADATA", "shop-1.data/purelib/pure.py"),
        *("shop-1.data/platlib/fast.so", "shop-1.data/scripts/shop", "shop-1.data/headers/shop.h"),
    )

    assert [file.path for file in unpack_wheel(wheel)] == [
        "/opt/spare/lib/shop/__init__.py",
        "/opt/spare/lib/shop-1.dist-info/METADATA",
        "/opt/spare/lib/pure.py",
        "/opt/spare/lib/fast.so",
    ]


@pytest.mark.parametrize("name", ["../../etc/shadow", "/etc/shadow", "x-1.data/purelib/../../../etc/shadow"])
def test_a_wheel_that_writes_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """A pinned hash says who made it, not that it is harmless."""
    with pytest.raises(BuildFailed, match="shadow"):
        list(unpack_wheel(_wheel(tmp_path / "evil-1.whl", name)))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """A download that was cut off, for instance."""
    (tmp_path / "cut-1.whl").write_bytes(b"PK\x03\x04")

    with pytest.raises(BuildFailed, match=r"cut-1\.whl"):
        list(unpack_wheel(tmp_path / "cut-1.whl"))


@pytest.mark.parametrize("name", recipe_names())
def test_every_library_of_a_recipe_is_pinned_by_version_and_hash(name: str) -> None:
    """So that a guest runs what was tested, whatever the index says today."""
    requirements = load_recipe(name).requirements
    lines = (RECIPES / requirements).read_text().splitlines() if requirements else []

    for line in lines:
        assert line.startswith("#") or ("==" in line and "--hash=sha256:" in line)
