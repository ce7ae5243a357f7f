"""Building images from Debian's packages, and what is left when a build does not come to its end."""

import re
import signal
import threading
from pathlib import Path

import pytest

from images.build import STEP_COUNT, build
from images.catalog import Catalog, Image
from images.errors import BuildFailed, BuildToolMissing, DiskFull, RecipeUnknown
from images.progress import BuildProgress
from images.recipe import RECIPES
from tests.images.conftest import end_build, link_layers, start_build

pytestmark = pytest.mark.slow

FEW_FILES = ("vmlinuz", "initrd", "rootfs.tar", "disk.qcow2", "manifest.json")


def _visible(catalog: Catalog) -> list[str]:
    return sorted(path.name for path in catalog.directory.iterdir() if not path.name.startswith("."))


def _work_directories(catalog: Catalog) -> list[Path]:
    return list(catalog.directory.glob(".building-*"))


@pytest.mark.vm
@pytest.mark.timeout(1500)
def test_two_builds_from_nothing_give_the_same_image(fresh_catalog: Catalog, sources: Path) -> None:
    """Everything is fetched and made twice; every digest is equal.  What an earlier, killed build left is removed."""
    killed = start_build("key-value", fresh_catalog)
    end_build(killed, signal.SIGKILL, fresh_catalog)
    assert _work_directories(fresh_catalog)
    reports: list[BuildProgress] = []

    first = build("key-value", fresh_catalog, reports.append, project_root=sources)
    second = build("key-value", fresh_catalog, lambda progress: None, is_refresh=True, project_root=sources)

    assert second == first
    assert _visible(fresh_catalog) == [first.directory.name]
    assert sorted(path.name for path in first.directory.iterdir()) == sorted(FEW_FILES)
    assert not _work_directories(fresh_catalog)
    fresh_catalog.verify(first)
    _check_reports(reports)
    _check_manifest(first)


def _check_reports(reports: list[BuildProgress]) -> None:
    assert [r.step_index for r in reports if r.phase == "finished"] == list(range(1, STEP_COUNT + 1))
    elapsed_ms = [report.elapsed_ms for report in reports]
    assert elapsed_ms == sorted(elapsed_ms)
    assert any(report.phase == "running" for report in reports)


def _check_manifest(image: Image) -> None:
    manifest = image.manifest
    assert {"python3", "busybox-static", "libc6"} <= set(manifest.packages)
    assert re.fullmatch(r"linux-image-cloud-amd64 \d\S+", manifest.kernel_package)
    assert manifest.kernel_release.endswith("-cloud-amd64")
    assert not manifest.fault_injection


def test_building_again_without_a_change_does_nothing(
    project_catalog: Catalog, key_value_image: Image, sources: Path
) -> None:
    """No step is run; the image is checked and returned."""
    reports: list[BuildProgress] = []

    assert build("key-value", project_catalog, reports.append, project_root=sources) == key_value_image
    assert reports == []


def test_a_damaged_image_is_built_again(
    tmp_path: Path, project_catalog: Catalog, key_value_image: Image, sources: Path
) -> None:
    """It is not taken for finished; with its layers there, that takes no network."""
    catalog = Catalog(tmp_path / "images")
    link_layers(project_catalog, catalog)
    image = build("key-value", catalog, lambda progress: None, project_root=sources)
    disk = image.disk.read_bytes()
    image.disk.chmod(0o644)
    image.disk.write_bytes(disk[:-1] + bytes([disk[-1] ^ 1]))

    again = build("key-value", catalog, lambda progress: None, project_root=sources)

    catalog.verify(again)
    assert again == image


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """No process, no half-built image, no temporary directory."""
    catalog = Catalog(tmp_path / "images")

    errors = end_build(start_build("key-value", catalog), signal.SIGINT, catalog)

    assert b"KeyboardInterrupt" in errors
    assert catalog.list() == ()
    assert _visible(catalog) == []
    assert not _work_directories(catalog)
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in line]


def test_two_builders_of_one_image_take_turns(
    tmp_path: Path, project_catalog: Catalog, key_value_image: Image, sources: Path
) -> None:
    """The second one waits, says so, and finds the image made."""
    catalog = Catalog(tmp_path / "images")
    link_layers(project_catalog, catalog)
    images: list[Image] = []
    reports: list[BuildProgress] = []
    builders = [
        threading.Thread(
            target=lambda: images.append(build("key-value", catalog, reports.append, project_root=sources))
        )
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert images[0] == images[1]
    assert [r.step_index for r in reports if r.phase == "finished"] == list(range(1, STEP_COUNT + 1))
    assert any("waiting for another build" in report.detail for report in reports)


def test_a_failing_step_of_a_recipe_is_named(
    tmp_path: Path, project_catalog: Catalog, key_value_image: Image, sources: Path
) -> None:
    """The author sees which step and where the output is; the catalog stays as it was."""
    catalog = Catalog(tmp_path / "images")
    link_layers(project_catalog, catalog)
    recipes = _changed_recipe(tmp_path, 'run = "mkdir -p /var/lib/key-value"', 'run = "echo out of shelves; exit 7"')

    with pytest.raises(BuildFailed, match="step making the directory of the data failed") as caught:
        build("key-value", catalog, lambda progress: None, recipes=recipes, project_root=sources)

    assert "out of shelves" in caught.value.output
    assert catalog.list() == ()
    assert not _work_directories(catalog)


def test_a_root_file_system_that_does_not_fit_its_disk_is_named(
    tmp_path: Path, project_catalog: Catalog, key_value_image: Image, sources: Path
) -> None:
    """With the two sizes and the key to change."""
    catalog = Catalog(tmp_path / "images")
    link_layers(project_catalog, catalog)
    recipes = _changed_recipe(tmp_path, "disk_mib = 512", "disk_mib = 64")

    with pytest.raises(BuildFailed, match="only 64 MiB") as caught:
        build("key-value", catalog, lambda progress: None, recipes=recipes, project_root=sources)
    assert "disk_mib" in caught.value.hint


def test_too_little_space_is_noticed_before_anything_is_fetched(tmp_path: Path, sources: Path) -> None:
    """With how much is needed."""
    recipes = _changed_recipe(tmp_path, "disk_mib = 512", "disk_mib = 1048576")
    reports: list[BuildProgress] = []

    with pytest.raises(DiskFull, match="MiB left"):
        build("key-value", Catalog(tmp_path / "images"), reports.append, recipes=recipes, project_root=sources)
    assert reports == []


def test_a_missing_program_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: Path
) -> None:
    """So that one command helps."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildToolMissing, match="mmdebstrap") as caught:
        build("key-value", Catalog(tmp_path / "images"), lambda progress: None, project_root=sources)
    assert caught.value.hint.startswith("apt-get install ")
    assert {"mmdebstrap", "genext2fs", "qemu-utils"} <= set(caught.value.hint.split())


def test_an_unknown_recipe_makes_no_directory(tmp_path: Path) -> None:
    """Nothing happens before the recipe is known to be good."""
    with pytest.raises(RecipeUnknown):
        build("nothing", Catalog(tmp_path / "images"), lambda progress: None)
    assert list(tmp_path.iterdir()) == []


def _changed_recipe(tmp_path: Path, old: str, new: str) -> Path:
    directory = tmp_path / "recipes"
    directory.mkdir()
    text = (RECIPES / "key-value.toml").read_text().split("[variant")[0]
    assert old in text
    (directory / "key-value.toml").write_text(text.replace(old, new))
    return directory
