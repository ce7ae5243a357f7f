"""The recording load: what it writes is what its clients saw, and nothing is executed twice or forgotten."""

import asyncio
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.linearizability.checker import Linearizable, NotLinearizable, Verdict, check
from benchmarks.linearizability.load import RecordingSettings, record
from benchmarks.linearizability.model import KeyValueModel
from benchmarks.linearizability.operation import Operation
from benchmarks.linearizability.recorded import read_history
from replica_manager.intake.framed_messages import Request
from tests.linearizability.unreliable_server import Fault, UnreliableServers, serving

REQUESTS = 300


class Session:
    """One session of ten clients against servers of this process."""

    def __init__(self, directory: Path, fault: Fault, is_forgetful: bool = False, **settings: Any) -> None:
        self.history_file = directory / "history.jsonl"
        self.counts: Counter[str] = Counter()
        asyncio.run(self._run(UnreliableServers(fault, is_forgetful), settings))
        self.operations: list[Operation] = read_history(self.history_file)

    async def _run(self, servers: UnreliableServers, settings: dict[str, Any]) -> None:
        self.servers = servers
        async with serving(servers, 2):
            plan = {"session_s": 60.0, "requests_max": REQUESTS, "keys": 3} | settings
            self.counts = await record(RecordingSettings(self.servers.addresses, **plan), self.history_file)

    def verdict(self) -> Verdict:
        return check(self.operations, KeyValueModel())


def test_without_faults_every_request_is_answered_once(tmp_path: Path) -> None:
    session = Session(tmp_path, lambda _number, _request: "")
    assert session.counts["answered"] == session.counts["sent"] == len(session.operations) >= REQUESTS
    assert session.servers.executions == session.counts["sent"]
    assert session.counts["repeated"] == 0
    assert isinstance(session.verdict(), Linearizable)
    written = [one.payload for one in session.operations if one.payload[:1] in b"SA"]
    assert len(set(written)) == len(written), "values are unique"


def test_a_lost_connection_has_the_same_request_sent_to_the_other_server(tmp_path: Path) -> None:
    """Executed or not before the loss: once in the end."""
    draw = random.Random(5)

    def fault(_number: int, _request: Request) -> str:
        return draw.choices(["", "lose", "drop", "busy"], [8, 1, 1, 1])[0]

    session = Session(tmp_path, fault)
    assert session.counts["answered"] == session.counts["sent"] == session.servers.executions
    assert session.counts["repeated"] > 10
    assert session.counts["moved"] > 10
    verdict = session.verdict()
    assert isinstance(verdict, Linearizable), verdict.explain()


def test_a_request_that_nobody_answers_stays_pending_and_the_client_goes_on_under_a_new_id(tmp_path: Path) -> None:
    """It was executed here, which a history without it could not explain."""
    lost: set[bytes] = set()

    def fault(number: int, request: Request) -> str:
        if number % 60 == 0:
            lost.add(request.client + b"%d" % request.number)
        return "silence" if request.client + b"%d" % request.number in lost else ""

    session = Session(tmp_path, fault, silence_s=0.1, unknown_after_s=0.3, pause_s=0.02, requests_max=600)
    pending = [one for one in session.operations if one.is_pending]
    assert session.counts["unknown"] == len(pending) == len(lost) > 0
    assert session.servers.opened > 10
    assert len({one.client for one in session.operations}) > 10
    assert isinstance(session.verdict(), Linearizable)


def test_a_request_that_was_surely_not_executed_leaves_no_trace(tmp_path: Path) -> None:
    """Refused when it was first sent: no earlier sending of it can have been executed."""
    session = Session(tmp_path, lambda number, _request: "unknown" if number % 50 == 0 else "")
    assert session.counts["refused"] > 0
    assert session.counts["answered"] == len(session.operations) == session.servers.executions
    assert isinstance(session.verdict(), Linearizable)


def test_a_service_that_executes_repetitions_again_is_found(tmp_path: Path) -> None:
    """What the load is for."""
    session = Session(tmp_path, lambda number, _request: "lose" if number % 9 == 0 else "", is_forgetful=True)
    assert isinstance(session.verdict(), NotLinearizable)


def test_the_same_seed_asks_the_same_and_every_client_has_keys_of_its_ten(tmp_path: Path) -> None:
    """At most ten clients per key: more cannot be judged."""
    settings = RecordingSettings([("127.0.0.1", 1)], clients=25, keys=7)
    shared = Counter(key for client in range(25) for key in settings.keys_of(client))
    assert len(shared) == 7
    assert max(shared.values()) == 10
    with pytest.raises(ValueError, match="25 clients need at least 3 keys, not 2"):
        RecordingSettings([("127.0.0.1", 1)], clients=25, keys=2)
    first = Session(tmp_path, lambda _number, _request: "", clients=1, requests_max=30)
    second = Session(tmp_path, lambda _number, _request: "", clients=1, requests_max=30)
    assert [one.payload for one in first.operations] == [one.payload for one in second.operations]


def test_an_interrupt_ends_the_session_in_order_and_leaves_a_complete_history(tmp_path: Path) -> None:
    """Requests under way are answered first; the command says what it did."""
    path = tmp_path / "history.jsonl"

    async def interrupted() -> tuple[int | None, bytes]:
        servers = UnreliableServers(lambda _number, _request: "")
        async with serving(servers, 1):
            address = "{}:{}".format(*servers.addresses[0])
            command = ["-m", "benchmarks.linearizability.load", address, "--history", str(path), "--pause-s", "0.01"]
            child = await asyncio.create_subprocess_exec(
                sys.executable, *command, "--session-s", "300", stdout=asyncio.subprocess.PIPE
            )
            while servers.executions < 50:
                await asyncio.sleep(0.02)
            child.send_signal(signal.SIGINT)
            output, _ = await child.communicate()
            return child.returncode, output

    code, output = asyncio.run(interrupted())
    assert code == 0
    assert b"answered" in output
    operations = read_history(path)
    assert len(operations) >= 50
    assert not any(one.is_pending for one in operations)
    assert isinstance(check(operations, KeyValueModel()), Linearizable)
