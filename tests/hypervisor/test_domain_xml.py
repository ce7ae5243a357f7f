"""The machine that is described to libvirt: compared as a parsed structure, not as text."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import pytest

from replica_manager.hypervisor.domain_xml import (
    KERNEL_CMDLINE_BYTES_MAX,
    DomainType,
    MachineSettings,
    channel_paths,
    check_spec,
    disk_cache_of,
    disk_paths,
    domain_xml,
    kernel_cmdline,
)
from replica_manager.hypervisor.hypervisor import DomainRefused, DomainSpec
from replica_manager.identifiers import DomainId

UUID = "5c1c3bd2-8f0c-4a8e-9b52-0d5f9f3f2f5e"


@pytest.fixture
def spec(tmp_path: Path) -> DomainSpec:
    """A complete specification whose files exist."""
    for name in ("vmlinuz", "initrd", "base.qcow2"):
        (tmp_path / name).write_bytes(b"")
    return DomainSpec(
        domain_id=DomainId("s0.g7"),
        image="key-value-0123",
        channel_path=Path("/run/spare/c/s0/s0.g7.sock"),
        disk_path=Path("/var/spare/a/s0.g7.qcow2"),
        console_path=Path("/var/spare/log/s0.g7.console"),
        memory_mib=384,
        vcpu_count=2,
        kernel=tmp_path / "vmlinuz",
        initrd=tmp_path / "initrd",
        disk_base=tmp_path / "base.qcow2",
        cmdline="key.value=1",
    )


def parsed(spec: DomainSpec, domain_type: DomainType = "qemu") -> ElementTree.Element:
    """Return the domain element for `spec`."""
    return ElementTree.fromstring(domain_xml(spec, MachineSettings("cell-s0.g7", UUID, domain_type)))


def test_a_machine_boots_its_kernel_directly_with_its_names_on_the_command_line(spec: DomainSpec) -> None:
    """The guest learns its image and its domain from the kernel command line."""
    domain = parsed(spec)
    assert (domain.findtext("name"), domain.findtext("uuid")) == ("cell-s0.g7", UUID)
    assert (domain.findtext("os/kernel"), domain.findtext("os/initrd")) == (str(spec.kernel), str(spec.initrd))
    words = (domain.findtext("os/cmdline") or "").split()
    assert {"console=ttyS0", "panic=1", "spare.image=key-value-0123", "spare.domain=s0.g7", "key.value=1"} <= {*words}
    assert words[-1] == "key.value=1"


def test_a_machine_has_the_size_that_was_asked_for(spec: DomainSpec) -> None:
    """Memory in MiB, processors by number."""
    memory = parsed(spec).find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) == ("384", "MiB")
    assert parsed(spec).findtext("vcpu") == "2"


def test_a_machine_reaches_its_manager_and_nothing_else(spec: DomainSpec) -> None:
    """No network card, memory balloon, USB, video or display: one port and one console."""
    devices = parsed(spec).find("devices")
    assert devices is not None
    found = sorted(device.tag for device in devices)
    assert found == ["channel", "controller", "disk", "emulator", "memballoon", "rng", "serial"]
    channel, balloon, controller = devices.find("channel"), devices.find("memballoon"), devices.find("controller")
    assert channel is not None
    assert balloon is not None
    assert controller is not None
    source, target = channel.find("./source"), channel.find("./target")
    assert source is not None
    assert target is not None
    assert source.attrib == {"mode": "bind", "path": str(spec.channel_path)}
    assert target.attrib == {"type": "virtio", "name": "org.spare.0"}
    assert balloon.attrib == {"model": "none"}
    assert controller.attrib == {"type": "usb", "model": "none"}


def test_a_console_is_appended_to_so_that_it_can_be_cut(spec: DomainSpec) -> None:
    """Without appending, QEMU would write on at its old offset after the file was emptied."""
    source = parsed(spec).find("devices/serial/source")
    assert source is not None
    assert source.attrib == {"path": str(spec.console_path), "append": "on"}


def test_every_end_of_the_guest_ends_the_machine(spec: DomainSpec) -> None:
    """A guest that powers off, restarts or crashes is reported stopped, never silently booted again."""
    domain = parsed(spec)
    assert [domain.findtext(tag) for tag in ("on_poweroff", "on_reboot", "on_crash")] == ["destroy"] * 3


@pytest.mark.parametrize(
    ("domain_type", "mode", "model"), [("qemu", "custom", "qemu64"), ("kvm", "host-passthrough", None)]
)
def test_the_processor_fits_the_acceleration(
    spec: DomainSpec, domain_type: DomainType, mode: str, model: str | None
) -> None:
    """TCG is fastest with a plain processor, KVM with the host's."""
    domain = parsed(spec, domain_type)
    processor = domain.find("cpu")
    assert processor is not None
    assert domain.get("type") == domain_type
    assert (processor.get("mode"), processor.findtext("model")) == (mode, model)


def test_flushes_reach_the_disk_unless_durability_is_given_up(spec: DomainSpec) -> None:
    """`unsafe` swallows a guest's flush, so only `durability = "none"` may use it."""
    assert [disk_cache_of(durability) for durability in ("sync", "async", "none")] == [
        "writeback",
        "writeback",
        "unsafe",
    ]
    driver = parsed(spec).find("devices/disk/driver")
    assert driver is not None
    assert driver.attrib == {"name": "qemu", "type": "qcow2", "cache": "writeback"}


def test_a_machine_without_a_disk_image_has_no_disk(spec: DomainSpec) -> None:
    """A guest may live in its initial file system."""
    assert parsed(dataclasses.replace(spec, disk_base=None)).find("devices/disk") is None


def test_hostile_characters_stay_inside_their_element(spec: DomainSpec) -> None:
    """Names from a configuration cannot add elements."""
    hostile = "'/><interface type=\"network\"/><a b='"
    domain = parsed(dataclasses.replace(spec, cmdline=hostile, console_path=Path("/log") / hostile))
    assert domain.find("devices/interface") is None
    assert (domain.findtext("os/cmdline") or "").endswith(hostile)


def test_the_files_of_a_machine_are_found_again_in_its_description(spec: DomainSpec) -> None:
    """A later process deletes the disk of a domain that it has not defined."""
    xml = domain_xml(spec, MachineSettings("s0.g7", UUID, "qemu"))
    assert disk_paths(xml) == [spec.disk_path]
    assert channel_paths(xml) == [spec.channel_path]


def test_a_complete_specification_is_accepted(spec: DomainSpec) -> None:
    """The counterpart of the refusals below."""
    check_spec(spec)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel": None}, "no kernel"),
        ({"kernel": Path("/absent/vmlinuz")}, "/absent/vmlinuz"),
        ({"initrd": Path("/absent/initrd")}, "/absent/initrd"),
        ({"disk_base": Path("/absent/disk")}, "/absent/disk"),
        ({"memory_mib": 63}, "64 MiB"),
        ({"vcpu_count": 0}, "one processor"),
        ({"channel_path": Path("/" + "x" * 107)}, "107"),
        ({"cmdline": "x" * KERNEL_CMDLINE_BYTES_MAX}, str(KERNEL_CMDLINE_BYTES_MAX)),
    ],
)
def test_an_impossible_specification_is_refused_with_the_value(
    spec: DomainSpec, change: dict[str, Path], words: str
) -> None:
    """The sentence names the domain, what is wrong with it, and the limit."""
    with pytest.raises(DomainRefused, match=words) as refusal:
        check_spec(dataclasses.replace(spec, **change))  # type: ignore[arg-type]
    assert "s0.g7" in str(refusal.value)


def test_the_longest_command_line_that_reaches_the_kernel_is_accepted(spec: DomainSpec) -> None:
    """The limit itself is allowed."""
    free = KERNEL_CMDLINE_BYTES_MAX - len(kernel_cmdline(dataclasses.replace(spec, cmdline=""))) - 1
    check_spec(dataclasses.replace(spec, cmdline="x" * free))
