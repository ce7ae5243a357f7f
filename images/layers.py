"""Layers: archives that several images share and that take long to make, kept in the catalog's `.layers`.

A layer is found by what it was made of.  It stays as it is until a build is asked to fetch newer packages, so that
building again after a change of the project's own code needs no network.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from images.bootstrap import LAYER_FORMAT, Workshop, bootstrap_base, bootstrap_kernel
from images.locking import exclusive
from images.manifest import file_digest
from images.recipe import Recipe

_KEY_CHARACTERS: Final = 16
_DIGEST_SUFFIX: Final = ".sha256"


class LayerStore:
    """The layers of one catalog."""

    def __init__(self, directory: Path, is_refresh: bool) -> None:
        """Use `directory`.

        Args:
            directory: holds the layers; made when needed.
            is_refresh: make every layer anew that is asked for, once, with the newest packages.
        """
        self._directory = directory
        self._is_refresh = is_refresh

    def kernel(self, recipe: Recipe, workshop: Workshop) -> Path:
        """Return the unpacked kernel package of `recipe`.

        Raises:
            BuildFailed: it cannot be made.
            DiskFull: no space left.
        """

        def make(target: Path) -> None:
            bootstrap_kernel(recipe.release, recipe.kernel_package, target, workshop)

        return self._get("kernel", (recipe.release, recipe.kernel_package), make, workshop)

    def base(self, recipe: Recipe, workshop: Workshop) -> Path:
        """Return the root file system with the packages of `recipe`.

        Raises:
            BuildFailed: it cannot be made.
            DiskFull: no space left.
        """

        def make(target: Path) -> None:
            bootstrap_base(recipe.release, recipe.packages, target, workshop)

        return self._get("base", (recipe.release, *recipe.packages), make, workshop)

    def _get(self, kind: str, made_of: tuple[str, ...], make: Callable[[Path], None], workshop: Workshop) -> Path:
        key_text = "\n".join((str(LAYER_FORMAT), str(workshop.source_date_epoch), kind, *made_of))
        key = hashlib.sha256(key_text.encode()).hexdigest()[:_KEY_CHARACTERS]
        layer = self._directory / f"{kind}-{key}.tar"
        with exclusive(self._directory / f"{kind}-{key}.lock", workshop.progress, f"the {kind} layer"):
            if self._is_refresh or not _is_intact(layer):
                fresh = workshop.directory / layer.name
                make(fresh)
                _publish(fresh, layer)
            else:
                workshop.progress.note("from an earlier build")
        return layer


def _publish(fresh: Path, layer: Path) -> None:
    digest_file = layer.with_suffix(_DIGEST_SUFFIX)
    fresh_digest = fresh.with_suffix(_DIGEST_SUFFIX)
    fresh_digest.write_text(file_digest(fresh) + "\n")
    # Between these two renames digest and archive differ; whoever finds them so makes the layer again.
    os.replace(fresh, layer)
    os.replace(fresh_digest, digest_file)


def _is_intact(layer: Path) -> bool:
    try:
        expected = layer.with_suffix(_DIGEST_SUFFIX).read_text().strip()
        return file_digest(layer) == expected
    except FileNotFoundError:
        return False
