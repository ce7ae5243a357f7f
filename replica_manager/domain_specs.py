"""From the configuration to the specification of a domain.  Pure but for reading the image catalog."""

import shutil
from pathlib import Path

from replica_manager.boot_image import boot_image, image_of_disk, open_catalog
from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config, ServerSection
from replica_manager.hypervisor.hypervisor import DomainSpec
from replica_manager.identifiers import DomainId, server_of

GUEST_MEMORY_MIB_DEFAULT = 256


class DomainSpecs:
    """Makes the specifications of one server's domains."""

    def __init__(self, config: Config, server_id: int) -> None:
        """Read what the configuration says of the server."""
        self._config = config
        self._paths = CellPaths.of(config)
        self._server: ServerSection = next(server for server in config.server if server.id == server_id)
        self.image_override = ""
        """Boots another image than the configuration says; only with `fault_injection`."""

    @property
    def storage(self) -> list[str]:
        """The server's storage directories."""
        return self._server.storage

    def disk_of(self, domain: DomainId) -> int | None:
        """Return the index of the storage directory that holds the domain's disk; None: it is in none."""
        name = domain if self._config.hypervisor.driver == "subprocess" else f"{domain}.qcow2"
        found = [index for index, directory in enumerate(self._server.storage) if (Path(directory) / name).exists()]
        return found[0] if found else None

    def delete_disks(self) -> None:
        """Delete the disks of all domains of this server: what they hold is of a life that the cell has ended."""
        for directory in map(Path, self._server.storage):
            for disk in directory.glob(f"s{self._server.id}.g[0-9]*"):
                if disk.is_dir():
                    shutil.rmtree(disk)
                else:
                    disk.unlink()

    def make(self, domain: DomainId, storage_index: int, *, reuse_disk: bool = False) -> DomainSpec:
        """Return the specification of `domain`, whose disk is in the server's storage directory `storage_index`.

        With `reuse_disk` it boots from the disk that is there.
        Reads the whole image to compare its digests: seconds, not for an event loop.

        Raises:
            ImageError: the image is not in the catalog, is damaged or not approved, or misbehaves on purpose and that
                is not allowed.
        """
        server = int(server_of(domain))
        runtime = self._paths.runtime("server", server)
        storage = Path(self._server.storage[storage_index])
        channel = runtime / f"{domain}.sock"
        console = self._paths.state_dir / "log" / f"{domain}.console"
        if self._config.hypervisor.driver == "subprocess":
            return DomainSpec(
                domain_id=domain,
                image="",
                channel_path=channel,
                disk_path=storage / domain,
                console_path=console,
                command=tuple(self._config.service.command),
                reuse_disk=reuse_disk,
            )
        return self._machine(domain, channel, storage / f"{domain}.qcow2", console, reuse_disk=reuse_disk)

    def _machine(self, domain: DomainId, channel: Path, disk: Path, console: Path, *, reuse_disk: bool) -> DomainSpec:
        if reuse_disk:
            image = image_of_disk(self._config, self._server.id, disk)
        else:
            image = boot_image(self._config, self._server.id, self.image_override or self._server.image)
        open_catalog(self._config).verify_boot_files(image)
        return DomainSpec(
            domain_id=domain,
            image=f"{image.name}-{image.digest[:12]}",
            channel_path=channel,
            disk_path=disk,
            console_path=console,
            memory_mib=self._config.service.memory_mib or image.memory_mib or GUEST_MEMORY_MIB_DEFAULT,
            kernel=image.kernel,
            initrd=image.initrd,
            disk_base=image.disk,
            cmdline=image.cmdline,
            reuse_disk=reuse_disk,
        )
