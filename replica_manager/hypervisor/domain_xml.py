"""From a domain's specification to libvirt's description of a QEMU machine; pure.

A machine has one disk, one serial console to a file, one virtio-serial port to its replica manager and no network
card, memory balloon, USB or video: what is not there cannot be attacked from inside.
Source: libvirt, "Domain XML format"; design "Servers, domains, networks".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

from replica_manager.hypervisor.hypervisor import DomainRefused, DomainSpec

CHANNEL_NAME: Final = "org.spare.0"
"""The name of the virtio-serial port by which the wrapper finds it in the guest."""

SOCKET_PATH_BYTES_MAX: Final = 107
"""Source: unix(7), `sun_path` has 108 bytes with the closing zero."""

KERNEL_CMDLINE_BYTES_MAX: Final = 2047
"""`COMMAND_LINE_SIZE` of x86 is 2048 with the closing zero; the kernel cuts a longer line off without a word."""

MEMORY_MIB_MIN: Final = 64
"""A kernel with its initial file system does not boot with less."""

_BASE_CMDLINE: Final = "console=ttyS0 quiet panic=1 random.trust_cpu=on net.ifnames=0"
"""`panic=1`: a broken guest restarts after 1 s, which ends the machine, so that its manager notices."""

DomainType = Literal["kvm", "qemu", "test"]
"""libvirt's word for the acceleration: hardware, TCG, or libvirt's own test driver."""

DiskCache = Literal["none", "writeback", "unsafe"]


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """What the host adds to a specification."""

    name: str
    """libvirt's name of the domain; unique in its connection."""
    uuid: str
    """New for every start, so that events of an earlier life can be told apart."""
    domain_type: DomainType
    disk_cache: DiskCache = "writeback"
    emulator: str = "/usr/bin/qemu-system-x86_64"


def disk_cache_of(durability: Literal["sync", "async", "none"]) -> DiskCache:
    """Return the cache mode under which a guest's flush means what the configuration promises.

    `writeback` passes flushes on to the host's disk; only `unsafe` swallows them.
    """
    return "unsafe" if durability == "none" else "writeback"


def check_spec(spec: DomainSpec) -> None:
    """Refuse what no machine can be made of.

    Raises:
        DomainRefused: one sentence with the value and its limit.
    """
    check_channel_path(spec)
    if spec.kernel is None:
        raise DomainRefused(f"Domain {spec.domain_id} has no kernel; a virtual machine needs one.")
    for role, path in (("kernel", spec.kernel), ("initrd", spec.initrd), ("disk", spec.disk_base)):
        if path is not None and not path.is_file():
            raise DomainRefused(f"The {role} {path} of domain {spec.domain_id} does not exist.")
    if spec.memory_mib < MEMORY_MIB_MIN or spec.vcpu_count < 1:
        raise DomainRefused(
            f"Domain {spec.domain_id} needs at least {MEMORY_MIB_MIN} MiB and one processor,"
            f" not {spec.memory_mib} MiB and {spec.vcpu_count}."
        )
    length = len(kernel_cmdline(spec).encode())
    if length > KERNEL_CMDLINE_BYTES_MAX:
        raise DomainRefused(
            f"The kernel command line of domain {spec.domain_id} has {length} bytes;"
            f" at most {KERNEL_CMDLINE_BYTES_MAX} reach the kernel."
        )


def check_channel_path(spec: DomainSpec) -> None:
    """Refuse a channel that no socket can be bound to.

    Raises:
        DomainRefused: longer than `SOCKET_PATH_BYTES_MAX`.
    """
    length = len(bytes(spec.channel_path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise DomainRefused(
            f"The channel path {spec.channel_path} of domain {spec.domain_id} has {length} bytes;"
            f" a socket's path has at most {SOCKET_PATH_BYTES_MAX}."
        )


def kernel_cmdline(spec: DomainSpec) -> str:
    """Return the whole kernel command line: the host's part, the names, the image's part."""
    parts = [_BASE_CMDLINE, f"spare.image={spec.image}", f"spare.domain={spec.domain_id}", spec.cmdline]
    return " ".join(part for part in parts if part)


def domain_xml(spec: DomainSpec, settings: MachineSettings) -> str:
    """Return libvirt's XML for `spec`, which `check_spec` has accepted."""
    domain = ElementTree.Element("domain", type=settings.domain_type)
    _leaf(domain, "name", settings.name)
    _leaf(domain, "uuid", settings.uuid)
    _leaf(domain, "memory", str(spec.memory_mib), unit="MiB")
    _leaf(domain, "vcpu", str(spec.vcpu_count))
    _add_boot(domain, spec)
    _add_processor(domain, settings)
    for occasion in ("on_poweroff", "on_reboot", "on_crash"):
        _leaf(domain, occasion, "destroy")
    _add_devices(ElementTree.SubElement(domain, "devices"), spec, settings)
    return ElementTree.tostring(domain, encoding="unicode")


def disk_paths(xml: str) -> list[Path]:
    """Return the files behind the disks of a domain that libvirt describes, to delete them with it."""
    sources = ElementTree.fromstring(xml).iterfind("./devices/disk[@type='file']/source")  # noqa: S314 - libvirt's own
    return [Path(source.attrib["file"]) for source in sources if "file" in source.attrib]


def channel_paths(xml: str) -> list[Path]:
    """Return the sockets of the channels of a domain that libvirt describes."""
    sources = ElementTree.fromstring(xml).iterfind("./devices/channel/source")  # noqa: S314 - libvirt's own
    return [Path(source.attrib["path"]) for source in sources if "path" in source.attrib]


def _add_boot(domain: ElementTree.Element, spec: DomainSpec) -> None:
    boot = ElementTree.SubElement(domain, "os")
    _leaf(boot, "type", "hvm", arch="x86_64", machine="q35")
    _leaf(boot, "kernel", str(spec.kernel))
    if spec.initrd is not None:
        _leaf(boot, "initrd", str(spec.initrd))
    _leaf(boot, "cmdline", kernel_cmdline(spec))


def _add_processor(domain: ElementTree.Element, settings: MachineSettings) -> None:
    ElementTree.SubElement(ElementTree.SubElement(domain, "features"), "acpi")
    if settings.domain_type == "kvm":
        ElementTree.SubElement(domain, "cpu", mode="host-passthrough", check="none")
    else:
        # A guest boots 0.2 to 0.3 s faster on this model than on `maximum`, whose features TCG has to emulate.
        processor = ElementTree.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _leaf(processor, "model", "qemu64")
    ElementTree.SubElement(domain, "clock", offset="utc")


def _add_devices(devices: ElementTree.Element, spec: DomainSpec, settings: MachineSettings) -> None:
    if settings.domain_type != "test":
        _leaf(devices, "emulator", settings.emulator)
    if spec.disk_base is not None:
        _add_disk(devices, spec.disk_path, settings.disk_cache)
    ElementTree.SubElement(devices, "controller", type="usb", model="none")
    # Appending lets the host cut the file when a guest floods it; without, QEMU would go on at its old offset.
    console = ElementTree.SubElement(devices, "serial", type="file")
    ElementTree.SubElement(console, "source", path=str(spec.console_path), append="on")
    ElementTree.SubElement(console, "target", type="isa-serial", port="0")
    channel = ElementTree.SubElement(devices, "channel", type="unix")
    ElementTree.SubElement(channel, "source", mode="bind", path=str(spec.channel_path))
    ElementTree.SubElement(channel, "target", type="virtio", name=CHANNEL_NAME)
    randomness = ElementTree.SubElement(devices, "rng", model="virtio")
    _leaf(randomness, "backend", "/dev/urandom", model="random")
    ElementTree.SubElement(devices, "memballoon", model="none")


def _add_disk(devices: ElementTree.Element, overlay: Path, cache: DiskCache) -> None:
    disk = ElementTree.SubElement(devices, "disk", type="file", device="disk")
    ElementTree.SubElement(disk, "driver", name="qemu", type="qcow2", cache=cache)
    ElementTree.SubElement(disk, "source", file=str(overlay))
    ElementTree.SubElement(disk, "target", dev="vda", bus="virtio")


def _leaf(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, tag, attributes).text = text
