"""Orders a checkpoint and collects the state digests of all domains."""

from collections.abc import Mapping
from dataclasses import dataclass

from replica_manager.config import Config
from replica_manager.control.cell_view import connect_to_servers
from replica_manager.control.errors import ControlUnavailable, RequestRefused


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The states at one position."""

    point: int
    """Sequence number of the checkpoint's own entry: states are as of everything before it."""
    digests: Mapping[str, str]
    """Hexadecimal digest of the state by domain."""

    @property
    def is_equal(self) -> bool:
        """Whether there are states and none differs."""
        return len(set(self.digests.values())) == 1


def take_checkpoint(config: Config, timeout_s: float) -> Checkpoint:
    """Have every domain give its state at one agreed position.

    Raises:
        ControlTimeout: a domain does not give its state in time.
        ControlUnavailable: no server answers.
        RequestRefused: the cell cannot, for example because it still starts.
    """
    refusal: Exception | None = None
    for _, client in connect_to_servers(config, timeout_s):
        try:
            answer = client.call("checkpoint")
            return Checkpoint(int(answer["point"]), answer["digests"])
        except RequestRefused as error:
            refusal = error
    raise refusal or ControlUnavailable(f"no server of cell {config.cell.name} answers")
