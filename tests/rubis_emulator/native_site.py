"""The real auction site with all its tiers, natively, behind a TCP port: what a cell of one replica would serve."""

import asyncio
import re
import shutil
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from sqlalchemy import create_engine

from exec_wrapper.service_adapter import RequestContext
from rubis_adapter.guest import ReplicaOfRubis
from rubis_adapter.population.data_sets import data_set
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population
from rubis_adapter.tiers.service_processes import DatabaseKind, ServiceConfiguration, database_server

_CONTENT_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class NativeSite:
    """Database, application and web server over the tiny data set; requests are numbered as they come."""

    def __init__(self, database: DatabaseKind) -> None:
        self.port = 0
        self._directory = Path(tempfile.mkdtemp(prefix="rubis-site-"))
        self._directory.chmod(0o755)
        self._configuration = ServiceConfiguration(database, self._directory / "data", self._directory / "run")
        self._replica = ReplicaOfRubis(self._configuration)
        self._sequence = 0
        self._one_at_a_time = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "NativeSite":
        try:
            await asyncio.to_thread(self._start)
        except BaseException:
            self._remove()
            raise
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()
        await asyncio.to_thread(self._remove)

    def _start(self) -> None:
        (self._directory / "run").mkdir()
        (self._directory / "run").chmod(0o711)
        server = database_server(self._configuration)
        server.initialise()
        server.start()
        server.create_tables()
        engine = create_engine(server.administrator_url())
        load(engine, Population(data_set("tiny"), 1, time.time_ns() // 1000))
        engine.dispose()
        server.stop()
        self._replica.start()

    def _remove(self) -> None:
        self._replica.stop()
        shutil.rmtree(self._directory)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _CONTENT_LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                writer.write(await self._execute(head + body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()

    async def _execute(self, request: bytes) -> bytes:
        async with self._one_at_a_time:
            self._sequence += 1
            seed = sha256(str(self._sequence).encode()).digest()
            context = RequestContext(self._sequence, time.time_ns() // 1000, seed)
            outcome = await asyncio.to_thread(self._replica.adapter.execute, request, context)
        return outcome.reply
