"""From the configuration to libvirt: how a server reaches it, and which acceleration its machines get."""

from pathlib import Path

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.hypervisor.acceleration import AccelerationChooser
from replica_manager.hypervisor.domain_xml import DomainType, disk_cache_of
from replica_manager.hypervisor.libvirt_driver import EMBEDDED_URI
from replica_manager.hypervisor.libvirt_hypervisor import LibvirtHypervisor
from replica_manager.hypervisor.libvirt_session import LibvirtOptions

HOST_DIRECTORY = ".host"
"""Below the image directory: what was found out about this host, shared by its servers and cells."""


def open_libvirt(config: Config, server_id: int, paths: CellPaths) -> LibvirtHypervisor:
    """Return the server's libvirt; its `open` is still to be called."""
    options = libvirt_options(config, server_id, paths)
    if options.full_uri.startswith("test:"):
        return LibvirtHypervisor(options, _test_type)
    cache_file = Path(config.hypervisor.image_dir) / HOST_DIRECTORY / "acceleration.json"
    return LibvirtHypervisor(options, AccelerationChooser(config.hypervisor.acceleration, cache_file).choose)


def libvirt_options(config: Config, server_id: int, paths: CellPaths) -> LibvirtOptions:
    """Return how a server reaches libvirt."""
    own = [server.uri for server in config.server if server.id == server_id and server.uri]
    uri = own[0] if own else config.hypervisor.uri
    is_embedded = uri in ("", EMBEDDED_URI)
    return LibvirtOptions(
        uri=uri or EMBEDDED_URI,
        embedded_root=paths.hypervisor_root(server_id) if is_embedded else None,
        capabilities_cache=Path(config.hypervisor.image_dir) / HOST_DIRECTORY / "capabilities",
        # An embedded driver is the server's own; any other may run the domains of several cells.
        name_prefix="" if is_embedded else f"{config.cell.name}-",
        disk_cache=disk_cache_of(config.cell.durability),
    )


async def _test_type(_kernel: Path) -> DomainType:
    return "test"
