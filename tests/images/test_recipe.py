"""Recipes: those that come with the project, and the mistakes that an author of one can make."""

import shutil
from pathlib import Path

import pytest

from images.errors import RecipeInvalid, RecipeUnknown
from images.recipe import RECIPES, canonical_recipe, define_image, load_recipe, recipe_names

MINIMAL = """
name = "shop"
summary = "a shop"
release = "bookworm"
packages = ["busybox-static"]
kernel_package = "linux-image-cloud-amd64"
modules = ["ext4"]
memory_mib = 192
disk_mib = 512
entry = "exec shop"
"""
VARIANT = """
[variant.lying]
summary = "lies"
fault_injection = true
entry = "exec liar"

[[variant.lying.file]]
path = "/etc/liar"
content = "on"
"""


def _write(directory: Path, text: str, name: str = "shop") -> Path:
    (directory / f"{name}.toml").write_text(text)
    return directory


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_of_the_project_is_valid_with_all_its_variants(name: str) -> None:
    """Files that it names exist; a variant that starts or changes anything misbehaves and says so."""
    recipe = load_recipe(name)

    assert not define_image(name).fault_injection
    for variant, parts in recipe.variants.items():
        is_other = bool(parts.entry or parts.files or parts.steps)
        assert define_image(name, variant).fault_injection == is_other


def test_the_project_has_the_two_images_of_its_demonstrations() -> None:
    """Other packages name them."""
    assert {"key-value", "rubis-mariadb"} <= set(recipe_names())


def test_a_variant_adds_to_its_recipe(tmp_path: Path) -> None:
    """Its name tells it apart; entry replaced, files added."""
    directory = _write(tmp_path, MINIMAL + '[[file]]\npath = "/etc/shop"\ncontent = "x"\n' + VARIANT)

    plain, lying = define_image("shop", None, directory), define_image("shop", "lying", directory)

    assert (plain.name, plain.recipe.entry, plain.fault_injection) == ("shop", "exec shop", False)
    assert (lying.name, lying.recipe.entry, lying.fault_injection) == ("shop+lying", "exec liar", True)
    assert [item.path for item in plain.recipe.files] == ["/etc/shop"]
    assert [item.path for item in lying.recipe.files] == ["/etc/shop", "/etc/liar"]


def test_a_variant_may_have_more_room_than_its_recipe(tmp_path: Path) -> None:
    """What it does not name is the recipe's."""
    table = '[variant.large]\nsummary = "more room"\nfault_injection = false\ndisk_mib = 1024\n'
    recipe = define_image("shop+large", None, _write(tmp_path, MINIMAL + table)).recipe

    assert (recipe.memory_mib, recipe.disk_mib, recipe.entry) == (192, 1024, "exec shop")


def test_a_variant_may_be_named_with_its_recipe(tmp_path: Path) -> None:
    """As the catalog and the command line write it."""
    directory = _write(tmp_path, MINIMAL + VARIANT)

    assert define_image("shop+lying", None, directory) == define_image("shop", "lying", directory)


def test_the_plain_image_does_not_depend_on_its_variants(tmp_path: Path) -> None:
    """A new test variant is no reason to build the image of a running cell anew."""
    without = canonical_recipe(define_image("shop", None, _write(tmp_path, MINIMAL)))
    with_variant = canonical_recipe(define_image("shop", None, _write(tmp_path, MINIMAL + VARIANT)))

    assert without == with_variant


def test_comments_and_order_do_not_change_a_recipe(tmp_path: Path) -> None:
    """Its digest is that of its content."""
    lines = MINIMAL.strip().splitlines()
    turned = "# a comment\n" + "\n".join(reversed(lines)) + "\n"

    first = canonical_recipe(define_image("shop", None, _write(tmp_path, MINIMAL)))
    second = canonical_recipe(define_image("shop", None, _write(tmp_path, turned)))

    assert first == second


@pytest.mark.parametrize("name", ["shops", "", "../shop", "shop/"])
def test_an_unknown_recipe_is_answered_with_the_known_ones(tmp_path: Path, name: str) -> None:
    """Nothing outside the directory is read."""
    with pytest.raises(RecipeUnknown) as caught:
        define_image(name, None, _write(tmp_path, MINIMAL))
    assert "shop" in caught.value.hint


def test_an_unknown_variant_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    """One sentence, one hint."""
    with pytest.raises(RecipeUnknown, match="no variant 'lies'") as caught:
        define_image("shop", "lies", _write(tmp_path, MINIMAL + VARIANT))
    assert "lying" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"bookworm"', '"buster"', "'buster'"),
        ("memory_mib = 192", "memory_mib = 1", "memory_mib"),
        ("memory_mib = 192", 'memory_mib = "192"', "memory_mib"),
        ("memory_mib = 192", "memory = 192", "memory"),
        ("disk_mib = 512\n", "", "disk_mib"),
        ('name = "shop"', 'name = "other"', "'other'"),
        ('name = "shop"', 'name = "Shop"', "name"),
        ('"exec shop"', '" "', "entry is empty"),
        ('["busybox-static"]', '["busybox static"]', "packages"),
        ('["busybox-static"]', '["busybox-static"', "line"),
        ("modules = ", 'requirements = "none.txt"\nmodules = ', "'none.txt'"),
        ("modules = ", '[[file]]\npath = "/etc/x"\n[other]\nmodules = ', "other"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    """In one sentence that begins with the file's name."""
    assert old in MINIMAL

    with pytest.raises(RecipeInvalid, match=r"^shop\.toml: ") as caught:
        define_image("shop", None, _write(tmp_path, MINIMAL.replace(old, new)))
    assert named in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ('path = "/etc/x"', "content or source"),
        ('path = "/etc/x"\ncontent = ""\nsource = "s"', "content or source"),
        ('path = "/etc/x"\nsource = "s"', "'s'"),
        ('path = "/etc/../../x"\ncontent = ""', "leaves"),
        ('path = "etc/x"\ncontent = ""', "path"),
        ('path = "/etc/x"\ncontent = ""\nmode = "999"', "mode"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, item: str, named: str) -> None:
    """Also in the file of a variant that is not asked for."""
    for table in ("[[file]]", '[variant.v]\nsummary = ""\nfault_injection = true\n[[variant.v.file]]'):
        with pytest.raises(RecipeInvalid) as caught:
            define_image("shop", None, _write(tmp_path, f"{MINIMAL}\n{table}\n{item}\n"))
        assert named in str(caught.value)


def test_all_mistakes_of_meaning_are_told_at_once(tmp_path: Path) -> None:
    """An author does not want to find them one by one."""
    text = MINIMAL.replace('"bookworm"', '"buster"').replace('"exec shop"', '""')

    with pytest.raises(RecipeInvalid) as caught:
        load_recipe("shop", _write(tmp_path, text))
    assert "buster" in str(caught.value)
    assert "entry" in str(caught.value)


def test_recipes_may_live_elsewhere(tmp_path: Path) -> None:
    """An operator's own recipes need not be in the project."""
    shutil.copytree(RECIPES, tmp_path / "recipes")

    assert recipe_names(tmp_path / "recipes") == recipe_names()
