"""Which image is approved for which server, from signed statements; whatever was tampered with is named."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from images.approval_files import APPROVALS, add_statement, approved_image, read_ledger
from images.approval_key import ApprovalKey, make_key
from images.approvals import (
    Ledger,
    Statement,
    encode_approval,
    encode_statement,
    file_name_of,
    ledger_of,
    newest_approved,
    require_approved,
    require_once_approved,
)
from images.catalog import Catalog, Image
from images.errors import ImageNotApproved, ImageRefused, ImageUnknown
from tests.images.image_directories import put_image

A, B, C = ("shop", "aa" * 32), ("shop", "bb" * 32), ("auction", "cc" * 32)


@pytest.fixture
def key(tmp_path: Path) -> ApprovalKey:
    """The operator's key."""
    return make_key(tmp_path / "approval.key")


class Desk:
    """An operator who approves and revokes."""

    def __init__(self, key: ApprovalKey, service: str = "cell") -> None:
        self.key, self.service = key, service
        self.files: dict[str, bytes] = {}

    def sign(self, action: str, image: tuple[str, str], *servers: int, serial: int = 0) -> str:
        """Add a statement; return the name of its file."""
        statement = msgspec.convert(
            {
                "format": 1,
                "action": action,
                "service": self.service,
                "serial": serial or self.ledger.next_serial,
                "image_name": image[0],
                "manifest_digest": image[1],
                "servers": tuple(servers) or None,
                "at_us": 1_700_000_000_000_000,
                "key": self.key.public,
            },
            Statement,
        )
        encoded = encode_statement(statement)
        self.files[file_name_of(statement)] = encode_approval(encoded, self.key.sign(encoded))
        return file_name_of(statement)

    @property
    def ledger(self) -> Ledger:
        """What the files say."""
        return ledger_of(self.service, self.key.public, self.files.items())


@pytest.fixture
def desk(key: ApprovalKey) -> Desk:
    """Nothing is approved yet."""
    return Desk(key)


def newest(desk: Desk, server: int = 0, name: str = "") -> tuple[str, str]:
    """Return the newest approved image."""
    found = newest_approved(desk.ledger, server, name)
    return found.image_name, found.manifest_digest


def test_nothing_is_approved_at_first(desk: Desk) -> None:
    """The hint says how."""
    with pytest.raises(ImageNotApproved, match="No image is approved for server 1 of cell") as caught:
        newest_approved(desk.ledger, 1)
    assert "spare image approve IMAGE --server 1" in caught.value.hint


def test_the_newest_approval_wins(desk: Desk) -> None:
    """By serial number, not by time; an older image is approved again to go back to it."""
    desk.sign("approve", A)
    desk.sign("approve", B)
    assert newest(desk) == B
    desk.sign("approve", A)
    assert newest(desk) == A


def test_servers_have_variants_of_their_own(desk: Desk) -> None:
    """An approval for some servers says nothing about the others."""
    desk.sign("approve", A)
    desk.sign("approve", B, 1, 2)
    assert [newest(desk, server) for server in range(4)] == [A, B, B, A]
    desk.sign("approve", C, 3)
    assert newest(desk, 3) == C
    assert newest(desk, 3, "shop") == A


def test_a_revoked_image_is_not_booted(desk: Desk) -> None:
    """The one before it is; a revocation for one server leaves the others alone."""
    desk.sign("approve", A)
    desk.sign("approve", B)
    desk.sign("revoke", B, 1)
    assert [newest(desk, server) for server in (0, 1)] == [B, A]
    desk.sign("revoke", A)
    desk.sign("revoke", B)
    with pytest.raises(ImageNotApproved):
        newest_approved(desk.ledger, 0)


def test_an_image_that_is_approved_after_it_was_revoked_counts_again(desk: Desk) -> None:
    """The newest statement about an image decides."""
    desk.sign("approve", A)
    desk.sign("revoke", A)
    desk.sign("approve", A, 0)
    assert newest(desk, 0) == A
    with pytest.raises(ImageNotApproved, match=r"shop-aaaaaaaaaaaa was revoked \(serial 2\) for server 1"):
        require_approved(desk.ledger, A[1], "shop-aaaaaaaaaaaa", 1)


def test_exactly_what_was_approved_may_be_booted(desk: Desk) -> None:
    """An older image too, as long as nobody revoked it; never one of which nothing is said."""
    desk.sign("approve", A)
    desk.sign("approve", B)
    require_approved(desk.ledger, A[1], "shop-aaaaaaaaaaaa", 0)
    with pytest.raises(ImageNotApproved, match="is not approved for server 0"):
        require_approved(desk.ledger, C[1], "auction-cccccccccccc", 0)


def test_a_disk_comes_back_on_an_image_that_was_approved_once(desk: Desk) -> None:
    """A revocation and a power cut together must not take the state; what nobody ever signed does not boot."""
    desk.sign("approve", A, 0)
    desk.sign("revoke", A)
    require_once_approved(desk.ledger, A[1], "shop-aaaaaaaaaaaa", 0)
    for server, image in ((1, A), (0, B)):
        with pytest.raises(ImageNotApproved, match="was never approved"):
            require_once_approved(desk.ledger, image[1], "shop-x", server)


def flip(content: bytes) -> bytes:
    return content.replace(b'"approve"', b'"revoke"', 1)


def other_digest(content: bytes) -> bytes:
    return content.replace(b"aa" * 32, b"bb" * 32, 1)


def other_key(content: bytes) -> bytes:
    at = content.index(b'"key":"') + len(b'"key":"')
    return content[:at] + b"ab" * 32 + content[at + 64 :]


def wrong_signature(content: bytes) -> bytes:
    return content[:-2] + (b"0" if content[-2:-1] != b"0" else b"1") + b"\n"


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "tamper", [flip, other_digest, other_key, wrong_signature, cut, lambda _: b"", lambda _: b"\xff"]
)
def test_a_tampered_approval_is_named_and_nothing_boots(desk: Desk, tamper: Callable[[bytes], bytes]) -> None:
    """It may have been a revocation: the approval before it must not count in its place."""
    desk.sign("approve", B)
    name = desk.sign("approve", A)
    desk.files[name] = tamper(desk.files[name])
    assert [one.file_name for one in desk.ledger.rejected] == [name]
    with pytest.raises(ImageNotApproved, match=name):
        newest_approved(desk.ledger, 0)
    with pytest.raises(ImageNotApproved, match=name):
        require_approved(desk.ledger, B[1], "shop-bbbbbbbbbbbb", 0)


def test_an_approval_that_was_taken_away_is_missed(desk: Desk) -> None:
    """Serial numbers are dense: a gap may be a revocation."""
    desk.sign("approve", A)
    gone = desk.sign("revoke", A)
    desk.sign("approve", B, 1)
    del desk.files[gone]
    assert desk.ledger.missing == (2,)
    with pytest.raises(ImageNotApproved, match="Approval 2 of cell is missing"):
        newest_approved(desk.ledger, 0)


def test_statements_of_another_service_or_key_count_for_nothing(desk: Desk, tmp_path: Path) -> None:
    """They may lie beside: cells share a catalog, and keys are replaced."""
    others = [Desk(desk.key, "cell-2"), Desk(make_key(tmp_path / "former.key"))]
    for other in others:
        other.sign("approve", A)
        other.sign("approve", B)
        desk.files |= other.files
    assert desk.ledger == Ledger("cell", ())
    spoiled = next(name for name in others[0].files)
    desk.files[spoiled] = b"x"
    assert desk.ledger.rejected == ()


def test_a_signature_of_something_else_is_no_approval(desk: Desk) -> None:
    """A statement signed without the purpose before it."""
    name = desk.sign("approve", A)
    encoded = desk.files[name].partition(b"\n")[0]
    desk.files[name] = encode_approval(encoded, desk.key._key.sign(encoded))
    assert len(desk.ledger.rejected) == 1


# -- beside the images -------------------------------------------------------------------------------------------------


class Shelf:
    """A catalog with two images of one name, and its approvals."""

    def __init__(self, directory: Path, key: ApprovalKey) -> None:
        self.catalog, self.key = Catalog(directory), key
        self.old = put_image(self.catalog, "shop", content="old", age_s=100)
        self.new = put_image(self.catalog, "shop", content="new")

    @property
    def ledger(self) -> Ledger:
        return read_ledger(self.catalog, "cell", self.key.public)

    def approve(self, image: Image, *servers: int) -> Statement:
        return add_statement(
            self.catalog, self.ledger, self.key, "approve", (image.name, image.digest), servers, at_us=1
        )

    def booted(self, wanted: str, server: int = 0) -> Image:
        return approved_image(self.catalog, wanted, self.ledger, server)


@pytest.fixture
def shelf(tmp_path: Path, key: ApprovalKey) -> Shelf:
    return Shelf(tmp_path / "catalog", key)


def test_a_name_means_the_newest_approved_image_not_the_newest_one(shelf: Shelf) -> None:
    """Who builds an image changes nothing until it is approved."""
    with pytest.raises(ImageNotApproved, match="No image 'shop' is approved"):
        shelf.booted("shop")
    shelf.approve(shelf.old)
    assert shelf.booted("shop") == shelf.old
    shelf.approve(shelf.new, 1)
    assert [shelf.booted("shop", server) for server in (0, 1)] == [shelf.old, shelf.new]


def test_a_digest_means_one_image_which_has_to_be_approved(shelf: Shelf) -> None:
    """Whole or in part."""
    shelf.approve(shelf.old)
    assert shelf.booted(shelf.old.image_id) == shelf.old
    for wanted in (shelf.new.image_id, shelf.new.digest, shelf.new.digest[:8]):
        with pytest.raises(ImageNotApproved, match="is not approved for server 0"):
            shelf.booted(wanted)


def test_an_approved_image_that_is_not_here_is_named(shelf: Shelf) -> None:
    """An older approved one does not take its place in silence."""
    shelf.approve(shelf.old)
    shelf.approve(shelf.new)
    shelf.catalog.remove(shelf.new)
    with pytest.raises(ImageUnknown, match=f"{shelf.new.image_id}, approved for server 0 with serial 2, is not in"):
        shelf.booted("shop")


def test_a_manifest_that_was_exchanged_is_another_image(shelf: Shelf) -> None:
    """Its digest is not the approved one, whatever the directory is called."""
    shelf.approve(shelf.old)
    (shelf.old.directory / "manifest.json").write_bytes((shelf.new.directory / "manifest.json").read_bytes())
    with pytest.raises(ImageUnknown, match="is not in the catalog"):
        shelf.booted("shop")


def test_an_image_that_misbehaves_has_to_be_allowed_too(shelf: Shelf) -> None:
    """An approval is no way around `fault_injection`."""
    liar = put_image(shelf.catalog, "shop+liar", fault_injection=True)
    shelf.approve(liar)
    with pytest.raises(ImageRefused):
        shelf.booted("shop+liar")
    assert approved_image(shelf.catalog, "shop+liar", shelf.ledger, 0, is_fault_injection_allowed=True) == liar


def test_approvals_are_files_of_their_own_and_no_images(shelf: Shelf) -> None:
    """Written once each, beside images that the catalog still lists alone."""
    first, second = shelf.approve(shelf.old), shelf.approve(shelf.new, 1, 0, 1)
    assert (first.serial, first.servers, second.serial, second.servers) == (1, None, 2, (0, 1))
    names = sorted(path.name for path in (shelf.catalog.directory / APPROVALS).iterdir())
    assert names == [file_name_of(first), file_name_of(second)]
    assert len(shelf.catalog.list()) == 2
    assert shelf.ledger.statements == (first, second)


def test_nothing_is_signed_behind_a_gap(shelf: Shelf) -> None:
    """The number that is missing exists elsewhere; the next one may too."""
    first = shelf.approve(shelf.old)
    shelf.approve(shelf.new)
    (shelf.catalog.directory / APPROVALS / file_name_of(first)).unlink()
    with pytest.raises(ImageNotApproved, match="Approval 1 of cell is missing"):
        shelf.approve(shelf.old)
