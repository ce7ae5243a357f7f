"""What `spare cell check` says about how much the replicas have in common."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replica_manager.control.cli.output import console, table

if TYPE_CHECKING:
    from images.manifest import Manifest
    from replica_manager.config import Config
    from replica_manager.diversity import Diversity, Software

NAMES_SHOWN_MAX = 40
"""Packages that people are shown by name; `-o json` has all."""


def diversity_of(config: "Config") -> "Diversity":
    """Return how diverse the cell of a configuration without errors is, as far as this machine can see."""
    from replica_manager.config_environment import disk_of
    from replica_manager.diversity import assess

    software = {server.id: _software(config, server.image) for server in config.server}
    return assess(config, software, lambda directory: disk_of(Path(directory)))


def diversity_document(diversity: "Diversity") -> dict[str, Any]:
    """Return it as JSON has it."""
    return asdict(diversity)


def print_diversity(diversity: "Diversity") -> None:
    """Show it to people."""
    rows = [(part.name, part.score, part.verdict, part.detail) for part in diversity.parts]
    click.echo(f"diversity: {diversity.score} of 100")
    console().print(table(("PART", "SCORE", "VERDICT", "WHY"), rows, right=("SCORE",)))
    names = [f"{package.name} {package.versions[0]}" for package in diversity.same]
    if names and diversity.parts[0].score:
        more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
        click.echo(f"the same in every server: {', '.join(names[:NAMES_SHOWN_MAX])}{more}")


def _software(config: "Config", image: str) -> "Software | None":
    """Return what an image holds; `None`: the catalog of this machine does not have it, or there are no images."""
    if config.hypervisor.driver == "subprocess":
        return None
    from images.catalog import Catalog
    from images.errors import ImageError
    from replica_manager.diversity import Software

    catalog = Catalog(Path(config.hypervisor.image_dir))
    try:
        found = catalog.resolve(image, is_fault_injection_allowed=config.fault_injection)
    except ImageError:
        return None
    return Software(found.image_id, dict(packages_of(found.manifest)))


def packages_of(manifest: "Manifest") -> Iterator[tuple[str, str]]:
    """Yield name and version of everything in an image; the digest takes the place of our own packages' version."""
    yield from manifest.packages.items()
    kernel, _, version = manifest.kernel_package.rpartition(" ")
    yield kernel, version
    for wheel in manifest.wheels:
        name, version, *_ = wheel.split("-")
        # As Debian would call it: a library is the same code, wherever an image has it from.
        yield f"python3-{re.sub('[-_.]+', '-', name).lower()}", version
    for name, digest in manifest.project_packages.items():
        yield name, digest[:12]
