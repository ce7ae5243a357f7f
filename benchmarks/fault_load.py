"""Clients that write to a cell at a given rate, or as fast as they get replies, and fail over when a server dies.

A process of its own, on the clients' network.  Run as `python -m benchmarks.fault_load`; ends with
its time and prints one JSON document: when each reply came and how long it took.

At a given rate a request is due at its time whether or not earlier ones are answered, and its latency counts from then.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys

from benchmarks.load_record import Record
from benchmarks.open_loop import Pace
from exec_wrapper.examples.key_value_commands import encode_set
from replica_manager.client.errors import CellUnreachable, ClientError
from replica_manager.client.failover_client import ClientSession, FailoverClient
from replica_manager.config_addresses import parse_address
from replica_manager.intake.port import Outcome

KEYS = 1000
VALUE_BYTES = 100


class FaultLoad:
    """One run."""

    def __init__(self, sessions: list[ClientSession], rate_rps: float) -> None:
        """Write with these sessions.

        Args:
            sessions: each has one request under way at most.
            rate_rps: requests per second of all together; 0: each sends its next request when the reply has come.
        """
        self._sessions = sessions
        self._pace = Pace(rate_rps)
        self._written = 0
        self.record = Record()

    async def run(self, session_s: float) -> None:
        """Write for so long."""
        tasks = [asyncio.create_task(self._write_on(session)) for session in self._sessions]
        pace = asyncio.create_task(self._pace.run())
        await asyncio.wait(tasks, timeout=session_s, return_when=asyncio.FIRST_EXCEPTION)
        self.record.unsent = self._pace.unsent
        self._pace.end()
        pace.cancel()
        await asyncio.gather(*tasks)

    async def _write_on(self, session: ClientSession) -> None:
        while (due_s := await self._pace.next_due()) is not None:
            self._written += 1
            payload = encode_set(b"key %d" % random.randrange(KEYS), b"%0*d" % (VALUE_BYTES, self._written))
            try:
                outcome, _ = await session.request(payload)
            except ClientError as error:
                self.record.fail(str(error))
                continue
            if outcome is Outcome.ANSWERED:
                self.record.reply(due_s)
            else:
                self.record.fail(outcome.name.lower())


async def _run(options: argparse.Namespace) -> Record:
    addresses = [parse_address(address) for address in options.addresses]
    async with FailoverClient(addresses) as cell:
        sessions = [await cell.open_session() for _ in range(options.clients)]
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        load = FaultLoad(sessions, options.rate_rps)
        await load.run(options.session_s)
        return load.record


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+", help="HOST:PORT of every server")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate-rps", type=float, default=0, help="0: as fast as replies come")
    parser.add_argument("--session-s", type=float, default=10)
    options = parser.parse_args()
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    try:
        record = asyncio.run(_run(options))
    except CellUnreachable as error:
        sys.exit(f"the cell issued no client id: {error}")
    json.dump({"replies": record.replies, "failed": record.failed, "unsent": record.unsent}, sys.stdout)


if __name__ == "__main__":
    main()
