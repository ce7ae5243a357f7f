"""An operator's orders to a cell: to whichever server can take them."""

from collections.abc import Mapping
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.cell_view import connect_to_servers
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlUnavailable, RequestRefused

TIMEOUT_S = 30.0


def order(config: Config, method: str, **parameters: Any) -> Mapping[str, Any]:
    """Give an order to the first server that serves.

    Raises:
        RequestRefused: it had no effect, and why.
        ControlTimeout: it was taken, and nobody knows what came of it.
        ControlUnavailable: no server answers.
    """
    refusal: RequestRefused | None = None
    for _, client in connect_to_servers(config, TIMEOUT_S):
        try:
            answer: Mapping[str, Any] = client.call(method, **parameters)
        except RequestRefused as error:
            if error.code != "not_ready":
                raise
            refusal = error
            continue
        return answer
    raise refusal or ControlUnavailable(f"no server of cell {config.cell.name} answers")


def order_of(config: Config, server: int, method: str, **parameters: Any) -> Mapping[str, Any]:
    """Give an order to one server.

    Raises:
        RequestRefused, ControlTimeout, ControlUnavailable: as for `order`.
    """
    with ControlClient(CellPaths.of(config).control_socket(server), TIMEOUT_S) as client:
        answer: Mapping[str, Any] = client.call(method, **parameters)
        return answer
