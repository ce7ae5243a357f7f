"""Where the files and sockets of a cell are: the one place that names them.

Everything durable is below `state_dir`; everything that may go with the processes is below `runtime_dir`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from replica_manager.config import Config

SOCKET_PATH_BYTES_MAX = 107
"""Source: unix(7), `sun_path` has 108 bytes with the closing zero."""

MemberKind = Literal["server", "witness"]


@dataclass(frozen=True, slots=True)
class CellPaths:
    """The files of one cell on this machine."""

    state_dir: Path
    runtime_dir: Path

    @classmethod
    def of(cls, config: Config) -> "CellPaths":
        """Return the paths of a loaded (complete) configuration."""
        return cls(Path(config.cell.state_dir), Path(config.cell.runtime_dir))

    def runtime(self, kind: MemberKind, member: int) -> Path:
        """Return the directory of a member's sockets; mode 0700."""
        return self.runtime_dir / f"{kind[0]}{member}"

    def state(self, kind: MemberKind, member: int) -> Path:
        """Return the directory of a member's durable files."""
        return self.state_dir / f"{kind[0]}{member}"

    def state_disk(self, kind: MemberKind, member: int) -> Path:
        """Return the file with the member's own disk, if it has one, which is mounted on its directory."""
        return self.state_dir / f"{kind[0]}{member}.ext4"

    def control_socket(self, server: int) -> Path:
        """Return the socket on which the server's process answers the operator."""
        return self.runtime("server", server) / "control.sock"

    def hypervisor_root(self, server: int) -> Path:
        """Return the root of the server's own `qemu:///embed`."""
        return self.runtime("server", server) / "hv"

    def log(self, kind: MemberKind, member: int) -> Path:
        """Return the file with everything that the member's process writes to its standard outputs."""
        return self.state_dir / "log" / f"{kind}-{member}.log"

    def event_file(self, server: int) -> Path:
        """Return the file with the server's named events, one JSON document per line."""
        return self.state_dir / "log" / f"events-{server}.jsonl"

    def audit_log(self, server: int) -> Path:
        """Return the file with the server's changes of roles and members, a chain of hashes."""
        return self.state_dir / "log" / f"audit-{server}.log"

    def audit_head(self, server: int) -> Path:
        """Return the file that says up to which record the server's audit log surely is on the disk."""
        return self.state_dir / "log" / f"audit-{server}.head"

    def witness_event_file(self, witness: int) -> Path:
        """Return the file with the witness's named events."""
        return self.state_dir / "log" / f"witness-events-{witness}.jsonl"

    @property
    def keeper_log(self) -> Path:
        """The file with everything that the keeper's process writes to its standard outputs."""
        return self.state_dir / "log" / "keeper.log"

    @property
    def keeper_event_file(self) -> Path:
        """The file with the keeper's named events."""
        return self.state_dir / "log" / "keeper-events.jsonl"

    @property
    def keeper_record(self) -> Path:
        """Which process is the keeper."""
        return self.runtime_dir / "keeper.json"

    @property
    def keys(self) -> Path:
        """The directory of the cell's keys and certificates; mode 0700."""
        return self.state_dir / "keys"

    @property
    def processes(self) -> Path:
        """The directory of the records of started processes."""
        return self.runtime_dir / "processes"

    def longest_socket(self, server: int, driver: str) -> str:
        """Return the longest socket path that the server will use, with room for many generations of domains."""
        runtime = self.runtime("server", server)
        if driver == "libvirt":
            # libvirt's own monitor socket, below the root of the embedded driver.
            return f"{runtime}/hv/lib/qemu/domain-99999-s{server}.g99999/monitor.sock"
        return f"{runtime}/s{server}.g99999.sock"
