"""What an operator says about the state of an earlier run when the whole cell is started again."""

from collections.abc import Sequence
from dataclasses import dataclass

from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.clean_stop import has_mark
from replica_manager.config import Config
from replica_manager.errors import LogsIncomplete


@dataclass(frozen=True, slots=True)
class Restart:
    """How to restart."""

    without: Sequence[int] = ()
    """Servers that have stopped for ever, for which the operator vouches; without witnesses only."""
    accepts_loss: bool = False
    """Go on with logs that may miss what clients were told last."""

    def words(self, kind: MemberKind) -> Sequence[str]:
        """Return what is added to the command of a member."""
        loss = ("--accept-loss",) if self.accepts_loss else ()
        vouched = [word for server in self.without for word in ("--without", str(server))] if kind == "server" else []
        return (*loss, *vouched)


PLAIN = Restart()


def require_complete_logs(config: Config, restart: Restart) -> None:
    """Refuse a restart that may have lost acknowledged requests.

    Raises:
        LogsIncomplete: a server has ended without syncing its log, and the operator has not accepted that.
    """
    if config.cell.durability == "sync" or restart.accepts_loss:
        return
    paths = CellPaths.of(config)
    wanted = [server.id for server in config.server if server.id not in restart.without]
    unclean = [server for server in wanted if not has_mark(paths.state("server", server))]
    if unclean:
        raise LogsIncomplete(unclean, config.cell.durability)
