"""The file that gives an image its name."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from images.catalog import Catalog
from images.errors import ImageCorrupt
from images.manifest import (
    IMAGE_FILES,
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    Manifest,
    encode_manifest,
    manifest_digest,
    read_manifest,
)
from images.provenance import parse_dpkg_status
from tests.images.image_directories import put_image


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And its digest is that of its bytes."""
    image = put_image(Catalog(tmp_path), "shop")
    encoded = (image.directory / MANIFEST_FILE).read_bytes()

    manifest, digest = read_manifest(image.directory)

    assert encode_manifest(manifest) == encoded
    assert digest == image.digest == manifest_digest(encoded) == hashlib.sha256(encoded).hexdigest()


def test_the_spelling_does_not_depend_on_the_order_of_fields(tmp_path: Path) -> None:
    """Two builders that meet packages in another order write the same bytes."""
    manifest = put_image(Catalog(tmp_path), "shop").manifest
    turned = msgspec.structs.replace(manifest, packages=dict(reversed(manifest.packages.items())))

    assert encode_manifest(turned) == encode_manifest(manifest)


def test_every_file_of_the_image_is_listed_with_digest_and_size(tmp_path: Path) -> None:
    """What is not listed could be exchanged unnoticed."""
    image = put_image(Catalog(tmp_path), "shop")

    assert set(image.manifest.files) == set(IMAGE_FILES)
    for name, entry in image.manifest.files.items():
        content = (image.directory / name).read_bytes()
        assert (entry.digest, entry.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_a_field_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    """A newer format is not half understood."""
    image = put_image(Catalog(tmp_path), "shop")
    fields = msgspec.json.decode((image.directory / MANIFEST_FILE).read_bytes())
    fields["signature"] = "x"
    (image.directory / MANIFEST_FILE).write_bytes(msgspec.json.encode(fields))

    with pytest.raises(ImageCorrupt, match="signature"):
        read_manifest(image.directory)


def test_a_manifest_without_end_is_not_read_to_the_end(tmp_path: Path) -> None:
    """The limit is named."""
    (tmp_path / MANIFEST_FILE).write_bytes(b" " * (MANIFEST_BYTES_MAX + 1))

    with pytest.raises(ImageCorrupt, match=str(MANIFEST_BYTES_MAX)):
        read_manifest(tmp_path)


def test_installed_packages_are_read_from_dpkgs_status() -> None:
    """A package that was removed, and continuation lines, are no versions."""
    status = (
        "Package: python3\nStatus: install ok installed\nVersion: 3.11.2-1+b1\nDescription: x\n Version: 9\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1.0\n\n"
        "Package: dash\nStatus: install ok installed\nVersion: 0.5.12-2\n"
    )

    assert parse_dpkg_status(status) == {"python3": "3.11.2-1+b1", "dash": "0.5.12-2"}


def test_manifests_hold_no_time_of_building() -> None:
    """The one time is the recipe's own."""
    assert [name for name in Manifest.__struct_fields__ if "time" in name or "date" in name] == ["source_date_epoch"]
