"""Fills in what a configuration file leaves out, and makes its paths absolute."""

import os
from pathlib import Path

import msgspec

from replica_manager.config import CellSection, Config, ServerSection, WitnessSection

LOOPBACK = "127.0.0.1"
LOOPBACK_PUBLIC_PORT = 7100
"""Server `i` of a `network = "loopback"` cell listens for clients on this port + i; the others likewise."""
LOOPBACK_PRIVATE_PORT = 7200
LOOPBACK_WITNESS_PORT = 7250
LOOPBACK_ADMIN_PORT = 7300


def complete(config: Config, path: Path) -> Config:
    """Return `config` with every default that depends on other values, for the file at `path`.

    Relative paths are relative to the file.  A one-machine cell without `[[server]]` gets its servers,
    one without `[[witness]]` its witnesses.
    """
    directory = path.resolve().parent
    cell = _complete_cell(config.cell, directory)
    service = msgspec.structs.replace(config.service, command=_complete_command(config.service.command, directory))
    hypervisor = msgspec.structs.replace(config.hypervisor, image_dir=_absolute(config.hypervisor.image_dir, directory))
    return msgspec.structs.replace(
        config,
        cell=cell,
        service=service,
        hypervisor=hypervisor,
        server=[_complete_server(server, config, cell, directory) for server in _servers(config)],
        witness=[_complete_witness(witness, config) for witness in _witnesses(config, cell)],
        path=path.resolve(),
    )


def _complete_cell(cell: CellSection, directory: Path) -> CellSection:
    return msgspec.structs.replace(
        cell,
        witnesses=cell.f if cell.witnesses is None else cell.witnesses,
        state_dir=_absolute(cell.state_dir, directory),
        runtime_dir=_absolute(cell.runtime_dir or f"/run/spare/{cell.name}", directory),
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
    complete_server = msgspec.structs.replace(
        server,
        storage=[_absolute(storage_dir, directory) for storage_dir in storage],
        image=server.image or config.service.image,
        uri=server.uri or config.hypervisor.uri,
    )
    if not _is_loopback(config):
        return complete_server
    return msgspec.structs.replace(
        complete_server,
        public_address=server.public_address or f"{LOOPBACK}:{LOOPBACK_PUBLIC_PORT + server.id}",
        private_address=server.private_address or f"{LOOPBACK}:{LOOPBACK_PRIVATE_PORT + server.id}",
        admin_address=server.admin_address or f"{LOOPBACK}:{LOOPBACK_ADMIN_PORT + server.id}",
    )


def _complete_witness(witness: WitnessSection, config: Config) -> WitnessSection:
    if witness.private_address or not _is_loopback(config):
        return witness
    return msgspec.structs.replace(witness, private_address=f"{LOOPBACK}:{LOOPBACK_WITNESS_PORT + witness.id}")


def _is_loopback(config: Config) -> bool:
    return config.cell.kind == "one-machine" and config.cell.network == "loopback"


def _absolute(path: str, directory: Path) -> str:
    return os.path.normpath(directory / Path(path).expanduser()) if path else path
