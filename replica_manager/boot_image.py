"""Which image a server's domains boot: what the configuration names, and what an operator has approved."""

from pathlib import Path
from typing import TYPE_CHECKING

from replica_manager.config import Config
from replica_manager.hypervisor.disk_overlay import backing_file

if TYPE_CHECKING:
    from images.approvals import Ledger
    from images.catalog import Catalog, Image


def boot_image(config: Config, server: int, wanted: str) -> "Image":
    """Return the image that `server` boots.

    With `[approval] public_key` it is an approved one, and a name means the newest that is approved for this server.
    The image's files are not read: `Catalog.verify_boot_files` compares them with the manifest that was approved.

    Args:
        config: complete configuration.
        server: whose domains are to boot it.
        wanted: a name, `NAME-DIGEST`, or a digest.

    Raises:
        ImageError: it is not in the catalog, not approved, or misbehaves on purpose and that is not allowed.
    """
    catalog, may_misbehave = open_catalog(config), config.fault_injection
    if not config.approval.public_key:
        return catalog.resolve(wanted, is_fault_injection_allowed=may_misbehave)
    from images.approval_files import approved_image

    ledger = _read_ledger(config, catalog)
    return approved_image(catalog, wanted, ledger, server, is_fault_injection_allowed=may_misbehave)


def image_of_disk(config: Config, server: int, disk: Path) -> "Image":
    """Return the image that a domain boots which comes back with its own `disk`: the one on which the disk stands.

    Not the newest one of its name, over which it is no copy-on-write disk.  With `[approval] public_key` it was
    approved once.

    Raises:
        ImageError: as `boot_image`; also if the disk stands on no image.
    """
    base = backing_file(disk)
    catalog = open_catalog(config)
    image = catalog.resolve(base.parent.name if base else "", is_fault_injection_allowed=config.fault_injection)
    if config.approval.public_key:
        from images.approvals import require_once_approved

        require_once_approved(_read_ledger(config, catalog), image.digest, image.image_id, server)
    return image


def open_catalog(config: Config) -> "Catalog":
    """Return the catalog of the configuration."""
    from images.catalog import Catalog  # a cell of child processes needs no images

    return Catalog(Path(config.hypervisor.image_dir))


def _read_ledger(config: Config, catalog: "Catalog") -> "Ledger":
    # Only here: it loads a cryptographic library of 12 MiB.
    from images.approval_files import read_ledger

    return read_ledger(catalog, config.cell.name, config.approval.public_key)
