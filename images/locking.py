"""One builder at a time: locks that the kernel lets go of when their process ends, however it ends."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from images.progress import ProgressLog

RETRY_S: Final = 0.5


@contextmanager
def exclusive(path: Path, progress: ProgressLog, what: str) -> Iterator[None]:
    """Hold the lock `path` in the body; wait for it with signs of life.

    Args:
        path: of the lock file, which stays.
        progress: told what is waited for.
        what: what the other builder works on, for the display.

    Raises:
        OSError: the lock file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.tick(f"waiting for another build of {what}")
                time.sleep(RETRY_S)
        yield
