"""What a configuration needs from the machine it is checked on: images, disks, privileges."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from replica_manager.config import Config
from replica_manager.config_findings import Report
from replica_manager.config_positions import KeyPath

ImageKnown = Callable[[Path, str], bool]
"""Image directory and name (newest) or `name-digest` → it is there."""


def check_environment(config: Config, report: Report, image_known: ImageKnown | None) -> None:
    """Report what the complete configuration `config` lacks on this machine.

    Args:
        config: complete configuration.
        report: where findings go.
        image_known: the image catalog; `None`: images are not looked for.
    """
    if image_known is not None:
        _check_images(config, report, image_known)
    _check_disks(config, report)
    _check_privileges(config, report)


def _check_images(config: Config, report: Report, image_known: ImageKnown) -> None:
    if config.hypervisor.driver != "libvirt":
        return
    directory = Path(config.hypervisor.image_dir)
    missing: dict[str, KeyPath] = {}
    for index, server in enumerate(config.server):
        if _is_here(config, server.host) and server.image and not image_known(directory, server.image):
            own: KeyPath = ("server", index, "image")
            missing.setdefault(server.image, own if report.is_given(own) else ("service", "image"))
    for image, path in missing.items():
        hint = f"build it with `spare image build {image}`"
        report.error(path, f"there is no image `{image}` in {directory}", hint, uses=(("hypervisor", "driver"),))


def _check_disks(config: Config, report: Report) -> None:
    """Two storage directories on one disk are one fault; only where the operator chose them."""
    for index, server in enumerate(config.server):
        path: KeyPath = ("server", index, "storage")
        if len(server.storage) != 2 or not report.is_given(path) or not _is_here(config, server.host):
            continue
        first, second = (_device(Path(directory)) for directory in server.storage)
        if first == second:
            report.warning(path, "both storage directories are on the same disk: it fails with both domains")


def _check_privileges(config: Config, report: Report) -> None:
    if config.cell.kind == "one-machine" and config.cell.network == "namespaces" and os.geteuid() != 0:
        report.warning(
            ("cell", "network"),
            "network namespaces need root",
            'run as root, or say network = "loopback" in [cell]',
        )


def _is_here(config: Config, host: str) -> bool:
    """Say whether `host` is this machine, as far as names tell."""
    return config.cell.kind == "one-machine" or host in ("localhost", "127.0.0.1", "::1", socket.gethostname())


def _device(directory: Path) -> int:
    """Return the device of `directory`, or of the nearest directory above that exists."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory.stat().st_dev
