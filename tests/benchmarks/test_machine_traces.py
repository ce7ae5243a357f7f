"""What a cell leaves behind on a machine, and what it does not answer for."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.machine_traces import left_behind, machine_traces

pytestmark = [pytest.mark.disk]

CELL = "t-traces"


@contextmanager
def mounted(directory: Path) -> Iterator[None]:
    """Mount something on `directory`."""
    directory.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "none", str(directory))
    try:
        yield
    finally:
        _run("umount", str(directory))


@contextmanager
def loop_device(file: Path) -> Iterator[str]:
    """Give a loop device of `file`."""
    file.write_bytes(bytes(1 << 20))
    device = _run("losetup", "--find", "--show", str(file)).strip()
    try:
        yield device
    finally:
        _run("losetup", "--detach", device)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _traces(tmp_path: Path) -> dict[str, list[str]]:
    return machine_traces(str(tmp_path / "cell"), CELL)


def test_mounts_and_devices_of_the_cell_count(tmp_path: Path) -> None:
    """Below its directory, or on a path that is named after it; gone again, nothing is left."""
    (tmp_path / "cell").mkdir()
    before = _traces(tmp_path)
    own, named = tmp_path / "cell" / "s0", tmp_path / "run" / CELL / "hv"
    with mounted(own), mounted(named), loop_device(tmp_path / "cell" / "s0.ext4") as device:
        found = left_behind(before, _traces(tmp_path))
    assert found == {"mounts": sorted([str(own), str(named)]), "loop_devices": [device]}
    assert left_behind(before, _traces(tmp_path)) == {}


def test_what_others_mount_meanwhile_does_not_count(tmp_path: Path) -> None:
    """Another cell with disks of its own starts while this one ends."""
    (tmp_path / "cell").mkdir()
    before = _traces(tmp_path)
    with mounted(tmp_path / "other" / "s0"), loop_device(tmp_path / "other" / "s0.ext4"):
        assert left_behind(before, _traces(tmp_path)) == {}
