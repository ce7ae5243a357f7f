"""What a server's domains boot: with a key only what was approved, and a disk only on the image on which it stands."""

import struct
from pathlib import Path

import pytest

from images.approval_files import add_statement, read_ledger
from images.approval_key import ApprovalKey, make_key
from images.catalog import Catalog, Image
from images.errors import ImageCorrupt, ImageNotApproved, ImageUnknown
from replica_manager.config_check import load
from replica_manager.domain_specs import DomainSpecs
from replica_manager.identifiers import DomainId
from tests.images.image_directories import put_image

FILE = """\
[cell]
name = "shop"
[service]
image = "{image}"
[hypervisor]
image_dir = "images"
"""
FRESH, OLD = DomainId("s1.g3"), DomainId("s1.g2")


class Host:
    """Server 1, its catalog, and the operator's key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.catalog = Catalog(directory / "images")
        self.key: ApprovalKey = make_key(directory / "approval.key")
        self.old = put_image(self.catalog, "shop", content="old", age_s=100)
        self.new = put_image(self.catalog, "shop", content="new")

    def specs(self, *, image: str = "shop", has_key: bool = True) -> DomainSpecs:
        """Return what makes the specifications of the server's domains."""
        file = self.directory / "spare.toml"
        approval = f'[approval]\npublic_key = "{self.key.public}"\n' if has_key else ""
        file.write_text(FILE.format(image=image) + approval)
        return DomainSpecs(load(file), 1)

    def say(self, action: str, image: Image, *servers: int) -> None:
        """Approve or revoke."""
        assert action in ("approve", "revoke")
        ledger = read_ledger(self.catalog, "shop", self.key.public)
        digest = (image.name, image.digest)
        add_statement(self.catalog, ledger, self.key, action, digest, servers, at_us=1)  # type: ignore[arg-type]

    def lay_disk(self, specs: DomainSpecs, base: Path) -> None:
        """Leave the disk of a former life, an overlay over `base`."""
        name = str(base.resolve()).encode()
        disk = Path(specs.storage[0]) / f"{OLD}.qcow2"
        disk.parent.mkdir(parents=True)
        # Source: QEMU, docs/interop/qcow2.txt: magic, version, offset and length of the backing file's name.
        disk.write_bytes(struct.pack(">4sIQI", b"QFI\xfb", 3, 20, len(name)) + name)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Nothing is approved."""
    return Host(tmp_path)


def booted(specs: DomainSpecs, domain: DomainId = FRESH, *, reuse_disk: bool = False) -> str:
    return specs.make(domain, 0, reuse_disk=reuse_disk).image


def test_without_a_key_the_newest_image_boots(host: Host) -> None:
    """Nothing has to be approved."""
    assert booted(host.specs(has_key=False)) == host.new.image_id


def test_with_a_key_nothing_boots_that_is_not_approved_for_this_server(host: Host) -> None:
    """A name means the newest approved image; a digest means that one or none."""
    host.say("approve", host.new, 0)
    with pytest.raises(ImageNotApproved, match="No image 'shop' is approved for server 1 of shop"):
        booted(host.specs())
    host.say("approve", host.old)
    assert booted(host.specs()) == host.old.image_id
    with pytest.raises(ImageNotApproved, match=f"{host.new.image_id} is not approved for server 1"):
        booted(host.specs(image=host.new.image_id))


def test_a_fault_order_is_no_way_around_the_approval(host: Host) -> None:
    """`boot_image_changed` names any image."""
    host.say("approve", host.old)
    specs = host.specs()
    specs.image_override = host.new.image_id
    with pytest.raises(ImageNotApproved):
        booted(specs)


@pytest.mark.parametrize("file", ["disk.qcow2", "vmlinuz", "initrd"])
def test_an_approved_image_is_compared_with_its_manifest_before_every_boot(host: Host, file: str) -> None:
    """The approval covers the manifest, the manifest every file."""
    host.say("approve", host.old)
    (host.old.directory / file).write_text("other code")
    with pytest.raises(ImageCorrupt, match=f"{file} of {host.old.image_id} is damaged"):
        booted(host.specs())


@pytest.mark.parametrize("has_key", [True, False])
def test_a_disk_comes_back_on_the_image_on_which_it_stands(host: Host, has_key: bool) -> None:
    """A newer image of the same name was built, and approved, since: the disk is an overlay over the old one."""
    host.say("approve", host.old)
    host.say("approve", host.new)
    host.say("revoke", host.old)
    specs = host.specs(has_key=has_key)
    host.lay_disk(specs, host.old.disk)
    assert booted(specs, OLD, reuse_disk=True) == host.old.image_id
    assert booted(specs) == host.new.image_id


def test_a_disk_on_an_image_that_nobody_approved_does_not_come_back(host: Host) -> None:
    """Nor one that stands on no image of the catalog."""
    host.say("approve", host.new)
    specs = host.specs()
    host.lay_disk(specs, host.old.disk)
    with pytest.raises(ImageNotApproved, match="was never approved for server 1"):
        booted(specs, OLD, reuse_disk=True)
    host.catalog.remove(host.old)
    with pytest.raises(ImageUnknown):
        booted(specs, OLD, reuse_disk=True)
