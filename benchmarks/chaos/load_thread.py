"""A load on an event loop and a thread of its own, where the cell's clients are."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from benchmarks.chaos.tally import Tally
from benchmarks.chaos.tokens import Ledger
from images.fault_orders import FaultOrder
from replica_manager.network import namespaces

ResultT = TypeVar("ResultT")

CALL_TIMEOUT_S = 120.0
POLL_S = 0.1


class LoadFailed(Exception):
    """Raised when the load itself ended, which it never does by itself: our own mistake."""


class Load(Protocol):
    """Clients of the cell that go on whatever happens to it."""

    tally: Tally
    ledger: Ledger

    def start(self) -> None:
        """Begin; returns when requests are about to be sent."""
        ...

    def give_order(self, order: FaultOrder, *, is_for_passive: bool) -> None:
        """Have a request of a client order a domain to misbehave; return when it is answered.

        Raises:
            LoadFailed: it is not answered.
        """
        ...

    def require_running(self) -> None:
        """Raise `LoadFailed` if the load has ended."""
        ...

    def write_once(self) -> None:
        """Change something that carries no token, in the place of clients that have become quiet.

        Raises:
            LoadFailed: it is not answered.
        """
        ...

    def become_quiet(self) -> None:
        """Have all clients send nothing new, and wait for what is under way; idempotent."""
        ...

    def stop(self, patience_s: float) -> None:
        """Become quiet and end; what takes longer than `patience_s` is given up.  Idempotent."""
        ...


class Phases:
    """How a load comes to its end."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        """Nothing new is to be sent."""
        self.is_quiet = threading.Event()
        """Nothing is under way any more; the work says so."""
        self.ending = asyncio.Event()
        """Nobody needs the work any more."""


class LoadThread:
    """Runs a coroutine in a network namespace, or in this one, until told to stop."""

    def __init__(self, work: Callable[["Phases"], Coroutine[Any, Any, None]], namespace: str = "") -> None:
        """Prepare `work`, which is told when to become quiet and when to end."""
        self._work = work
        self._namespace = namespace
        self._ready = threading.Event()
        self._error: BaseException | None = None
        # A daemon: Ctrl-C in the main thread ends the command without waiting for clients.
        self._thread = threading.Thread(target=self._run, name="chaos-load", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._ready.wait()
        self.require_running()

    def _run(self) -> None:
        try:
            if self._namespace:
                namespaces.call_in(self._namespace, lambda: asyncio.run(self._main()))
            else:
                asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001  (supervisor: told by `require_running`)
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._phases = Phases()
        self._ready.set()
        await self._work(self._phases)

    def require_running(self) -> None:
        """Raise `LoadFailed` if the work has ended."""
        if self._error is not None or (self._ready.is_set() and not self._thread.is_alive()):
            raise LoadFailed(f"the load ended: {self._error!r}") from self._error

    def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine on the load's loop and return its result.

        Raises:
            TimeoutError: it takes too long.
        """
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def become_quiet(self, patience_s: float) -> None:
        """Tell the work to become quiet, and wait until it is, or has ended."""
        if self._thread.is_alive():
            self._tell(self._phases.stopping)
            deadline_s = time.monotonic() + patience_s
            while self._thread.is_alive() and time.monotonic() < deadline_s:
                if self._phases.is_quiet.wait(POLL_S):
                    return

    def stop(self, patience_s: float) -> None:
        """Tell the work to end, and wait for it."""
        self.become_quiet(patience_s)
        if self._thread.is_alive():
            self._tell(self._phases.ending)
            self._thread.join(patience_s)

    def _tell(self, event: asyncio.Event) -> None:
        # "Event loop is closed": the work has ended by itself, and its thread is about to.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event.set)
