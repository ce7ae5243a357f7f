"""From the configuration to the hypervisor of one server."""

import importlib

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.hypervisor.hypervisor import Hypervisor
from replica_manager.hypervisor.subprocess_driver import SubprocessHypervisor


def preload_hypervisor(config: Config) -> None:
    """Load the libraries of the hypervisor that `[hypervisor]` asks for; before the process has an event loop."""
    if config.hypervisor.driver != "subprocess":
        preload_libvirt()


def preload_libvirt() -> None:
    """Load libvirt before the process has an event loop.

    Loaded by a process whose event loop runs, libvirt's embedded driver starts no machine: "Unable to notify child
    process: Bad file descriptor" is in QEMU's log, "unexpected exit status 1" in the error.
    """
    importlib.import_module("replica_manager.hypervisor.libvirt_selection")


def open_hypervisor(config: Config, server_id: int, paths: CellPaths | None = None) -> Hypervisor:
    """Return the hypervisor that `[hypervisor]` asks for; its `open` is still to be called.

    Args:
        config: A loaded (complete) configuration.
        server_id: Whose hypervisor; `[[server]] uri` goes before `[hypervisor] uri`.
        paths: Where the cell's files are, if not where the configuration says.

    Raises:
        DomainRefused: `driver = "subprocess"` without `isolation = "none"`.
    """
    if config.hypervisor.driver == "subprocess":
        return SubprocessHypervisor(isolation=config.hypervisor.isolation)
    # Only where it is needed: libvirt and the libraries that it needs are 12 MiB.
    from replica_manager.hypervisor.libvirt_selection import open_libvirt

    return open_libvirt(config, server_id, paths or CellPaths.of(config))
