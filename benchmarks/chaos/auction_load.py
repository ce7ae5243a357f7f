"""Emulated users of the auction site, through the failover proxy; every write carries a token."""

import asyncio
import math
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.chaos.auction_tokens import DATA_SET, Marker
from benchmarks.chaos.load_thread import LoadFailed, LoadThread, Phases
from benchmarks.chaos.tally import Tally
from benchmarks.chaos.tokens import Ledger
from images.fault_orders import FaultOrder, http_form, http_read
from rubis_adapter.client_emulator.emulated_client import EmulatedClient
from rubis_adapter.client_emulator.emulation import require_descriptors
from rubis_adapter.client_emulator.http_client import Done, HttpClient
from rubis_adapter.client_emulator.replies import FailedRequest, Reply, found_nothing
from rubis_adapter.client_emulator.requests import SERVLETS, HttpRequest
from rubis_adapter.client_emulator.statistics import SessionStatistics
from rubis_adapter.client_emulator.transitions import load_mix
from rubis_adapter.client_emulator.visitor import Visitor

PROXY_START_S = 30.0
DEADLINE_S = 60.0
"""After which the proxy gives a request up; clients wait a little longer."""
CLIENT_MARGIN_S = 10.0
QUIET_PATIENCE_S = DEADLINE_S + 2 * CLIENT_MARGIN_S
POLL_S = 0.05
COMMENT_PAGE = f"{SERVLETS}StoreComment"
COMMENT = {"itemId": 1000, "to": 1, "from": 2, "rating": 5}


@dataclass(frozen=True, slots=True)
class AuctionSettings:
    """One load."""

    config: Path
    """The cell's file."""
    clients: int
    think_time_scale: float
    seed: int
    log: Path
    """What the proxy says."""


def own_write() -> HttpRequest:
    """Return a write of the runner's own, without a token.  Pure."""
    # The site refuses an empty comment.
    return HttpRequest(COMMENT_PAGE, urlencode({**COMMENT, "comment": "of the runner"}).encode("ascii"))


class FailoverProxyProcess:
    """`spare proxy` beside the emulated users."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config = config
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it listens.

        Raises:
            LoadFailed: it ends, or does not listen in time.
        """
        command = [sys.executable, "-P", "-m", "replica_manager", "proxy", "-c", str(self._config)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--deadline-s", str(DEADLINE_S)]
        with self._log.open("wb") as log:
            # Its own session: Ctrl-C is for us, and we end it when nobody needs it any more.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline_s = time.monotonic() + PROXY_START_S
        while "listening" not in self._log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop(0.0)
                raise LoadFailed(f"the proxy does not listen; see {self._log}")
            time.sleep(POLL_S)

    def stop(self, patience_s: float) -> None:
        """End it; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class AuctionLoad:
    """Implements `Load`."""

    def __init__(self, settings: AuctionSettings) -> None:
        """Prepare."""
        require_descriptors(settings.clients)
        self.tally = Tally(time.monotonic())
        self.ledger = Ledger()
        self._settings = settings
        self.marker = Marker()
        self._proxy = FailoverProxyProcess(settings.config, settings.log)
        self._thread = LoadThread(self._work)

    def start(self) -> None:
        """See `Load.start`."""
        self._proxy.start()
        self.tally.began_s = time.monotonic()
        self._thread.start()

    def require_running(self) -> None:
        """See `Load.require_running`."""
        self._thread.require_running()

    def become_quiet(self) -> None:
        """See `Load.become_quiet`."""
        self._thread.become_quiet(QUIET_PATIENCE_S)

    def stop(self, patience_s: float) -> None:
        """See `Load.stop`."""
        self._thread.stop(patience_s)
        self._proxy.stop(patience_s)

    def give_order(self, order: FaultOrder, *, is_for_passive: bool) -> None:
        """See `Load.give_order`."""
        self._post(http_form(COMMENT_PAGE, COMMENT, "comment", order) if is_for_passive else http_read(order))

    def write_once(self) -> None:
        """See `Load.write_once`."""
        self._post(own_write().encode("spare"))

    def _post(self, message: bytes) -> None:
        head, _, body = message.partition(b"\r\n\r\n")
        url = f"http://127.0.0.1:{self._proxy.port}{head.split(b' ')[1].decode()}"
        try:
            urllib.request.urlopen(url, body or None, timeout=QUIET_PATIENCE_S).close()
        except urllib.error.HTTPError as error:
            # The page of a read does not exist.
            if error.code != 404:
                raise LoadFailed(f"a request of the runner was answered {error.code}") from error

    async def _work(self, phases: Phases) -> None:
        loop = asyncio.get_running_loop()
        table, settings = load_mix("bidding"), self._settings
        statistics = SessionStatistics(0.0, 0.0)
        clients = [
            EmulatedClient(
                loop,
                _Accountant(self, HttpClient(loop, [("127.0.0.1", self._proxy.port)], 0, DEADLINE_S + CLIENT_MARGIN_S)),
                Visitor(table, DATA_SET.users, settings.seed, number),
                statistics,
                think_time_scale=settings.think_time_scale,
                loads_images=False,
            )
            for number in range(settings.clients)
        ]
        now_s = loop.time()
        for number, client in enumerate(clients):
            # Spread over two seconds: a proxy that gets everybody at once is another test.
            client.start(now_s + 2.0 * number / len(clients), math.inf)
        await phases.stopping.wait()
        for client in clients:
            client.finish()
        while any(client.is_running for client in clients):
            await asyncio.sleep(POLL_S)
        phases.is_quiet.set()


class _Accountant:
    """Stands between an emulated client and its connection: marks writes, and keeps the books.  A `Requester`."""

    def __init__(self, load: AuctionLoad, client: HttpClient) -> None:
        self._load = load
        self._client = client

    def request(self, request: HttpRequest, done: Done) -> None:
        """Send, marked."""
        load = self._load
        marked, token = load.marker.mark(request)
        if token:
            load.ledger.sent(token)

        def on_done(result: Reply | FailedRequest) -> None:
            self._account(token, result)
            done(result)

        self._client.request(marked, on_done)

    def _account(self, token: str, result: Reply | FailedRequest) -> None:
        tally, ledger, now_s = self._load.tally, self._load.ledger, time.monotonic()
        if isinstance(result, FailedRequest) or not 200 <= result.status < 400:
            reason = result.failure.value if isinstance(result, FailedRequest) else f"status {result.status}"
            tally.failed(reason, now_s)
            if token and not isinstance(result, FailedRequest) and result.status == 503:
                ledger.refused(token)
            return
        tally.replied(now_s)
        if token and found_nothing(result):
            ledger.refused(token)  # somebody was faster, and the page says so
        elif token:
            ledger.acknowledged(token)

    def close(self) -> None:
        """Give up everything."""
        self._client.close()
