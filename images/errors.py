"""What can go wrong with images.  Every error is one sentence for the operator, and a hint."""


class ImageError(Exception):
    """Any failure of this package; not raised itself.

    Attributes:
        hint: what the operator can do about it; one sentence, or empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep sentence and hint apart, so that a caller can print them on two lines."""
        super().__init__(message)
        self.hint = hint


class RecipeInvalid(ImageError):
    """Raised when a recipe cannot be used: the fault of who wrote it; nothing was built.

    An unknown recipe is `RecipeUnknown`.
    """


class RecipeUnknown(ImageError):
    """Raised when no recipe, or no variant of it, has that name: the caller's mistake."""


class BuildToolMissing(ImageError):
    """Raised before a build when this machine lacks a program (the hint names its Debian package), or the user is not
    root."""


class BuildFailed(ImageError):
    """Raised when a step of a build fails; the catalog is as before.  A full disk is `DiskFull`.

    Attributes:
        output: the last lines that the failed program wrote.
    """

    def __init__(self, message: str, hint: str = "", output: tuple[str, ...] = ()) -> None:
        """See `ImageError`."""
        super().__init__(message, hint)
        self.output = output


class DiskFull(ImageError):
    """Raised when a build has, or will run, out of space; the catalog is as before."""


class ImageUnknown(ImageError):
    """Raised when the catalog has no image with that name or digest: the caller's mistake."""


class ImageRefused(ImageError):
    """Raised when an image was built to misbehave (a fault variant of a recipe) and the caller did not ask for one."""


class ImageCorrupt(ImageError):
    """Raised when a file of an image is not what its digest says; it must not be booted."""


class ImageNotApproved(ImageError):
    """Raised when a cell boots only approved images and nothing, or not everything, says that this one is."""


class ApprovalKeyRefused(ImageError):
    """Raised when an operator's private key cannot be used or made: missing, readable by others, not Ed25519."""
