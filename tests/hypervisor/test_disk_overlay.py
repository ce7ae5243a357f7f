"""Overlays: one for each domain, over a disk that nobody writes to."""

import subprocess
from pathlib import Path

import pytest

from replica_manager.hypervisor.disk_overlay import backing_file, create_overlay
from replica_manager.hypervisor.hypervisor import DomainRefused, HypervisorError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An empty qcow2 disk of 16 MiB."""
    path = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "16M"], check=True)
    return path


def write_sector(disk: Path, byte: int) -> None:
    """Write the first sector as a guest would."""
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 512", str(disk)], check=True, capture_output=True
    )


def has_sector(disk: Path, byte: int) -> bool:
    """Return whether the first sector consists of this byte."""
    read = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"read -P {byte} 0 512", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    return "Pattern verification failed" not in read.stdout


def test_an_overlay_stands_on_its_base_and_leaves_it_alone(base: Path, tmp_path: Path) -> None:
    """What a domain writes is in its overlay only; directories are made."""
    overlay = tmp_path / "storage" / "a" / "s0.g1.qcow2"
    create_overlay(base, overlay, reuse=False)
    assert backing_file(overlay) == base
    before = base.read_bytes()
    write_sector(overlay, 7)
    assert has_sector(overlay, 7)
    assert base.read_bytes() == before


def test_a_fresh_domain_does_not_inherit_an_old_disk(base: Path, tmp_path: Path) -> None:
    """A disk of a former life of the cell under the same name is rubbish."""
    overlay = tmp_path / "s0.g1.qcow2"
    create_overlay(base, overlay, reuse=False)
    write_sector(overlay, 7)
    create_overlay(base, overlay, reuse=False)
    assert has_sector(overlay, 0)


def test_a_restarted_domain_keeps_its_disk(base: Path, tmp_path: Path) -> None:
    """A cell restart boots every domain from its own disk (design 5.1)."""
    overlay = tmp_path / "s0.g1.qcow2"
    create_overlay(base, overlay, reuse=True)
    write_sector(overlay, 7)
    create_overlay(base, overlay, reuse=True)
    assert has_sector(overlay, 7)


@pytest.mark.parametrize("content", [b"", b"not a disk", bytes(4096)])
def test_a_file_that_is_no_overlay_of_the_base_is_not_reused(base: Path, tmp_path: Path, content: bytes) -> None:
    """Neither a damaged file nor a disk over another image may be booted as if it were the domain's."""
    overlay = tmp_path / "s0.g1.qcow2"
    overlay.write_bytes(content)
    with pytest.raises(DomainRefused, match="no overlay"):
        create_overlay(base, overlay, reuse=True)
    assert overlay.read_bytes() == content


def test_an_overlay_over_another_image_is_not_reused(base: Path, tmp_path: Path) -> None:
    """A domain goes on with the image that it was made of."""
    other, overlay = tmp_path / "other.qcow2", tmp_path / "s0.g1.qcow2"
    other.write_bytes(base.read_bytes())
    create_overlay(other, overlay, reuse=False)
    with pytest.raises(DomainRefused, match=r"other\.qcow2"):
        create_overlay(base, overlay, reuse=True)


def test_an_overlay_that_was_not_finished_is_never_seen(base: Path, tmp_path: Path) -> None:
    """What a crash left half written is replaced."""
    overlay = tmp_path / "s0.g1.qcow2"
    overlay.with_name("s0.g1.qcow2.new").write_bytes(b"half")
    create_overlay(base, overlay, reuse=True)
    assert backing_file(overlay) == base
    assert [path.name for path in tmp_path.glob("s0.g1*")] == ["s0.g1.qcow2"]


def test_a_base_that_is_no_disk_is_refused_in_the_tools_words(tmp_path: Path) -> None:
    """The sentence names the tool and what it said."""
    rubbish = tmp_path / "rubbish.qcow2"
    rubbish.write_bytes(b"rubbish")
    with pytest.raises(HypervisorError, match=r"qemu-img create .* failed: .*qcow2"):
        create_overlay(rubbish, tmp_path / "s0.g1.qcow2", reuse=False)
    assert not (tmp_path / "s0.g1.qcow2").exists()
