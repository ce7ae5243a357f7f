"""An operator makes a key, approves, revokes, and sees what each server boots."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from images.approval_files import APPROVALS
from images.catalog import Catalog
from replica_manager.control.cli.root import spare
from tests.images.image_directories import put_image

FILE = """\
[cell]
name = "shop"
[service]
image = "auction"
[hypervisor]
image_dir = "images"
"""


class Desk:
    """The operator's place: configuration, catalog with two images, key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "spare.toml"
        self.file.write_text(FILE)
        self.catalog = Catalog(directory / "images")
        self.old = put_image(self.catalog, "auction", content="old", age_s=100)
        self.new = put_image(self.catalog, "auction", content="new")

    def run(self, *words: str) -> Result:
        """Run `spare` with `words`."""
        return CliRunner().invoke(spare, words, env={"SPARE_CONFIG": str(self.file), "NO_COLOR": "1"})

    def ok(self, *words: str) -> str:
        """Run `spare image` with `words`, which must succeed."""
        result = self.run("image", *words)
        assert result.exit_code == 0, result.output
        return result.stdout

    def make_key(self) -> None:
        """Make the key and have the cell know it."""
        self.file.write_text(FILE + self.ok("keygen"))

    def states(self) -> list[tuple[Any, ...]]:
        """Return serial, action, image and state of all statements."""
        rows = json.loads(self.ok("history", "-o", "json"))["approvals"]
        return [(row["serial"], row["action"], row["image"], row["state"], row["newest_for"]) for row in rows]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """No key yet."""
    return Desk(tmp_path)


@pytest.fixture
def keyed(desk: Desk) -> Desk:
    """With a key that the cell knows."""
    desk.make_key()
    return desk


def test_keygen_prints_what_belongs_into_the_configuration(desk: Desk) -> None:
    """The private half is for its owner only, and is never overwritten."""
    printed = desk.ok("keygen")
    assert printed.startswith("[approval]\npublic_key = ")
    key = desk.directory / "approval.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() not in printed
    again = desk.run("image", "keygen")
    assert (again.exit_code, "is not overwritten" in again.stderr) == (1, True)
    other = json.loads(desk.ok("keygen", "--key", str(desk.directory / "other.key"), "-o", "json"))
    assert len(other["public_key"]) == 64


@pytest.mark.parametrize("words", [("approve", "auction"), ("revoke", "auction-000000000000"), ("history",)])
def test_without_a_public_key_in_the_configuration_the_way_to_one_is_named(desk: Desk, words: tuple[str, ...]) -> None:
    """Exit code 2; everything else works as without approvals."""
    result = desk.run("image", *words)
    assert result.exit_code == 2
    assert "spare image keygen" in result.stderr


def test_check_refuses_a_cell_whose_image_is_not_approved(keyed: Desk) -> None:
    """Before anything is started; per server, each thing once."""
    result = keyed.run("cell", "check")
    assert result.exit_code == 2
    assert "No image 'auction' is approved for server 0 of shop" in result.output
    assert "spare image approve auction --server 0" in result.output
    keyed.ok("approve", "auction", "--server", "0")
    assert "is approved for server 1" in keyed.run("cell", "check").output
    keyed.ok("approve", "auction")
    assert keyed.run("cell", "check").exit_code == 0


def test_approvals_are_listed_newest_first_with_what_became_of_them(keyed: Desk) -> None:
    """Which servers boot it now, what was revoked, what something newer has overtaken."""
    old, new = keyed.old.image_id, keyed.new.image_id
    assert keyed.ok("approve", old) == f"{old} approved for all servers of shop, serial 1\n"
    assert keyed.ok("approve", "auction", "-s", "1") == f"{new} approved for server 1 of shop, serial 2\n"
    assert keyed.states() == [(2, "approve", new, "newest", [1]), (1, "approve", old, "newest", [0])]
    assert keyed.ok("revoke", new) == f"{new} revoked for all servers of shop, serial 3\n"
    assert keyed.states() == [
        (3, "revoke", new, "revoked", []),
        (2, "approve", new, "revoked", []),
        (1, "approve", old, "newest", [0, 1]),
    ]
    document = json.loads(keyed.ok("approve", new, "-o", "json"))["approval"]
    assert (document["serial"], document["servers"], document["manifest_digest"]) == (4, None, keyed.new.digest)
    assert keyed.states() == [
        (4, "approve", new, "newest", [0, 1]),
        (3, "revoke", new, "overtaken", []),
        (2, "approve", new, "overtaken", []),
        (1, "approve", old, "approved", []),
    ]
    shown = keyed.ok("history")
    assert "newest for servers 0, 1" in shown
    assert shown.index(new) < shown.index(old)


def test_a_damaged_image_is_not_approved(keyed: Desk) -> None:
    """What is signed was read before."""
    (keyed.new.directory / "vmlinuz").write_text("other code")
    result = keyed.run("image", "approve", "auction")
    assert (result.exit_code, "is damaged" in result.stderr) == (1, True)
    assert json.loads(keyed.ok("history", "-o", "json"))["approvals"] == []


def test_an_image_is_revoked_though_it_is_not_in_the_catalog_any_more(keyed: Desk) -> None:
    """Other hosts may have it still; one that was never approved is a slip."""
    keyed.ok("approve", "auction")
    keyed.catalog.remove(keyed.new)
    keyed.ok("revoke", keyed.new.digest[:8])
    result = keyed.run("image", "revoke", keyed.old.image_id)
    assert (result.exit_code, "was never approved for shop" in result.stderr) == (2, True)


@pytest.mark.parametrize("verb", ["approve", "revoke"])
def test_only_the_cells_key_and_the_cells_servers_are_taken(keyed: Desk, verb: str) -> None:
    """An approval with another key would count for nothing."""
    keyed.ok("approve", "auction")
    other = keyed.directory / "other.key"
    keyed.ok("keygen", "--key", str(other))
    result = keyed.run("image", verb, keyed.new.image_id, "--key", str(other))
    assert (result.exit_code, "is not the key of this cell" in result.stderr) == (2, True)
    result = keyed.run("image", verb, keyed.new.image_id, "--server", "7")
    assert (result.exit_code, "the cell has no server 7" in result.stderr) == (2, True)
    (keyed.directory / "approval.key").chmod(0o640)
    result = keyed.run("image", verb, keyed.new.image_id)
    assert (result.exit_code, "has mode 0640" in result.stderr) == (1, True)


def test_tampered_and_missing_approvals_are_named(keyed: Desk) -> None:
    """Exit code 1, and `cell check` refuses: one of them may have been a revocation."""
    for image in (keyed.old, keyed.new):
        keyed.ok("approve", image.image_id)
    keyed.ok("revoke", keyed.old.image_id)
    first, second, _ = sorted((keyed.catalog.directory / APPROVALS).iterdir())
    first.write_bytes(first.read_bytes().replace(b"null", b"[0]"))
    second.unlink()
    result = keyed.run("image", "history")
    assert result.exit_code == 1
    assert f"PROBLEM: {first.name}: its signature is not that of its content" in result.stdout
    assert "PROBLEM: approval 2 is missing" in result.stdout
    check = keyed.run("cell", "check")
    assert (check.exit_code, first.name in check.output) == (2, True)


def test_child_processes_have_no_images_to_approve(keyed: Desk) -> None:
    """A key would promise what nobody checks."""
    text = keyed.file.read_text().replace("[hypervisor]", '[hypervisor]\ndriver = "subprocess"\nisolation = "none"')
    keyed.file.write_text(text.replace("[service]", '[service]\ncommand = ["true", "{channel}"]'))
    result = keyed.run("cell", "check")
    assert (result.exit_code, "nothing could be approved" in result.output) == (2, True)
