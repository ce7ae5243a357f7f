"""Whether guests run in hardware or are translated."""

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from replica_manager.hypervisor.acceleration import (
    AccelerationChoice,
    AccelerationChooser,
    boot_id,
    boot_probe,
    has_virtualisation,
    read_choice,
    write_choice,
)
from replica_manager.hypervisor.probe_guest import PROBE_MARK, busy_guest, initial_file_system, stopping_guest
from tests.hypervisor.tiny_guest import kernel

AMD = "processor\t: 0\nflags\t\t: fpu vme svm lm\nbogomips\t: 5000\n"
INTEL = "flags\t\t: fpu vmx\n"
NESTED = "model name\t: svm vmx\nflags\t\t: fpu vme lm svm_lock\n"


@pytest.mark.parametrize(("cpu_info", "expected"), [(AMD, True), (INTEL, True), (NESTED, False), ("", False)])
def test_the_processors_flags_say_whether_hardware_may_help(cpu_info: str, expected: bool) -> None:
    """Only whole words in the lines of flags count."""
    assert has_virtualisation(cpu_info) is expected


@pytest.mark.parametrize(("wanted", "chosen"), [("kvm", "kvm"), ("tcg", "qemu")])
def test_a_configured_acceleration_is_not_probed(tmp_path: Path, wanted: str, chosen: str) -> None:
    """The operator's word holds; nothing is started, nothing remembered."""
    chooser = AccelerationChooser(wanted, tmp_path / "choice.json", emulator="/absent")  # type: ignore[arg-type]
    assert asyncio.run(chooser.choose(Path("/absent/kernel"))) == chosen
    assert list(tmp_path.iterdir()) == []


def test_a_choice_is_remembered_for_one_boot(tmp_path: Path) -> None:
    """After the next boot the host may be another one."""
    choice = AccelerationChoice("kvm", "a small guest ran to its end")
    file = tmp_path / "host" / "acceleration.json"
    write_choice(file, "boot-1", choice)
    assert read_choice(file, "boot-1") == choice
    assert read_choice(file, "boot-2") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"boot": "b"}',
        '{"boot": "b", "acceleration": "xen", "reason": "r"}',
        '{"boot": "b", "acceleration": "kvm"}',
    ],
)
def test_a_damaged_memory_is_no_memory(tmp_path: Path, content: str) -> None:
    """Then the host is probed again."""
    file = tmp_path / "acceleration.json"
    file.write_text(content)
    assert read_choice(file, "b") is None


def test_a_boot_has_a_name() -> None:
    """The kernel makes a new one at every boot."""
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


def emulator(directory: Path, script: str) -> str:
    """Return a program that stands in for QEMU on a host where it behaves like this."""
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_guest_that_hangs_is_given_up(tmp_path: Path) -> None:
    """`/dev/kvm` may open and still run no guest: the probe has a time limit."""
    reason = boot_probe(tmp_path, "kvm", emulator(tmp_path, "exec sleep 600"), timeout_s=0.2)
    assert "did not run to its end" in reason


def test_an_emulator_that_fails_is_quoted(tmp_path: Path) -> None:
    """Its last line says why."""
    reason = boot_probe(tmp_path, "kvm", emulator(tmp_path, "echo no such accelerator >&2; exit 1"))
    assert reason.endswith("no such accelerator")


def test_an_emulator_that_is_missing_is_named(tmp_path: Path) -> None:
    """The sentence names the program."""
    assert "/absent/qemu" in boot_probe(tmp_path, "kvm", "/absent/qemu")


def test_a_guest_that_ended_without_its_mark_has_not_run(tmp_path: Path) -> None:
    """Exit status 0 alone proves nothing."""
    assert boot_probe(tmp_path, "kvm", emulator(tmp_path, "exit 0")) != ""


@pytest.mark.vm
def test_a_real_guest_runs_to_its_end_translated() -> None:
    """The probe's guest boots, runs its program, and restarts, which ends QEMU."""
    assert boot_probe(kernel(), "tcg", timeout_s=120) == ""


@pytest.mark.vm
def test_the_choice_for_this_host_is_one_that_runs(tmp_path: Path) -> None:
    """What `auto` chooses here boots a guest; the second answer costs nothing."""
    file = tmp_path / "acceleration.json"
    choice = asyncio.run(AccelerationChooser("auto", file).explain(kernel()))
    assert boot_probe(kernel(), "kvm" if choice.acceleration == "kvm" else "tcg", timeout_s=120) == ""
    assert choice.reason
    if file.exists():
        assert json.loads(file.read_text())["acceleration"] == choice.acceleration
    assert asyncio.run(AccelerationChooser("auto", file, emulator="/absent").explain(kernel())) == choice


@pytest.mark.parametrize("guest", [stopping_guest(), busy_guest()])
def test_the_probe_guest_is_an_archive_with_one_small_program(guest: bytes) -> None:
    """`cpio -t` would show dev, dev/console and init."""
    entries = list(archive_entries(guest))
    assert [name for name, _, _ in entries] == ["dev", "dev/console", "init", "TRAILER!!!"]
    _, mode, program = entries[2]
    assert stat.S_ISREG(mode)
    assert mode & stat.S_IXUSR
    assert program.startswith(b"\x7fELF")
    assert PROBE_MARK + b"\n" in program
    assert len(guest) < 1024


def test_an_initial_file_system_keeps_its_program() -> None:
    """Whatever its length, the archive stays aligned."""
    for length in range(1, 9):
        entries = {name: content for name, _, content in archive_entries(initial_file_system(os.urandom(length)))}
        assert len(entries["init"]) == length


def archive_entries(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Return name, mode and content of every entry of a `newc` archive."""
    entries, position = [], 0
    while position < len(archive):
        header = archive[position : position + 110]
        assert header[:6] == b"070701"
        fields = [int(header[at : at + 8], 16) for at in range(6, 110, 8)]
        name_start = position + 110
        content_start = -(-(name_start + fields[11]) // 4) * 4
        content = archive[content_start : content_start + fields[6]]
        entries.append((archive[name_start : name_start + fields[11] - 1].decode(), fields[1], content))
        position = -(-(content_start + fields[6]) // 4) * 4
    return entries
