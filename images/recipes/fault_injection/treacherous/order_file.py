"""The file in which a domain keeps its orders, so that they outlive its process."""

import os
from pathlib import Path
from typing import Optional

from .orders import FaultOrder, encode_order


class OrderFile:
    """A line for each order; counts begin anew with each process."""

    def __init__(self, path: Optional[Path]) -> None:
        """`path` may not exist yet; `None`: orders are forgotten with the process."""
        self._path = path

    def read(self) -> bytes:
        """Return what is there."""
        if self._path is None or not self._path.exists():
            return b""
        return self._path.read_bytes()

    def append(self, order: FaultOrder) -> None:
        """Keep an order durably."""
        if self._path is None:
            return
        with self._path.open("ab") as file:
            file.write(encode_order(order) + b"\n")
            file.flush()
            os.fsync(file.fileno())
