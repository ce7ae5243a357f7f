"""The key-value service without any replication, behind the same client protocol: what SPARE is compared with.

One process, one event loop: a request is executed and answered at once.  Run as `python -m benchmarks.bare_service`.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import time

from exec_wrapper.examples.key_value import KeyValueAdapter
from exec_wrapper.service_adapter import RequestContext
from replica_manager.identifiers import ClientId
from replica_manager.intake.framed_listener import FramedListener
from replica_manager.intake.port import Outcome, ReplySink, Submission


class BareService:
    """An `IntakePort` that executes by itself."""

    def __init__(self) -> None:
        """Start with an empty store."""
        self._adapter = KeyValueAdapter()
        self._sequence = 0

    def open_client(self, sink: ReplySink, token: int) -> None:
        """Issue an id."""
        self._sequence += 1
        sink.client_opened(token, ClientId(self._sequence.to_bytes(8) + os.urandom(16)))

    def submit(self, sink: ReplySink, submission: Submission) -> None:
        """Execute and answer."""
        self._sequence += 1
        context = RequestContext(self._sequence, time.time_ns() // 1000, bytes(32))
        outcome = self._adapter.execute(submission.payload, context)
        sink.replied(submission.client, submission.number, Outcome.ANSWERED, outcome.reply)

    def forget(self, sink: ReplySink) -> None:
        """Nothing is kept per connection."""


def _complain(reason: str) -> None:
    sys.stderr.write(f"{reason}\n")


async def serve(host: str, port: int) -> None:
    """Serve until the process is ended; prints the port that it listens on."""
    listener = FramedListener(BareService(), 1024 * 1024, 8192, _complain, lambda: time.monotonic() * 1000)
    server = await asyncio.get_running_loop().create_server(listener.connection, host, port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.host, options.port))


if __name__ == "__main__":
    main()
