"""A replica of the auction site with real tiers, driven through its adapter, that can be set back to a known state."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from exec_wrapper.service_adapter import Outcome, RequestContext, SequencedUpdate
from rubis_adapter.adapter import RubisAdapter
from rubis_adapter.auction.presentation import SERVLETS
from rubis_adapter.databases import open_engine
from rubis_adapter.guest import ReplicaOfRubis
from rubis_adapter.population.data_sets import DataSet
from rubis_adapter.population.load import load
from rubis_adapter.population.rows import Population
from rubis_adapter.tiers.service_processes import DatabaseKind, ServiceConfiguration, database_server

MINI = DataSet("mini", users=30, items=60, old_items=20, bids=200, comments=60, buy_now=10)
START_US = 1_900_000_000_000_000
FIRST_ITEM = MINI.old_items + 1
"""Ids of running auctions begin here."""
PART_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Reply:
    """A canonical reply, taken apart."""

    status: int
    headers: Mapping[str, str]
    text: str


def context_of(sequence: int) -> RequestContext:
    """The context that tests give to request `sequence`: one second later than the one before."""
    seed = hashlib.sha256(b"%d" % sequence).digest()
    return RequestContext(sequence, START_US + sequence * 1_000_000, seed)


def get_request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: auctions.example\r\n\r\n".encode("ascii")


def post_request(target: str, form: bytes) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: auctions.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return head.encode("ascii") + b"Content-Length: %d\r\n\r\n" % len(form) + form


def page_request(servlet: str, **parameters: object) -> bytes:
    return get_request(f"{SERVLETS}{servlet}?{urlencode(parameters)}")


def parse_reply(reply: bytes) -> Reply:
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Reply(int(lines[0].split()[1]), headers, body.decode("utf-8"))


class RunningReplica:
    """Three real tiers and an adapter over the mini data set."""

    def __init__(self, kind: DatabaseKind, directory: Path) -> None:
        self.kind = kind
        self.configuration = ServiceConfiguration(kind, directory / "data", directory / "run")
        self.replica = ReplicaOfRubis(self.configuration)
        self.pristine: list[bytes] = []
        self._is_changed = False
        self._base = 0

    def create(self) -> None:
        """Makes the data directory, loads the data set, starts everything."""
        self.configuration.run_dir.mkdir(parents=True)
        self.configuration.run_dir.chmod(0o711)
        server = database_server(self.configuration)
        server.initialise()
        server.start()
        server.create_tables()
        engine = open_engine(server.administrator_url())
        load(engine, Population(MINI, 1, START_US))
        engine.dispose()
        server.stop()
        self.replica.start()
        self.pristine = self.state()

    @property
    def adapter(self) -> RubisAdapter:
        return self.replica.adapter

    def reset(self) -> None:
        """Back to the data set.

        The next request gets the time and seed of request 1 again, but not its number, so that nothing has to be
        loaded after tests that only read.
        """
        self._base = self.adapter.cursor() - 1
        if self._is_changed:
            self.adapter.set_state(self.adapter.cursor(), 1, iter(self.pristine))
            self._is_changed = False

    def expect_changes(self) -> None:
        """Something is going to change that does not come from `execute` or `apply`."""
        self._is_changed = True

    def state(self) -> list[bytes]:
        return list(self.adapter.take_state(self.adapter.cursor(), 1, PART_BYTES_MAX))

    def context(self) -> RequestContext:
        """The context of the next request."""
        sequence = self.adapter.cursor()
        return context_of(sequence - self._base)._replace(sequence=sequence)

    def execute(self, request: bytes) -> Outcome:
        outcome = self.adapter.execute(request, self.context())
        self._is_changed |= bool(outcome.update)
        return outcome

    def get(self, target: str) -> Reply:
        return parse_reply(self.execute(get_request(target)).reply)

    def page(self, servlet: str, **parameters: object) -> Reply:
        return parse_reply(self.execute(page_request(servlet, **parameters)).reply)

    def changing_page(self, servlet: str, **parameters: object) -> tuple[Reply, bytes]:
        """A page and the update that it caused."""
        outcome = self.execute(page_request(servlet, **parameters))
        return parse_reply(outcome.reply), outcome.update

    def apply(self, updates: Sequence[tuple[int, bytes]], up_to: int) -> None:
        self._is_changed = True
        self.adapter.apply_updates([SequencedUpdate(*update) for update in updates if update[1]], up_to)
