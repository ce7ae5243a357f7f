"""The program that a domain runs: tiers, adapter and wrapper in one command, ended together."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exec_wrapper.framing import decode_from_wrapper, encode_frame
from exec_wrapper.wire import Execute, Executed, FromWrapper, Hello, ToWrapper, WrapperHello
from rubis_adapter.databases import open_engine
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population
from rubis_adapter.tiers.service_processes import DatabaseKind, ServiceConfiguration, database_server
from tests.rubis.running_replica import MINI, START_US, page_request

pytestmark = pytest.mark.db

DEADLINE_SECONDS = 120.0


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="rubis-guest-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def data_dir(directory: Path) -> Path:
    return filled(directory, DatabaseKind.MARIADB)


def filled(directory: Path, kind: DatabaseKind) -> Path:
    """Make a data directory with a small data set."""
    server = database_server(ServiceConfiguration(kind, directory / "data", directory / "make"))
    server.initialise()
    server.start()
    server.create_tables()
    engine = open_engine(server.administrator_url())
    load(engine, Population(MINI, 1, START_US))
    engine.dispose()
    server.stop()
    return directory / "data"


class Manager:
    """The other end of the wrapper's link."""

    def __init__(self, path: Path) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(DEADLINE_SECONDS)
        while self._connection.connect_ex(str(path)):
            assert time.monotonic() < deadline, "the wrapper does not listen"
            time.sleep(0.05)
        self._decoder = decode_from_wrapper()

    def ask(self, message: ToWrapper) -> FromWrapper:
        self.say(message)
        return self.hear()

    def say(self, message: ToWrapper) -> None:
        self._connection.sendall(encode_frame(message))

    def hear(self) -> FromWrapper:
        while True:
            for answer in self._decoder.feed(self._connection.recv(65536)):
                return answer

    def close(self) -> None:
        self._connection.close()


def group_members(group: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.add(int(entry.name))
    return found


@pytest.mark.parametrize("kind", list(DatabaseKind))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_guest_serves_and_ends_with_all_its_tiers(directory: Path, kind: DatabaseKind, number: int) -> None:
    link = directory / "link.sock"
    command = [sys.executable, "-m", "rubis_adapter.guest", "--link", f"unix:{link}", "--image", "an-image"]
    command += ["--database", kind, "--data-dir", str(filled(directory, kind)), "--run-dir", str(directory / "run")]
    guest = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    manager = Manager(link)
    try:
        hello = manager.ask(Hello(bytes(16), 2**24, 2**18))
        assert isinstance(hello, WrapperHello)
        assert (hello.cursor, hello.service, hello.image, hello.is_snapshot_concurrent) == (
            1,
            "rubis",
            "an-image",
            True,
        )
        request = page_request("StoreComment", itemId=25, to=4, rating=5, comment="Fine.", **{"from": 5})
        executed = manager.ask(Execute(0, 1, START_US, bytes(32), request))
        assert isinstance(executed, Executed)
        assert b" 200 OK" in executed.reply
        assert executed.update
        assert len(group_members(guest.pid)) >= 4, "wrapper, database, web and application server"
    finally:
        manager.close()
        os.kill(guest.pid, number)
        guest.wait(DEADLINE_SECONDS)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while left := group_members(guest.pid):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)
