"""A real cell of real processes, one of whose domains misbehaves on order: clients get right replies, and go on."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.loopback_ports import free_port
from benchmarks.null_cell import NullCell
from exec_wrapper.examples.key_value_commands import OK, encode_field, encode_get, encode_set
from images.fault_orders import FaultKind, FaultOrder, key_value_read, key_value_write, treacherous_command
from replica_manager.client.framed_client import FramedClient
from replica_manager.config_addresses import parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down
from replica_manager.control.cell_network import LoopbackNetwork
from replica_manager.control.cell_up import bring_up
from replica_manager.intake.port import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_S = 120.0
COMMAND = treacherous_command("exec_wrapper", "--link", "unix:{channel}", "exec_wrapper.examples.key_value")
ACTIVE, PASSIVE = "s1.g1", "s1.g2"
REFRESH_UPDATES = 10
TEXT = f"""fault_injection = true
[cell]
name = "treacherous"
network = "loopback"
state_dir = "cell"
restart = "never"
[hypervisor]
driver = "subprocess"
isolation = "none"
[updates]
refresh_updates_max = {REFRESH_UPDATES}
applied_timeout_ms = 1000
[service]
listen = "framed"
command = {json.dumps(list(COMMAND))}
"""


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[NullCell]:
    """A cell all of whose domains would obey."""
    text = TEXT.replace('"treacherous"', f'"treacherous-{free_port()}"')
    for server in range(2):
        text += f'[[server]]\nid = {server}\npublic_address = "127.0.0.1:{free_port()}"\n'
        text += f'private_address = "127.0.0.1:{free_port()}"\nadmin_address = "127.0.0.1:{free_port()}"\n'
    text += f'[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'
    (tmp_path / "cell.toml").write_text(text)
    config, network = load(tmp_path / "cell.toml"), LoopbackNetwork()
    try:
        bring_up(config, network, lambda _: None)
        yield NullCell(config)
    finally:
        take_down(config, network, plan_down(config, purge=True), lambda _: None)


class User:
    """A client of server 0 that asks one thing after another."""

    def __init__(self, cell: NullCell) -> None:
        self._address = parse_address(cell.addresses[0])

    def ask(self, requests: Sequence[bytes]) -> list[bytes]:
        """Return the replies."""
        return asyncio.run(asyncio.wait_for(self._ask(requests), PATIENCE_S))

    async def _ask(self, requests: Sequence[bytes]) -> list[bytes]:
        connection = await FramedClient.connect(*self._address)
        client = await connection.open_client()
        replies = []
        for number, request in enumerate(requests, 1):
            outcome, reply = await connection.request(client, number, request)
            assert outcome is Outcome.ANSWERED
            replies.append(reply)
        connection.close()
        return replies


def writes_and_reads(count: int) -> tuple[list[bytes], list[bytes]]:
    """Return requests and the right replies."""
    keys = [b"key %d" % number for number in range(count)]
    requests = itertools.chain.from_iterable((encode_set(key, key * 2), encode_get(key)) for key in keys)
    replies = itertools.chain.from_iterable((OK, OK + encode_field(key * 2)) for key in keys)
    return list(requests), list(replies)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def role_of(cell: NullCell, domain: str) -> str:
    """Return the role of a domain as server 0 knows it."""
    return next(row["role"] for row in cell.status(0)["domains"] if row["domain"] == domain)


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.WRONG_REPLY,
        FaultKind.WRONG_UPDATE,
        FaultKind.HIDDEN_UPDATE,
        FaultKind.HANG,
        FaultKind.CRASH,
        FaultKind.FLOOD,
        FaultKind.GARBAGE,
        FaultKind.EQUIVOCATION,
    ],
    ids=lambda kind: kind.value,
)
def test_clients_notice_nothing_of_an_active_domain_that_turns_treacherous(cell: NullCell, kind: FaultKind) -> None:
    """From the fifth occasion on; the domain loses its role, and those that stay have equal states."""
    user = User(cell)
    requests, replies = writes_and_reads(40)
    order = key_value_read(FaultOrder(1, ACTIVE, kind, first=5, amount=1000))
    answers = user.ask([order, *requests])
    assert answers[1:] == replies
    until(lambda: role_of(cell, ACTIVE) != "active", f"{ACTIVE} is replaced")
    assert user.ask(requests) == replies


def test_a_passive_domain_that_crashes_in_a_refresh_is_noticed(cell: NullCell) -> None:
    """The order reaches it with an update; clients notice nothing."""
    user = User(cell)
    requests, replies = writes_and_reads(4 * REFRESH_UPDATES)
    answers = user.ask([key_value_write(FaultOrder(1, PASSIVE, FaultKind.CRASH)), *requests])
    assert answers[1:] == replies
    until(lambda: role_of(cell, PASSIVE) == "retired", f"{PASSIVE} is retired")
    assert user.ask(requests) == replies
