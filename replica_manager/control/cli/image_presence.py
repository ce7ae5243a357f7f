"""Whether the catalog has an image that a server may boot."""

from replica_manager.boot_image import boot_image
from replica_manager.config import Config, ServerSection


def image_problem(config: Config, server: ServerSection) -> tuple[str, str] | None:
    """Return why the image of `server` cannot be used, and what to do; `None`: it can."""
    from images.errors import ImageError

    try:
        boot_image(config, server.id, server.image)
    except ImageError as error:
        return str(error).rstrip("."), error.hint.rstrip(".")
    return None
