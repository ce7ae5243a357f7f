"""From the configuration to a hypervisor."""

from pathlib import Path

import msgspec
import pytest

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.hypervisor.hypervisor import DomainRefused
from replica_manager.hypervisor.libvirt_hypervisor import LibvirtHypervisor
from replica_manager.hypervisor.libvirt_selection import libvirt_options
from replica_manager.hypervisor.selection import open_hypervisor
from replica_manager.hypervisor.subprocess_driver import SubprocessHypervisor


def config(hypervisor: dict[str, str], durability: str = "sync", server_uri: str = "") -> Config:
    """Return a configuration of two servers with this `[hypervisor]` section."""
    document = {
        "cell": {"name": "shop", "state_dir": "/var/c", "runtime_dir": "/run/c", "durability": durability},
        "service": {},
        "hypervisor": {"image_dir": "/var/images", **hypervisor},
        "server": [{"id": 0}, {"id": 1, "uri": server_uri}],
    }
    return msgspec.convert(document, Config)


def options(configured: Config, server_id: int = 1) -> tuple[str, str]:
    """Return URI and name prefix."""
    chosen = libvirt_options(configured, server_id, CellPaths.of(configured))
    return chosen.full_uri, chosen.name_prefix


def test_by_default_every_server_embeds_its_own_qemu() -> None:
    """No daemon, and no name that could clash: the root is the server's own."""
    assert options(config({}), 0) == ("qemu:///embed?root=/run/c/s0/hv", "")
    assert options(config({}), 1) == ("qemu:///embed?root=/run/c/s1/hv", "")


def test_a_shared_libvirt_tells_cells_apart_by_prefix() -> None:
    """`qemu:///system` may run other cells' domains, and other people's."""
    assert options(config({"uri": "qemu:///system"})) == ("qemu:///system", "shop-")


def test_a_servers_own_uri_goes_first() -> None:
    """Servers need not be alike."""
    configured = config({"uri": "qemu:///system"}, server_uri="qemu+unix:///system?socket=/run/x")
    assert options(configured, 0)[0] == "qemu:///system"
    assert options(configured, 1)[0] == "qemu+unix:///system?socket=/run/x"


@pytest.mark.parametrize(("durability", "cache"), [("sync", "writeback"), ("async", "writeback"), ("none", "unsafe")])
def test_durability_decides_what_a_flush_means(durability: str, cache: str) -> None:
    """Only a cell that promises nothing may swallow flushes."""
    configured = config({}, durability)
    assert libvirt_options(configured, 0, CellPaths.of(configured)).disk_cache == cache


def test_what_is_known_of_the_host_is_shared_by_its_cells() -> None:
    """It stays when a cell goes."""
    configured = config({})
    chosen = libvirt_options(configured, 0, CellPaths.of(configured))
    assert chosen.capabilities_cache == Path("/var/images/.host/capabilities")


def test_the_driver_is_the_configured_one() -> None:
    """Virtual machines, or child processes for those who say that they know."""
    assert isinstance(open_hypervisor(config({"driver": "libvirt"}), 0), LibvirtHypervisor)
    assert isinstance(open_hypervisor(config({"driver": "subprocess", "isolation": "none"}), 0), SubprocessHypervisor)
    with pytest.raises(DomainRefused, match="isolation"):
        open_hypervisor(config({"driver": "subprocess"}), 0)
