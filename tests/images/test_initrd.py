"""The first file system of a guest, from made-up kernel packages."""

import io
import lzma
import tarfile
from pathlib import Path

import pytest

from images.errors import BuildFailed
from images.initrd import build_initrd, load_order, module_dependencies, read_busybox, read_kernel

RELEASE = "6.1.0-7-cloud-amd64"
_MODULES = f"./lib/modules/{RELEASE}"


def _module(depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


def _archive(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def kernel_package(tmp_path: Path) -> Path:
    """A package in which `disk` needs `bus` needs `core`, and `ext4` is part of the kernel."""
    return _archive(
        tmp_path / "kernel.tar",
        {
            f"./boot/vmlinuz-{RELEASE}": b"kernel",
            f"{_MODULES}/kernel/drivers/disk-driver.ko": _module("bus"),
            f"{_MODULES}/kernel/drivers/bus.ko.xz": lzma.compress(_module("core")),
            f"{_MODULES}/kernel/core.ko": _module(""),
            f"{_MODULES}/kernel/unused.ko": _module("missing"),
            f"{_MODULES}/modules.builtin": b"kernel/fs/ext4/ext4.ko\n",
        },
    )


def test_modules_are_loaded_behind_those_that_they_need(kernel_package: Path) -> None:
    """A module before its dependency would be refused by the kernel; what nobody wants is left out."""
    kernel = read_kernel(kernel_package, ["disk_driver", "ext4"])

    assert load_order(kernel, ["disk_driver", "ext4"]) == ("core", "bus", "disk_driver")
    assert set(kernel.modules) == {"core", "bus", "disk_driver"}
    assert kernel.release == RELEASE


def test_compressed_modules_are_unpacked(kernel_package: Path) -> None:
    """busybox cannot load a compressed module."""
    kernel = read_kernel(kernel_package, ["bus"])

    assert kernel.modules["bus"] == _module("core")


def test_dashes_and_underscores_are_one_name(kernel_package: Path) -> None:
    """A recipe may write either spelling, as modprobe allows."""
    assert "disk_driver" in read_kernel(kernel_package, ["disk-driver"]).modules


def test_an_unknown_module_is_the_recipes_mistake(kernel_package: Path) -> None:
    """The module is named, and the hint says where to look."""
    with pytest.raises(BuildFailed, match="no module 'virtio_teapot'") as caught:
        read_kernel(kernel_package, ["virtio_teapot"])
    assert "modules" in caught.value.hint


def test_a_package_without_kernel_is_refused(tmp_path: Path) -> None:
    """A wrong `kernel_package` is noticed before anything is built from it."""
    with pytest.raises(BuildFailed, match="no /boot/vmlinuz"):
        read_kernel(_archive(tmp_path / "empty.tar", {"./usr/share/doc/x": b""}), [])


def test_a_module_without_dependencies_has_an_empty_list() -> None:
    """Both ways in which the kernel's build writes it."""
    assert module_dependencies(_module("")) == ()
    assert module_dependencies(b"\x7fELF") == ()


def test_equal_inputs_give_an_equal_initrd(kernel_package: Path) -> None:
    """The digest of an image must not depend on when or where it was built."""
    kernels = [read_kernel(kernel_package, ["disk_driver"]) for _ in range(2)]

    first, second = (build_initrd(kernel, ["disk_driver"], b"busybox") for kernel in kernels)

    assert first == second
    assert b"core\nbus\ndisk_driver\n" in first


def test_busybox_is_found_under_either_path(tmp_path: Path) -> None:
    """Debian moved it from /bin to /usr/bin."""
    for path in ("./bin/busybox", "./usr/bin/busybox"):
        assert read_busybox(_archive(tmp_path / "root.tar", {path: b"static"})) == b"static"


def test_a_root_file_system_without_busybox_is_refused(tmp_path: Path) -> None:
    """The hint names the package that is missing in the recipe."""
    with pytest.raises(BuildFailed, match="no busybox") as caught:
        read_busybox(_archive(tmp_path / "root.tar", {"./bin/sh": b""}))
    assert "busybox-static" in caught.value.hint
