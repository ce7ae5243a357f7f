"""What of the project goes into a guest."""

import tarfile
from pathlib import Path

import msgspec
import pytest

from images.errors import RecipeInvalid
from images.overlay import BuildInputs, OverlayFile, collect_inputs, write_overlay
from images.recipe import ImageDefinition, Recipe, RecipeFile, RecipeStep

TIME_S = 1_700_000_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one package, compiled files, and a part that guests do not need."""
    root = tmp_path / "project"
    for path in (
        "shop/__init__.py",
        "shop/site/page.html",
        "shop/client/robot.py",
        "shop/__pycache__/x.cpython-311.pyc",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "shop" / ".hidden").write_text("")
    return root


def _definition(directory: Path, **changes: object) -> ImageDefinition:
    recipe = Recipe(
        name="shop",
        summary="a shop",
        release="bookworm",
        entry='exec python3 -m shop --link "$SPARE_LINK"',
        memory_mib=192,
        disk_mib=512,
        packages=("python3",),
        kernel_package="linux-image-cloud-amd64",
        modules=("ext4",),
        project_packages=("shop",),
        project_excludes=("shop/client",),
        files=(RecipeFile("/etc/shop", content="on", mode="0600"),),
        steps=(RecipeStep("fill the shelves", "touch /shelf"),),
    )
    return ImageDefinition("shop", msgspec.structs.replace(recipe, **changes), None, False, directory)


def _by_path(inputs: BuildInputs) -> dict[str, OverlayFile]:
    return {file.path: file for file in inputs.files}


def test_sources_of_the_project_are_taken_and_nothing_else(tmp_path: Path, project: Path) -> None:
    """No bytecode, no hidden files, no excluded parts."""
    files = _by_path(collect_inputs(_definition(tmp_path), project))

    assert [path for path in files if "/shop/" in path] == [
        "/opt/spare/shop/__init__.py",
        "/opt/spare/shop/site/page.html",
    ]


def test_recipe_files_keep_their_mode(tmp_path: Path, project: Path) -> None:
    """A secret stays one."""
    files = _by_path(collect_inputs(_definition(tmp_path), project))

    assert files["/etc/shop"] == OverlayFile("/etc/shop", b"on", 0o600)


def test_the_entry_command_becomes_a_script(tmp_path: Path, project: Path) -> None:
    """With the environment of the recipe, quoted for the shell."""
    definition = _definition(tmp_path, environment={"GREETING": "good day; rm -rf /"})

    entry = _by_path(collect_inputs(definition, project))["/etc/spare/entry"]

    assert entry.permissions == 0o755
    assert b"export GREETING='good day; rm -rf /'\n" in entry.content
    assert entry.content.endswith(b'exec python3 -m shop --link "$SPARE_LINK"\n')


def test_equal_inputs_have_one_digest(tmp_path: Path, project: Path) -> None:
    """So that a second build has nothing to do."""
    first, second = (collect_inputs(_definition(tmp_path), project) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    "changes",
    [
        {"entry": "exec other"},
        {"packages": ("python3", "nginx-light")},
        {"files": (RecipeFile("/etc/shop", content="off"),)},
        {"files": (RecipeFile("/etc/shop", content="on", mode="0644"),)},
        {"steps": ()},
        {"memory_mib": 256},
        {"project_excludes": ()},
    ],
)
def test_any_change_of_the_recipe_changes_the_digest(tmp_path: Path, project: Path, changes: dict[str, object]) -> None:
    """Else an old image would be taken for the new one."""
    before = collect_inputs(_definition(tmp_path), project).digest

    assert collect_inputs(_definition(tmp_path, **changes), project).digest != before


@pytest.mark.parametrize("path", ["shop/__init__.py", "shop/new.py"])
def test_a_changed_or_new_source_changes_the_digest(tmp_path: Path, project: Path, path: str) -> None:
    """The guest has to run what is in the project now."""
    before = collect_inputs(_definition(tmp_path), project).digest
    (project / path).write_text("changed")

    assert collect_inputs(_definition(tmp_path), project).digest != before


def test_what_a_guest_does_not_get_leaves_the_digest_alone(tmp_path: Path, project: Path) -> None:
    """Work on an excluded part is no reason for a new image."""
    before = collect_inputs(_definition(tmp_path), project).digest
    (project / "shop/client/robot.py").write_text("changed")
    (project / "shop/__pycache__/y.cpython-311.pyc").write_text("changed")

    assert collect_inputs(_definition(tmp_path), project).digest == before


def test_each_package_of_the_project_has_a_digest_that_no_other_part_of_the_recipe_changes(
    tmp_path: Path, project: Path
) -> None:
    """Two images with the same adapter say so, however different they are otherwise."""
    first = collect_inputs(_definition(tmp_path), project).project_packages
    other_image = collect_inputs(_definition(tmp_path, release="trixie", files=(), steps=()), project)
    (project / "shop/site/page.html").write_text("changed")
    changed = collect_inputs(_definition(tmp_path), project).project_packages

    assert first.keys() == {"shop"}
    assert other_image.project_packages == first != changed


def test_requirements_are_part_of_the_inputs(tmp_path: Path, project: Path) -> None:
    """Another pinned wheel is another image."""
    definition = _definition(tmp_path, requirements="requirements.txt")
    digests = set()
    for text in ("flask==1", "flask==2"):
        (tmp_path / "requirements.txt").write_text(text)
        digests.add(collect_inputs(definition, project).digest)

    assert len(digests) == 2


def test_an_unknown_project_package_is_the_recipes_mistake(tmp_path: Path, project: Path) -> None:
    """It is named."""
    with pytest.raises(RecipeInvalid, match="'shops'"):
        collect_inputs(_definition(tmp_path, project_packages=("shops",)), project)


def test_an_archive_does_not_depend_on_the_order_of_its_files(tmp_path: Path) -> None:
    """Equal bytes, whatever the directory listing was like."""
    files = [OverlayFile("/b", b"2"), OverlayFile("/a/c", b"1", 0o755)]

    write_overlay(tmp_path / "1.tar", files, TIME_S)
    write_overlay(tmp_path / "2.tar", reversed(files), TIME_S)

    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_archived_files_belong_to_root_and_have_the_images_date(tmp_path: Path) -> None:
    """Nobody of the building machine appears in it."""
    write_overlay(tmp_path / "o.tar", [OverlayFile("/usr/sbin/spare-init", b"#!", 0o755)], TIME_S)

    with tarfile.open(tmp_path / "o.tar") as tar:
        [member] = tar.getmembers()
    assert (member.name, member.mode, member.uid, member.gid, member.uname, member.mtime) == (
        *("./usr/sbin/spare-init", 0o755, 0, 0, "root", TIME_S),
    )


def test_of_two_files_with_one_path_the_later_one_counts(tmp_path: Path) -> None:
    """A variant can replace a file of its recipe."""
    write_overlay(tmp_path / "o.tar", [OverlayFile("/a", b"first"), OverlayFile("/a", b"second")], TIME_S)

    with tarfile.open(tmp_path / "o.tar") as tar:
        [member] = tar.getmembers()
        content = tar.extractfile(member)
        assert content is not None
        assert content.read() == b"second"
