"""The networks of a one-machine cell, as far as starting and stopping its processes needs them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from agreement.identifiers import MemberId
from replica_manager.cell_paths import MemberKind
from replica_manager.config import Config
from replica_manager.config_addresses import parse_address
from replica_manager.control.errors import ProcessError
from replica_manager.control.processes import ProcessIdentity, identify, variable_of

Reporter = Callable[[str], None]
"""Takes one line for the operator."""
ResultT = TypeVar("ResultT")

CELL_MARK = "SPARE_CELL"
"""Environment variable of every process of a cell, inherited by its children: the runtime directory."""


class CellNetwork(Protocol):
    """Where the members of one cell run."""

    def up(self, report: Reporter) -> None:
        """Make the networks; what is there already stays."""
        ...

    def down(self, report: Reporter) -> None:
        """Remove the networks, whatever of them is there; nothing runs inside any more."""
        ...

    def exists(self) -> bool:
        """Say whether anything of the networks is there."""
        ...

    def processes(self) -> Sequence[ProcessIdentity]:
        """Return what runs inside.

        Raises:
            ProcessError: it belongs to another cell of the same name.
        """
        ...

    def inside(self, kind: MemberKind, member: int, action: Callable[[], ResultT]) -> ResultT:
        """Run `action` where the member lives; processes that it starts live there too."""
        ...


class LoopbackNetwork:
    """All members on 127.0.0.1 of this machine: nothing to make, no privileges needed.  Implements `CellNetwork`."""

    def up(self, report: Reporter) -> None:
        """See `CellNetwork.up`."""

    def down(self, report: Reporter) -> None:
        """See `CellNetwork.down`."""

    def exists(self) -> bool:
        """See `CellNetwork.exists`."""
        return False

    def processes(self) -> Sequence[ProcessIdentity]:
        """See `CellNetwork.processes`."""
        return ()

    def inside(self, kind: MemberKind, member: int, action: Callable[[], ResultT]) -> ResultT:
        """See `CellNetwork.inside`."""
        return action()


class NamespaceNetwork:
    """A network namespace per member, joined by switches.  Implements `CellNetwork`; needs root."""

    def __init__(self, config: Config) -> None:
        # pyroute2 takes a tenth of a second to import: only where it is used.
        from replica_manager.network import local_cell

        self._config = config
        self._local_cell = local_cell

    def up(self, report: Reporter) -> None:
        """See `CellNetwork.up`."""
        made = self._local_cell.up(self._config)
        report(f"networks: {len(made.created)} namespaces made in {made.duration_ms:.0f} ms")

    def down(self, report: Reporter) -> None:
        """See `CellNetwork.down`."""
        removed = self._local_cell.down(self._config.cell.name)
        if removed:
            report(f"networks: {len(removed)} namespaces removed")

    def exists(self) -> bool:
        """See `CellNetwork.exists`."""
        return bool(self._local_cell.cell_namespaces(self._config.cell.name))

    def processes(self) -> Sequence[ProcessIdentity]:
        """See `CellNetwork.processes`."""
        found = []
        for pids in self._local_cell.processes(self._config.cell.name).values():
            for pid in pids:
                self._require_own(pid)
                if (identity := identify(pid)) is not None:
                    found.append(identity)
        return found

    def inside(self, kind: MemberKind, member: int, action: Callable[[], ResultT]) -> ResultT:
        """See `CellNetwork.inside`."""
        from replica_manager.network import namespaces
        from replica_manager.network.address_plan import member_namespace

        name = member_namespace(self._config.cell.name, member_id(kind, member))
        return namespaces.call_in(name, action)

    def _require_own(self, pid: int) -> None:
        owner = variable_of(pid, CELL_MARK)
        if owner is not None and Path(owner) != Path(self._config.cell.runtime_dir):
            name = self._config.cell.name
            raise ProcessError(
                f"another cell named {name} runs, with runtime_dir {owner}", "give this one another name"
            )


def network_of(config: Config) -> CellNetwork:
    """Return the networks of the one-machine cell `config`."""
    assert config.cell.kind == "one-machine", "hosts have their own networks"
    return LoopbackNetwork() if config.cell.network == "loopback" else NamespaceNetwork(config)


def member_id(kind: MemberKind, member: int) -> MemberId:
    """Return the agreement stage's name of a member."""
    return MemberId.server(member) if kind == "server" else MemberId.witness(member)


def certificate_addresses(config: Config, kind: MemberKind, member: int) -> Sequence[str]:
    """Return the host names and IP addresses under which others reach a member."""
    if kind == "witness":
        texts = [one.private_address for one in config.witness if one.id == member]
    else:
        texts = [one.private_address for one in config.server if one.id == member]
        texts += [one.public_address for one in config.server if one.id == member]
    return sorted({parse_address(text).host for text in texts if text})
