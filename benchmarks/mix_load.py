"""Emulated users of the auction site, at a given rate or each as fast as replies come; every reply is kept.

Users shop, bid and sell as the bidding mix has them.  At a given rate their think times are left out: whoever is free
makes the next request when it is due.
"""

import asyncio
from collections.abc import Sequence
from typing import Self

from benchmarks.chaos.load_thread import LoadThread, Phases
from benchmarks.load_process import LoadResult
from benchmarks.load_record import Record
from benchmarks.open_loop import Pace
from rubis_adapter.client_emulator.emulation import require_descriptors
from rubis_adapter.client_emulator.http_client import HttpClient
from rubis_adapter.client_emulator.replies import FailedRequest, Reply, judge
from rubis_adapter.client_emulator.requests import HttpRequest
from rubis_adapter.client_emulator.settings import DEFAULT_TIMEOUT_S
from rubis_adapter.client_emulator.transitions import load_mix
from rubis_adapter.client_emulator.visitor import Visitor
from rubis_adapter.population.data_sets import DATA_SETS

PATIENCE_S = DEFAULT_TIMEOUT_S + 5.0
"""For the last replies."""
PAUSE_AFTER_FAILURE_S = 0.2
"""Users without think time must not storm a server that is gone."""


class MixLoad:
    """Users at work; a context manager that ends with their last replies."""

    def __init__(
        self, addresses: Sequence[tuple[str, int]], namespace: str, users: int, rate_rps: float, seed: int
    ) -> None:
        """Nothing is sent before `with`.

        Args:
            addresses: of the servers' HTTP ports.
            namespace: network namespace of the users; empty: this one.
            users: each has one request under way at most.
            rate_rps: requests per second of all together; 0: each sends its next request when the reply has come.
            seed: of what they do.  Another load of the same cell needs another one, for users register names.
        """
        require_descriptors(users)
        self._addresses = addresses
        self._users = users
        self._rate_rps = rate_rps
        self._seed = seed
        self._record = Record()
        self._thread = LoadThread(self._work, namespace)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error, or Ctrl-C, nobody wants to know what the last requests came to.
        self._thread.stop(PATIENCE_S if kind is None else 0.0)

    def require_running(self) -> None:
        """Raise `LoadFailed` if the users have ended."""
        self._thread.require_running()

    def result(self) -> LoadResult:
        """Return what users have seen so far."""
        return LoadResult.of(list(self._record.replies), list(self._record.failed))

    async def _work(self, phases: Phases) -> None:
        pace = Pace(self._rate_rps)
        async with asyncio.TaskGroup() as group:
            group.create_task(pace.run())
            table, users = load_mix("bidding"), DATA_SETS["tiny"].users
            for number in range(self._users):
                group.create_task(self._shop(number, Visitor(table, users, self._seed, number), pace))
            await phases.stopping.wait()
            pace.end()
        phases.is_quiet.set()

    async def _shop(self, number: int, visitor: Visitor, pace: Pace) -> None:
        client = HttpClient(asyncio.get_running_loop(), self._addresses, number, DEFAULT_TIMEOUT_S)
        while (due_s := await pace.next_due()) is not None:
            interaction, request = visitor.next_request()
            result = await _ask(client, request)
            failed = result if isinstance(result, FailedRequest) else judge(interaction, result)
            if failed is None and isinstance(result, Reply):
                self._record.reply(due_s)
                visitor.record_page(result)
            elif failed is not None:
                self._record.fail(f"{interaction.value}: {failed.failure.value}, {failed.detail}")
                visitor.record_failure()
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            visitor.advance()
        client.close()


async def _ask(client: HttpClient, request: HttpRequest) -> Reply | FailedRequest:
    done: asyncio.Future[Reply | FailedRequest] = asyncio.get_running_loop().create_future()
    client.request(request, done.set_result)
    return await done
