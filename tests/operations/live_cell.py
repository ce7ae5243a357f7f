"""A real cell of child processes on 127.0.0.1, started by `spare`, and a client that does not lose its head."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.loopback_ports import free_port
from exec_wrapper.examples.key_value_commands import encode_get, encode_set
from replica_manager.cell_paths import CellPaths
from replica_manager.client.framed_client import CellUnavailable, ConnectionLost, FramedClient
from replica_manager.config_addresses import parse_address
from replica_manager.config_check import load
from replica_manager.control.control_client import ControlClient
from replica_manager.control.errors import ControlError
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.identifiers import ClientId
from replica_manager.intake.port import Outcome

PATIENCE_S = 180.0
COMMAND_S = 300.0
REPOSITORY = Path(__file__).parents[2]
SERVICE = "exec_wrapper.examples.key_value"
CELL = """\
[cell]
name = "{name}"
network = "loopback"
state_dir = "state"
runtime_dir = "run"
{cell}
[service]
command = ["{python}", "-P", "-m", "exec_wrapper", "--link", "unix:{{channel}}", "{service}",
    "--directory", "{{disk}}"]
[hypervisor]
driver = "subprocess"
isolation = "none"
[timeouts]
crash_ms = 2000
boot_ms = 60000
fence_delay_ms = 1000
{rest}
"""


class LiveCell:
    """One cell; `up` starts it."""

    def __init__(
        self, directory: Path, cell: str = "", rest: str = "", witnesses: int = 1, service: str = SERVICE
    ) -> None:
        """Write the configuration.

        Args:
            directory: short, for its sockets.
            cell: more lines of `[cell]`.
            rest: further sections.
            witnesses: 1 or 0.
            service: module of the adapter.
        """
        self.directory = directory
        self.file = directory / "spare.toml"
        text = CELL.format(
            name=f"ops-{os.getpid()}",
            python=sys.executable,
            cell=f"witnesses = {witnesses}\n{cell}",
            rest=rest,
            service=service,
        )
        for number in (0, 1):
            text += f"[[server]]\nid = {number}\n"
            for key in ("public_address", "private_address", "admin_address"):
                text += f'{key} = "127.0.0.1:{free_port()}"\n'
        for number in range(witnesses):
            text += f'[[witness]]\nid = {number}\nprivate_address = "127.0.0.1:{free_port()}"\n'
        self.file.write_text(text)
        self.config = load(self.file)
        self.paths = CellPaths.of(self.config)

    # -- commands ----------------------------------------------------------------------------------------------

    def spare(self, *words: str) -> tuple[int, str, str]:
        """Run `spare` with `words`; return exit code and outputs."""
        done = subprocess.run(
            [sys.executable, "-m", "replica_manager", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "SPARE_CONFIG": str(self.file), "PYTHONPATH": str(REPOSITORY)},
            timeout=COMMAND_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def ok(self, *words: str) -> str:
        """Run `spare` with `words`, which must succeed; return what it printed, or said."""
        code, out, err = self.spare(*words)
        assert code == 0, f"spare {' '.join(words)}: {code}\n{out}\n{err}"
        return out or err

    def status(self) -> dict[str, Any]:
        """Return `spare status -o json`."""
        document: dict[str, Any] = json.loads(self.spare("status", "-o", "json")[1])
        return document

    def ask(self, server: int, method: str = "status", **parameters: Any) -> dict[str, Any]:
        """Ask one server's control socket; nothing if it does not answer."""
        try:
            with ControlClient(self.paths.control_socket(server), 5.0) as client:
                answer: dict[str, Any] = client.call(method, **parameters)
                return answer
        except ControlError:
            return {}

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return all events of these kinds, from files and servers."""
        words = [word for kind in kinds for word in ("-k", kind)]
        events: list[dict[str, Any]] = json.loads(self.ok("events", "-n", "1000", "-o", "json", *words))["events"]
        return events

    # -- processes ---------------------------------------------------------------------------------------------

    def record(self, name: str) -> ProcessRecord:
        """Return the process of `server 0` and so on."""
        return next(record for record in ProcessRecords(self.paths.processes).read() if record.name == name)

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to members."""
        for name in names:
            os.kill(self.record(name).identity.pid, number)

    # -- waiting -----------------------------------------------------------------------------------------------

    def wait(self, what: str, is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait for a condition; say what was waited for, and how the cell is, if it does not come."""
        deadline_s = time.monotonic() + patience_s
        while not is_so():
            assert time.monotonic() < deadline_s, f"{what} did not come\n{self._story()}"
            time.sleep(0.1)

    def wait_whole(self) -> None:
        """Wait until every server says that the cell serves with full redundancy."""
        self.wait("a whole cell", lambda: all(self.ask(server).get("state") == "serving" for server in (0, 1)))

    def _story(self) -> str:
        rows = [self.ask(server) for server in (0, 1)]
        states = [(row.get("server"), row.get("state"), row.get("delivered"), row.get("stable")) for row in rows]
        _, out, _ = self.spare("events", "-n", "60")
        return f"{states}\n{out}"

    # -- the service -------------------------------------------------------------------------------------------

    def put_and_get(self, key: bytes = b"probe", value: bytes = b"1", patience_s: float = PATIENCE_S) -> bytes:
        """Write and read back through whichever server answers."""

        async def both() -> bytes:
            client = SteadyClient(self)
            try:
                await client.request(encode_set(key, value))
                return await client.request(encode_get(key))
            finally:
                client.close()
                await asyncio.sleep(0)  # the loop closes what it was told to close

        return asyncio.run(asyncio.wait_for(both(), patience_s))

    def ask_for(self, payload: bytes, wanted: Outcome) -> None:
        """Send one request, and insist on what becomes of it."""

        async def once() -> None:
            client = SteadyClient(self)
            await client.request(payload, wanted)
            client.close()

        asyncio.run(asyncio.wait_for(once(), PATIENCE_S))

    def is_silent(self, seconds: float) -> bool:
        """Say whether no server answers a request within `seconds`."""
        try:
            self.put_and_get(b"silence", b"?", seconds)
        except TimeoutError:
            return True
        return False


class SteadyClient:
    """Repeats a request with the same id and number, at another server if one is gone, until it is answered."""

    def __init__(self, cell: LiveCell) -> None:
        self._addresses = [parse_address(server.public_address) for server in cell.config.server]
        self._turn = 0
        self._connection: FramedClient | None = None
        self._client: ClientId | None = None
        self._number = 0

    async def request(self, payload: bytes, wanted: Outcome = Outcome.ANSWERED) -> bytes:
        """Return the stable reply."""
        self._number += 1
        while True:
            try:
                async with asyncio.timeout(5.0):
                    connection = await self._connected()
                    if self._client is None:
                        self._client = await connection.open_client()
                    outcome, reply = await connection.request(self._client, self._number, payload)
                    if outcome is wanted:
                        return reply
                    assert outcome is Outcome.UNAVAILABLE, f"request {self._number}: {outcome}"
            except (ConnectionLost, CellUnavailable, OSError, TimeoutError):
                self.close()
            await asyncio.sleep(0.05)

    async def _connected(self) -> FramedClient:
        if self._connection is None:
            self._turn += 1
            address = self._addresses[self._turn % len(self._addresses)]
            self._connection = await FramedClient.connect(address.host, address.port)
        return self._connection

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Writers:
    """Clients that write until they are told to stop, and remember what was acknowledged."""

    def __init__(self, cell: LiveCell, count: int = 4) -> None:
        self._cell = cell
        self._count = count
        self.acknowledged: dict[bytes, bytes] = {}
        self._is_over = False

    async def write(self) -> None:
        """Write until `stop`."""
        await asyncio.gather(*(self._one(index) for index in range(self._count)))

    async def _one(self, index: int) -> None:
        client = SteadyClient(self._cell)
        number = 0
        while not self._is_over:
            number += 1
            key, value = b"k%d-%d" % (index, number), b"v%d" % number
            await client.request(encode_set(key, value))
            self.acknowledged[key] = value
            await asyncio.sleep(0.01)
        client.close()

    def stop(self) -> None:
        """Let `write` return when what is under way is answered."""
        self._is_over = True

    async def missing(self) -> list[bytes]:
        """Return the acknowledged keys whose value cannot be read back."""
        client = SteadyClient(self._cell)
        lost = []
        for key, value in self.acknowledged.items():
            if value not in await client.request(encode_get(key)):
                lost.append(key)
        client.close()
        return lost
