"""The process of a witness, without the process: configuration in, a running member out."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from agreement.identifiers import Identity, MemberId
from agreement.records import PREFIX, PREFIX_END, read_storage
from replica_manager.cell_paths import CellPaths
from replica_manager.config import CellSection, Config, ServerSection, ServiceSection, WitnessSection
from replica_manager.ordering.errors import RefusalReason, TransportError
from replica_manager.ordering.peer_port import PeerRefused
from replica_manager.witness_server import WitnessServer, named
from tests.ordering.peers import S0, S1, W0, Recorder, addresses, make_keys, make_transport, until

Durability = Literal["sync", "async", "none"]


def make_config(directory: Path, durability: Durability = "sync") -> Config:
    ports = {member: f"{host}:{port}" for member, (host, port) in addresses(S0, S1, W0).items()}
    return Config(
        cell=CellSection(
            name="shop", state_dir=str(directory), runtime_dir=str(directory / "run"), durability=durability
        ),
        service=ServiceSection(),
        server=[ServerSection(id=number, private_address=ports[MemberId.server(number)]) for number in (0, 1)],
        witness=[WitnessSection(id=0, private_address=ports[W0])],
    )


def ignore(kind: str, data: Mapping[str, Any]) -> None:
    """Nobody looks at this witness's events."""


async def life_of(config: Config, *, is_born: bool = True) -> Identity:
    """Start a witness, wait until its birth record is durable, stop it; return who it was."""
    server = WitnessServer(config, 0, ignore, is_born=is_born)
    await server.open()
    await until(lambda: server.driver.counters.write_count > 0)
    await server.close()
    identity = server.core.identity
    content = list(server.storage.scan(PREFIX, PREFIX_END))
    assert read_storage(content).identity == identity
    server.close_storage()
    server.close_storage()
    return identity


def test_a_witness_keeps_its_identity_over_a_restart_with_synced_storage(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    config = make_config(tmp_path)
    assert asyncio.run(life_of(config)) == Identity(W0, 1)
    assert asyncio.run(life_of(config, is_born=False)) == Identity(W0, 1)


def test_a_witness_whose_disk_was_lost_does_not_speak_under_its_old_name(tmp_path: Path) -> None:
    """S4: an empty member that answers again lets two histories be chosen."""
    make_keys(tmp_path / "keys")
    config = make_config(tmp_path)
    asyncio.run(life_of(config))
    shutil.rmtree(CellPaths.of(config).state("witness", 0))
    second = asyncio.run(life_of(config, is_born=False))
    assert second.incarnation > 1


@pytest.mark.parametrize("durability", ["async", "none"])
def test_a_witness_whose_storage_may_be_incomplete_is_somebody_new(tmp_path: Path, durability: Durability) -> None:
    make_keys(tmp_path / "keys")
    config = make_config(tmp_path, durability)
    first = asyncio.run(life_of(config))
    second = asyncio.run(life_of(config))
    assert first == Identity(W0, 1)
    assert second.incarnation > first.incarnation


def test_a_witness_talks_to_servers_and_ends_links_that_make_no_sense(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    config = make_config(tmp_path)
    members = {
        S0: ("127.0.0.1", int(config.server[0].private_address.rpartition(":")[2])),
        S1: ("127.0.0.1", int(config.server[1].private_address.rpartition(":")[2])),
        W0: ("127.0.0.1", int(config.witness[0].private_address.rpartition(":")[2])),
    }
    events: list[tuple[str, Mapping[str, Any]]] = []

    async def scenario() -> None:
        witness = WitnessServer(config, 0, lambda kind, data: events.append((kind, data)), is_born=True)
        await witness.open()
        recorder = Recorder()
        server = make_transport(S0, members, keys, recorder)
        await server.open()
        await until(lambda: server.is_up(W0) and ("peer_up", {"member": "s0"}) in events)
        server.send(W0, b"\xc1")
        server.flush()
        await until(lambda: any(kind == "peer_refused" for kind, _ in events))
        await until(lambda: recorder.log == [("up", W0), ("down", W0), ("up", W0)])
        await server.close()
        await witness.close()
        witness.close_storage()

    asyncio.run(scenario())
    assert events[0] == ("witness_started", {"identity": "w0#1"})
    refused = next(data for kind, data in events if kind == "peer_refused")
    assert (refused["member"], refused["reason"]) == ("s0", str(RefusalReason.MESSAGE))


def test_a_witness_without_keys_says_which_files_it_misses(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(TransportError, match=r"witness-0\.key"):
            WitnessServer(make_config(tmp_path), 0, ignore, is_born=True)

    asyncio.run(scenario())


PROCESS = """
import asyncio, sys
import msgspec
from pathlib import Path
from replica_manager.config import Config
from replica_manager.witness_server import run_witness
config = msgspec.json.decode(sys.argv[1], type=Config, dec_hook=lambda wanted, value: wanted(value))
sys.exit(asyncio.run(run_witness(config, 0, lambda kind, data: print(kind, flush=True), is_born=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_witness_process_ends_in_good_order_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    make_keys(tmp_path / "keys")
    config = msgspec.json.encode(make_config(tmp_path), enc_hook=str).decode()
    with subprocess.Popen([sys.executable, "-c", PROCESS, config], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "witness_started\n"
        os.kill(process.pid, number)
        output = process.stdout.read()
        assert process.wait(60) == 0
    assert output.splitlines()[-1] == "witness_stopping"


def test_events_are_named_as_a_log_has_them() -> None:
    event = PeerRefused("127.0.0.1:9", None, RefusalReason.TLS, "no shared cipher")
    kind, data = named(event)
    assert kind == "peer_refused"
    assert data["address"] == "127.0.0.1:9"
    assert data["detail"] == "no shared cipher"
