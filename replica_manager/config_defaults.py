"""Fills in what a configuration file leaves out, and makes its paths absolute."""

import os
from pathlib import Path

import msgspec

from agreement.identifiers import MemberId
from replica_manager.config import CellSection, Config, ServerSection, WitnessSection
from replica_manager.network.address_plan import plan_addresses

LOOPBACK_PUBLIC_PORT = 7100
"""Server `i` of a `network = "loopback"` cell listens for clients on this port + i; the others likewise."""
LOOPBACK_PRIVATE_PORT = 7200
LOOPBACK_WITNESS_PORT = 7250
LOOPBACK_ADMIN_PORT = 7300
LOOPBACK_FRAMED_PORT = 7400


def complete(config: Config, path: Path) -> Config:
    """Return `config` with every default that depends on other values, for the file at `path`.

    Relative paths are relative to the file.  A one-machine cell without `[[server]]` gets its servers,
    one without `[[witness]]` its witnesses.
    """
    directory = path.resolve().parent
    cell = _complete_cell(config.cell, directory)
    service = msgspec.structs.replace(
        config.service,
        command=_complete_command(config.service.command, directory),
        record=_absolute(config.service.record, directory),
    )
    hypervisor = msgspec.structs.replace(config.hypervisor, image_dir=_absolute(config.hypervisor.image_dir, directory))
    completed = msgspec.structs.replace(
        config,
        cell=cell,
        service=service,
        hypervisor=hypervisor,
        alarm=msgspec.structs.replace(config.alarm, command=_complete_command(config.alarm.command, directory)),
        server=[_complete_server(server, config, cell, directory) for server in _servers(config)],
        witness=_witnesses(config, cell),
        path=path.resolve(),
    )
    return _with_addresses(completed) if cell.kind == "one-machine" else completed


def _complete_cell(cell: CellSection, directory: Path) -> CellSection:
    return msgspec.structs.replace(
        cell,
        witnesses=cell.f if cell.witnesses is None else cell.witnesses,
        state_dir=_absolute(cell.state_dir, directory),
        runtime_dir=_absolute(cell.runtime_dir or f"{_volatile_root()}/spare/{cell.name}", directory),
    )


def _complete_command(command: list[str], directory: Path) -> list[str]:
    """Make a program that is given with a directory absolute; a bare name is looked up in `PATH`."""
    if command and "/" in command[0]:
        return [_absolute(command[0], directory), *command[1:]]
    return command


def _servers(config: Config) -> list[ServerSection]:
    if config.server or config.cell.kind != "one-machine":
        return list(config.server)
    return [ServerSection(id=number) for number in range(config.cell.f + 1)]


def _witnesses(config: Config, cell: CellSection) -> list[WitnessSection]:
    if config.witness or config.cell.kind != "one-machine":
        return list(config.witness)
    return [WitnessSection(id=number) for number in range(cell.witnesses or 0)]


def _complete_server(server: ServerSection, config: Config, cell: CellSection, directory: Path) -> ServerSection:
    storage = server.storage or [f"{cell.state_dir}/s{server.id}/a", f"{cell.state_dir}/s{server.id}/b"]
    return msgspec.structs.replace(
        server,
        storage=[_absolute(storage_dir, directory) for storage_dir in storage],
        image=server.image or config.service.image,
        uri=server.uri or config.hypervisor.uri,
    )


def _with_addresses(config: Config) -> Config:
    """Return the one-machine cell `config` with the addresses that its members choose themselves."""
    if config.cell.network == "loopback":
        is_framed_apart = config.service.listen == "http"
        servers = [_on_loopback(server, is_framed_apart=is_framed_apart) for server in config.server]
        witnesses = [_witness_on_loopback(witness) for witness in config.witness]
        return msgspec.structs.replace(config, server=servers, witness=witnesses)
    try:
        plan = plan_addresses(config)
    except ValueError:
        return config  # ids out of range, which is reported as such
    return msgspec.structs.replace(
        config,
        server=[
            msgspec.structs.replace(
                one,
                public_address=one.public_address or str(plan.public[one.id]),
                framed_address=one.framed_address or (str(plan.framed[one.id]) if plan.framed else ""),
                private_address=one.private_address or str(plan.private[MemberId.server(one.id)]),
            )
            for one in config.server
        ],
        witness=[
            msgspec.structs.replace(
                one, private_address=one.private_address or str(plan.private[MemberId.witness(one.id)])
            )
            for one in config.witness
        ],
    )


def _on_loopback(server: ServerSection, *, is_framed_apart: bool) -> ServerSection:
    framed = _loopback(LOOPBACK_FRAMED_PORT, server.id) if is_framed_apart else ""
    return msgspec.structs.replace(
        server,
        public_address=server.public_address or _loopback(LOOPBACK_PUBLIC_PORT, server.id),
        framed_address=server.framed_address or framed,
        private_address=server.private_address or _loopback(LOOPBACK_PRIVATE_PORT, server.id),
        admin_address=server.admin_address or _loopback(LOOPBACK_ADMIN_PORT, server.id),
    )


def _witness_on_loopback(witness: WitnessSection) -> WitnessSection:
    address = witness.private_address or _loopback(LOOPBACK_WITNESS_PORT, witness.id)
    return msgspec.structs.replace(witness, private_address=address)


def _loopback(first_port: int, member: int) -> str:
    return f"127.0.0.1:{first_port + member}"


def _volatile_root() -> str:
    """Return a directory in memory: libvirt writes and syncs a file there at every suspend and resume of a domain."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    in_memory = {fields[1] for fields in mounts if fields[2] == "tmpfs"}
    return "/dev/shm" if "/run" not in in_memory and "/dev/shm" in in_memory else "/run"  # noqa: S108


def _absolute(path: str, directory: Path) -> str:
    return os.path.normpath(directory / Path(path).expanduser()) if path else path
