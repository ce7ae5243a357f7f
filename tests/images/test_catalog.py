"""Finding images and trusting none whose digest is wrong."""

from pathlib import Path

import pytest

from images.catalog import Catalog
from images.errors import ImageCorrupt, ImageRefused, ImageUnknown
from images.manifest import BOOT_FILES, IMAGE_FILES, MANIFEST_FILE, ROOTFS_FILE
from tests.images.image_directories import put_image


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_catalog_that_does_not_exist_is_empty(catalog: Catalog) -> None:
    """Nothing has been built yet: no error."""
    assert catalog.list() == ()


def test_images_are_listed_by_name_newest_first(catalog: Catalog) -> None:
    """The first of each name is the one that `resolve` gives."""
    old = put_image(catalog, "shop", content="old", age_s=100)
    new = put_image(catalog, "shop", content="new")
    other = put_image(catalog, "auction", age_s=50)

    assert catalog.list() == (other, new, old)


def test_a_name_means_its_newest_image(catalog: Catalog) -> None:
    """Age is that of the catalog entry, not part of the image."""
    put_image(catalog, "shop", content="old", age_s=100)
    new = put_image(catalog, "shop", content="new")

    assert catalog.resolve("shop") == new


def test_a_digest_or_a_part_of_it_means_one_image(catalog: Catalog) -> None:
    """An older image stays reachable."""
    old = put_image(catalog, "shop", content="old", age_s=100)
    put_image(catalog, "shop", content="new")

    assert catalog.resolve(old.image_id) == old
    assert catalog.resolve(old.digest) == old
    assert catalog.resolve(old.digest[:12]) == old


@pytest.mark.parametrize("wanted", ["missing", "", "ab", "shop-000000000000", "../shop"])
def test_what_is_not_there_is_unknown(catalog: Catalog, wanted: str) -> None:
    """The hint says how to get it."""
    put_image(catalog, "shop")

    with pytest.raises(ImageUnknown) as caught:
        catalog.resolve(wanted)
    assert "spare image build" in caught.value.hint


def test_an_image_that_misbehaves_on_purpose_needs_to_be_asked_for(catalog: Catalog) -> None:
    """A slip in a configuration must not put a lying domain into a cell."""
    liar = put_image(catalog, "shop+wrong-reply", fault_injection=True)

    for wanted in (liar.name, liar.image_id, liar.digest):
        with pytest.raises(ImageRefused, match="misbehaves on purpose"):
            catalog.resolve(wanted)
        assert catalog.resolve(wanted, is_fault_injection_allowed=True) == liar


def test_a_variant_is_never_taken_for_its_recipe(catalog: Catalog) -> None:
    """`shop` does not mean `shop+wrong-reply`, even if that is the newer one or the only one."""
    put_image(catalog, "shop+wrong-reply", fault_injection=True)

    with pytest.raises(ImageUnknown):
        catalog.resolve("shop", is_fault_injection_allowed=True)


def test_an_intact_image_passes(catalog: Catalog) -> None:
    """No exception from either check."""
    image = put_image(catalog, "shop")

    catalog.verify(image)
    catalog.verify_boot_files(image)


@pytest.mark.parametrize("file_name", [*IMAGE_FILES, MANIFEST_FILE])
def test_one_flipped_bit_in_any_file_is_noticed(catalog: Catalog, file_name: str) -> None:
    """Every file counts, the manifest too."""
    image = put_image(catalog, "shop")
    _flip_a_bit(image.directory / file_name)

    with pytest.raises(ImageCorrupt):
        catalog.verify(image)


@pytest.mark.parametrize("file_name", BOOT_FILES)
def test_what_a_machine_boots_from_is_checked_before_a_boot(catalog: Catalog, file_name: str) -> None:
    """Kernel, initial file system and disk."""
    image = put_image(catalog, "shop")
    _flip_a_bit(image.directory / file_name)

    with pytest.raises(ImageCorrupt, match=file_name):
        catalog.verify_boot_files(image)


def test_the_archive_for_containers_is_not_read_before_a_boot(catalog: Catalog) -> None:
    """It is as large as the disk and no machine reads it."""
    image = put_image(catalog, "shop")
    _flip_a_bit(image.directory / ROOTFS_FILE)

    catalog.verify_boot_files(image)


@pytest.mark.parametrize("file_name", IMAGE_FILES)
def test_a_missing_file_is_named(catalog: Catalog, file_name: str) -> None:
    """With what to do about it."""
    image = put_image(catalog, "shop")
    (image.directory / file_name).unlink()

    with pytest.raises(ImageCorrupt, match=file_name) as caught:
        catalog.verify(image)
    assert "build the image again" in caught.value.hint


def test_a_manifest_of_another_image_is_noticed(catalog: Catalog) -> None:
    """Copying a whole image over another one changes the digest, not the directory's name."""
    image, other = put_image(catalog, "shop"), put_image(catalog, "shop", content="other")
    for file_name in (*IMAGE_FILES, MANIFEST_FILE):
        (image.directory / file_name).write_bytes((other.directory / file_name).read_bytes())

    with pytest.raises(ImageCorrupt, match="manifest"):
        catalog.verify(image)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"format": 1}', b"[" * 10_000])
def test_a_damaged_manifest_hides_its_image_and_no_other(catalog: Catalog, content: bytes) -> None:
    """One broken directory must not make the catalog unusable."""
    image, other = put_image(catalog, "shop"), put_image(catalog, "auction")
    (image.directory / MANIFEST_FILE).write_bytes(content)

    assert catalog.list() == (other,)
    assert [image.directory.name in str(error) for error in catalog.damaged()] == [True]
    with pytest.raises(ImageCorrupt):
        catalog.verify(image)


def test_unfinished_builds_are_no_images(catalog: Catalog) -> None:
    """Whatever begins with a dot is the builder's."""
    image = put_image(catalog, "shop")
    image.directory.rename(catalog.directory / f".building-{image.directory.name}")

    assert catalog.list() == ()


def test_a_removed_image_is_gone(catalog: Catalog) -> None:
    """Nothing stays behind in the catalog."""
    image = put_image(catalog, "shop")

    catalog.remove(image)

    assert list(catalog.directory.iterdir()) == []


def test_an_image_is_found_by_what_it_was_built_from(catalog: Catalog) -> None:
    """So that a second build of the same inputs has nothing to do."""
    image = put_image(catalog, "shop")

    assert catalog.find_by_input("shop", image.manifest.input_digest) == image
    assert catalog.find_by_input("shop", "1" * 64) is None
    assert catalog.find_by_input("auction", image.manifest.input_digest) is None


def test_all_but_the_newest_of_each_name_are_superseded(catalog: Catalog) -> None:
    """An operator who runs out of space needs to know what can go."""
    shops = [put_image(catalog, "shop", content=str(age), age_s=age) for age in (0, 10, 20)]
    put_image(catalog, "auction")

    assert catalog.superseded() == tuple(shops[1:])
    assert catalog.superseded(kept_count=2) == tuple(shops[2:])
    assert catalog.superseded(kept_count=3) == ()
