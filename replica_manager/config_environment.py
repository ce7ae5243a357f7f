"""What a configuration needs from the machine it is checked on: images, disks, privileges."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from replica_manager.config import Config, ServerSection
from replica_manager.config_findings import Report
from replica_manager.config_positions import KeyPath

ImageProblem = Callable[[Config, ServerSection], tuple[str, str] | None]
"""Complete configuration and server → why its image cannot be used and what to do about it; `None`: it can."""


def check_environment(config: Config, report: Report, image_problem: ImageProblem | None) -> None:
    """Report what the complete configuration `config` lacks on this machine.

    Args:
        config: complete configuration.
        report: where findings go.
        image_problem: the image catalog; `None`: images are not looked for.
    """
    if image_problem is not None:
        _check_images(config, report, image_problem)
    _check_program(config, report)
    _check_disks(config, report)
    _check_privileges(config, report)


def _check_images(config: Config, report: Report, image_problem: ImageProblem) -> None:
    if config.hypervisor.driver != "libvirt":
        return
    told: set[tuple[str, str]] = set()
    for index, server in enumerate(config.server):
        if not server.image or not _is_here(config, server.host):
            continue
        problem = image_problem(config, server)
        if problem is not None and problem not in told:
            told.add(problem)
            own: KeyPath = ("server", index, "image")
            path = own if report.is_given(own) else ("service", "image")
            report.error(path, *problem, uses=(("hypervisor", "driver"),))


def _check_program(config: Config, report: Report) -> None:
    command = config.service.command
    if config.hypervisor.driver == "subprocess" and command and shutil.which(command[0]) is None:
        report.error(("service", "command"), f"`{command[0]}` is not an executable program on this machine")


def _check_disks(config: Config, report: Report) -> None:
    """Two storage directories on one disk are one fault; only where the operator chose them."""
    for index, server in enumerate(config.server):
        path: KeyPath = ("server", index, "storage")
        if len(server.storage) != 2 or not report.is_given(path) or not _is_here(config, server.host):
            continue
        first, second = (disk_of(Path(directory)) for directory in server.storage)
        if first == second:
            report.warning(path, "both storage directories are on the same disk: it fails with both domains")


def _check_privileges(config: Config, report: Report) -> None:
    if config.cell.kind == "one-machine" and config.cell.network == "namespaces" and os.geteuid() != 0:
        report.warning(
            ("cell", "network"),
            "network namespaces need root",
            'run as root, or say network = "loopback" in [cell]',
        )
    if config.cell.state_disk_mib and os.geteuid() != 0:
        report.error(("cell", "state_disk_mib"), "mounting disks needs root", "run as root, or leave it out")


def _is_here(config: Config, host: str) -> bool:
    """Say whether `host` is this machine, as far as names tell."""
    return config.cell.kind == "one-machine" or host in ("localhost", "127.0.0.1", "::1", socket.gethostname())


def disk_of(directory: Path) -> int:
    """Return the device of `directory`, or of the nearest directory above that exists."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory.stat().st_dev
