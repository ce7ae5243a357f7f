"""Whether the catalog has an image that a configuration names."""

from pathlib import Path


def image_problem(directory: Path, image: str, is_fault_injection_allowed: bool) -> tuple[str, str] | None:
    """Return why `image` of the catalog `directory` cannot be used, and what to do; `None`: it can."""
    from images.catalog import Catalog
    from images.errors import ImageError

    try:
        Catalog(directory).resolve(image, is_fault_injection_allowed=is_fault_injection_allowed)
    except ImageError as error:
        return str(error).rstrip("."), error.hint.rstrip(".")
    return None
