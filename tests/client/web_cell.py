"""A real cell of child processes that serves HTTP, a real proxy process before it, and plain HTTP clients."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks.loopback_ports import free_port
from benchmarks.null_cell import NullCell
from replica_manager.config import Config
from replica_manager.config_addresses import Address, parse_address
from replica_manager.config_check import load
from replica_manager.control.cell_down import plan_down, take_down
from replica_manager.control.cell_network import network_of
from replica_manager.control.cell_up import bring_up

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0

TEMPLATE = """[cell]
name = "web-{pid}"
network = "{network}"
state_dir = "cell"
runtime_dir = "{directory}/run"
restart = "never"

[hypervisor]
driver = "subprocess"
isolation = "none"

[limits]
client_table_entries_max = {clients_max}

[service]
listen = "http"
command = ["env", "PYTHONPATH={root}", "{python}", "-P", "-m", "exec_wrapper", "--link", "unix:{{channel}}",
    "tests.client.token_service"]
"""


class WebCell(NullCell):
    """A running cell."""

    def __init__(self, config: Config, file: Path) -> None:
        """Look at the cell of `config`, which is in `file`."""
        super().__init__(config)
        self.config, self.file = config, file

    def http_address(self, server: int) -> Address:
        """Return where a server speaks HTTP."""
        return parse_address(self.config.server[server].public_address)

    def framed_address(self, server: int) -> Address:
        """Return where a server speaks the framed protocol."""
        return parse_address(self.config.server[server].framed_address)


@contextmanager
def restarted_server(cell: "WebCell", server: int) -> Iterator[None]:
    """Run a server that was killed again, as its unit would, until the end of the block."""
    words = [sys.executable, "-P", "-m", "replica_manager", "server", "run", "--id", str(server), "-c", str(cell.file)]
    with (cell.file.parent / f"again-{server}.log").open("w") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def web_cell(network_kind: str = "loopback", clients_max: int = 50_000) -> Iterator[WebCell]:
    """Run a new cell; end it and remove its state afterwards.

    Args:
        network_kind: `loopback`, or `namespaces`, which needs root.
        clients_max: clients that the cell remembers.
    """
    with tempfile.TemporaryDirectory(prefix="spare-web-") as name:
        directory = Path(name)
        file = directory / "cell.toml"
        text = TEMPLATE.format(
            directory=directory,
            root=ROOT,
            python=sys.executable,
            pid=os.getpid(),
            network=network_kind,
            clients_max=clients_max,
        )
        file.write_text(text + (_loopback_members() if network_kind == "loopback" else ""))
        config = load(file)
        network = network_of(config)
        try:
            bring_up(config, network, lambda _: None)
            yield WebCell(config, file)
        finally:
            take_down(config, network, plan_down(config, purge=True), lambda _: None)


def _loopback_members() -> str:
    """Return sections with ports that nobody uses."""
    text = ""
    for server in range(2):
        text += f"\n[[server]]\nid = {server}\n"
        for key in ("public_address", "framed_address", "private_address", "admin_address"):
            text += f'{key} = "127.0.0.1:{free_port()}"\n'
    return f'{text}\n[[witness]]\nid = 0\nprivate_address = "127.0.0.1:{free_port()}"\n'


class Proxy:
    """A running `spare proxy`."""

    def __init__(self, process: "subprocess.Popen[str]", address: Address, log: Path) -> None:
        """Look at `process`, whose lines go to `log`."""
        self.process, self.address, self._log = process, address, log

    @property
    def lines(self) -> str:
        """What it has told so far."""
        return self._log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def spare_proxy(file: Path, *options: str, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """Run `spare proxy` for the cell in `file`, and wait until it listens."""
    port = free_port()
    words = [sys.executable, "-P", "-m", "replica_manager", "proxy", "-c", str(file), "--listen", f"{host}:{port}"]
    log = file.parent / f"proxy-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*words, *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, cwd=ROOT
        )
    proxy = Proxy(process, Address(host, port), log)
    try:
        until_listening(proxy)
        yield proxy
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


def until_listening(proxy: Proxy) -> None:
    """Wait for its first line."""
    deadline_s = time.monotonic() + PATIENCE_S
    while "listening for HTTP" not in proxy.lines:
        assert proxy.process.poll() is None, proxy.lines
        assert time.monotonic() < deadline_s, proxy.lines
        time.sleep(0.02)


class Browser:
    """One HTTP connection that knows nothing of cells."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `browse` instead."""
        self._reader, self._writer = reader, writer

    async def ask(self, method: bytes, target: bytes, head: bytes = b"") -> tuple[int, bytes]:
        """Send a request; return status and body of the reply."""
        self._writer.write(b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%s\r\n" % (method, target, head))
        async with asyncio.timeout(PATIENCE_S):
            reply_head = await self._reader.readuntil(b"\r\n\r\n")
            lengths = [int(line[15:]) for line in reply_head.split(b"\r\n") if line.startswith(b"Content-Length:")]
            if not lengths:
                raise EOFError(f"no reply of a cell: {reply_head!r}")
            return int(reply_head.split(b" ", 2)[1]), await self._reader.readexactly(lengths[0])


@asynccontextmanager
async def browse(address: Address) -> AsyncIterator[Browser]:
    """Connect."""
    reader, writer = await asyncio.open_connection(*address, limit=16 * 1024 * 1024)
    try:
        yield Browser(reader, writer)
    finally:
        writer.close()
