"""The image of a benchmark's machines, built if it is not there; with progress for people."""

from pathlib import Path

from benchmarks.fault_cell import Report


def build_image(recipe: str, images: Path, report: Report) -> str:
    """Build what is missing, minutes the first time; return the image's full name.

    Raises:
        ImageError: it cannot be built.
    """
    from images.build import build
    from images.catalog import Catalog
    from replica_manager.control.cli.image import ProgressLine

    report(f"image {recipe}: building what is missing")
    image_id = build(recipe, Catalog(images), ProgressLine().show).image_id
    report(f"image {image_id}")
    return image_id
