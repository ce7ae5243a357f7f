"""A real cell of real processes: managers, a witness, wrappers as children; TLS, disk and sockets as in production."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.null_cell import NullCell, null_cell
from exec_wrapper.examples.key_value_commands import encode_get, encode_set
from replica_manager.client.framed_client import FramedClient
from replica_manager.config_addresses import parse_address
from replica_manager.intake.port import Outcome

pytestmark = pytest.mark.slow
PATIENCE_S = 60.0


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[NullCell]:
    with null_cell(tmp_path, lambda _: None) as running:
        yield running


async def write_values(cell: NullCell, server: int, count: int, prefix: bytes) -> list[bytes]:
    """Set and read back `count` keys over one connection; return the replies to the reads."""
    connection = await FramedClient.connect(*parse_address(cell.addresses[server]))
    client = await connection.open_client()
    replies = []
    for number in range(count):
        key, value = prefix + b"%d" % number, b"value %d" % number
        outcome, _ = await connection.request(client, 2 * number + 1, encode_set(key, value))
        assert outcome is Outcome.ANSWERED
        outcome, reply = await connection.request(client, 2 * number + 2, encode_get(key))
        assert outcome is Outcome.ANSWERED
        replies.append(reply)
    connection.close()
    return replies


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.05)


def role_of(cell: NullCell, asked: int, domain: str) -> str:
    return next(row["role"] for row in cell.status(asked)["domains"] if row["domain"] == domain)


def test_requests_are_answered_and_passive_domains_sleep_and_end_equal(cell: NullCell) -> None:
    replies = asyncio.run(write_values(cell, 0, 130, b"k"))
    assert all(reply.endswith(b"value %d" % number) for number, reply in enumerate(replies))
    until(lambda: all(status["refreshes"] >= 1 for status in cell.statuses()))
    until(lambda: all(row["power"] == "suspended" for row in passive_rows(cell)))
    checkpoint = cell.checkpoint()
    assert sorted(checkpoint["digests"]) == ["s0.g1", "s0.g2", "s1.g1", "s1.g2"]
    assert len(set(checkpoint["digests"].values())) == 1
    explained = cell.explain(0, 5)
    assert explained["outcome"] == "stable"
    assert [vote["verdict"] for vote in explained["votes"]] == ["agrees", "agrees"]
    assert sum(status["counters"]["witness_messages"] for status in cell.statuses()) == 0


def passive_rows(cell: NullCell) -> list[dict[str, object]]:
    return [
        row
        for status in cell.statuses()
        for row in status["domains"]
        if row["role"] == "passive" and row["server"] == status["server"]
    ]


def test_a_server_that_is_killed_leaves_and_the_other_goes_on_with_its_passive_domain(cell: NullCell) -> None:
    asyncio.run(write_values(cell, 0, 20, b"before"))
    os.kill(cell.manager_pid(1), signal.SIGKILL)
    until(lambda: cell.status(0)["f_prime"] == 0)
    until(lambda: role_of(cell, 0, "s0.g2") == "active")
    status = cell.status(0)
    assert status["threshold"] == 2, "an unfenced server may in truth be running"
    replies = asyncio.run(write_values(cell, 0, 20, b"after"))
    assert all(reply.endswith(b"value %d" % number) for number, reply in enumerate(replies))
    assert len(set(cell.checkpoint()["digests"].values())) == 1


def test_a_domain_that_is_killed_is_retired_and_replaced(cell: NullCell) -> None:
    asyncio.run(write_values(cell, 0, 20, b"before"))
    os.kill(cell.domain_pid("s0.g1"), signal.SIGKILL)
    until(lambda: role_of(cell, 1, "s0.g1") == "retired")
    until(lambda: sum(row["role"] == "active" for row in cell.status(1)["domains"]) == 2)
    replies = asyncio.run(write_values(cell, 1, 20, b"after"))
    assert all(reply.endswith(b"value %d" % number) for number, reply in enumerate(replies))
