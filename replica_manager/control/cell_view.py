"""What the servers of a cell say of themselves, put together into one view of the cell."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from replica_manager.cell_paths import CellPaths
from replica_manager.config import Config
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError, ControlTimeout, ControlUnavailable
from replica_manager.control.keeper_process import find_keeper
from replica_manager.control.process_records import ProcessRecords

ASK_TIMEOUT_S = 5.0
COMING = ("starting", "restarting", "returning", "learning")
"""States of a server on its way to serve."""


@dataclass(frozen=True, slots=True)
class CellView:
    """One look at a cell."""

    config: Config
    answers: Mapping[int, Mapping[str, Any]]
    """`status` by server."""
    silent: Mapping[int, ControlError]
    """Why a server did not answer, by server."""
    witnesses: Mapping[int, str] = field(default_factory=dict)
    """`running`, `ended`, or `elsewhere`: not started on this machine by `spare cell up`; by witness."""
    keeper: str = "none"
    """`running`, or `none`: members that end stay so."""

    @property
    def state(self) -> str:
        """`serving`, `degraded`, one of `COMING`, or `not_serving`, as a client sees the whole cell."""
        states = [str(answer.get("state")) for answer in self.answers.values()]
        is_whole = not self.silent and "ended" not in self.witnesses.values()
        if states and is_whole and all(state == "serving" for state in states):
            return "serving"
        if any(state in ("serving", "degraded") for state in states):
            return "degraded"
        return next((state for state in COMING if state in states), "not_serving")

    @property
    def is_timeout(self) -> bool:
        """Whether nobody answered, and somebody was there to."""
        return not self.answers and any(isinstance(error, ControlTimeout) for error in self.silent.values())

    @property
    def newest(self) -> Mapping[str, Any]:
        """The answer of the server that has delivered most; empty if nobody answered."""
        return max(self.answers.values(), key=lambda answer: int(answer.get("delivered") or 0), default={})

    def domains(self) -> Sequence[Mapping[str, Any]]:
        """Return every domain once, in the words of the server that hosts it if that answered."""
        rows: dict[str, Mapping[str, Any]] = {}
        for server, answer in self.answers.items():
            for row in answer.get("domains", ()):
                if row["domain"] not in rows or row.get("server") == server:
                    rows[row["domain"]] = row
        return [rows[domain] for domain in sorted(rows)]


def look(config: Config) -> CellView:
    """Ask all servers of the cell that run on this machine, at the same time."""
    paths = CellPaths.of(config)
    servers = [server.id for server in config.server]

    def ask(server: int) -> Mapping[str, Any] | ControlError:
        try:
            with ControlClient(paths.control_socket(server), ASK_TIMEOUT_S) as client:
                answer = client.call("status")
        except ControlError as error:
            return error
        return answer if isinstance(answer, dict) else ControlUnavailable(f"server {server} gives no status")

    with ThreadPoolExecutor(max_workers=max(1, len(servers))) as pool:
        results = dict(zip(servers, pool.map(ask, servers), strict=True))
    return CellView(
        config,
        {server: result for server, result in results.items() if isinstance(result, Mapping)},
        {server: result for server, result in results.items() if isinstance(result, ControlError)},
        _witnesses(config, paths),
        "running" if find_keeper(paths) is not None else "none",
    )


def _witnesses(config: Config, paths: CellPaths) -> Mapping[int, str]:
    """A witness has no control socket: its process is all that can be seen."""
    found = {one.id: "elsewhere" for one in config.witness}
    for record in ProcessRecords(paths.processes).read():
        if record.kind == "witness" and record.member in found:
            found[record.member] = "running" if record.is_alive else "ended"
    return found


def connect_to_servers(config: Config, timeout_s: float) -> Iterator[tuple[int, ControlClient]]:
    """Yield a connection to every server that answers, one after the other; each is closed when the next is asked for.

    Raises:
        ControlUnavailable: no server answers.
    """
    paths = CellPaths.of(config)
    is_answered = False
    for server in config.server:
        try:
            client = ControlClient(paths.control_socket(server.id), timeout_s)
        except ControlUnavailable:
            continue
        with client:
            is_answered = True
            yield server.id, client
    if not is_answered:
        raise ControlUnavailable(f"no server of cell {config.cell.name} answers", "start it: spare cell up")
