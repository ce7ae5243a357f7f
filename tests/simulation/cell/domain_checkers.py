"""The rules of domains: they hold for every correct domain, whatever faulty ones do."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.execution.feed import Power
from replica_manager.identifiers import DomainId
from tests.simulation.cell.checkers import Model
from tests.simulation.cell.history import History
from tests.simulation.cell.rules import require
from tests.simulation.fake_domain import FakeDomain

if TYPE_CHECKING:
    from tests.simulation.cell.server import SimulatedServer


def _correct(servers: "Iterable[SimulatedServer]", history: History) -> "Iterator[tuple[SimulatedServer, FakeDomain]]":
    """Yield every correct domain with its server."""
    for server in servers:
        for name, domain in server.domains.items():
            if name not in history.faulty:
                yield server, domain


def check_domains(servers: "Iterable[SimulatedServer]", history: History, model: Model) -> None:
    """The state of every correct domain is the fold of the stable updates before its cursor."""
    for server, domain in _correct(servers, history):
        feed = server.core.feeds.get(DomainId(domain.name))
        if feed is not None and feed.is_filled:
            require(domain.rows == model.rows_before(domain.cursor), "state", f"{domain.name} at {domain.cursor}")


def check_only_updates(servers: "Iterable[SimulatedServer]", history: History) -> None:
    """A domain that was always passive executed nothing."""
    for server, domain in _correct(servers, history):
        record = server.core.cell.domains.get(DomainId(domain.name))
        if record is not None and record.role is Role.PASSIVE and not record.was_active:
            require(not domain.executed, "passive domains execute nothing", domain.name)


def check_points(servers: "Iterable[SimulatedServer]", history: History) -> None:
    """All correct domains had the same state at every checkpoint."""
    for server in servers:
        for point in range(1, server.core.cell.sequence + 1):
            digests = server.core.board.digests(point) or {}
            correct = {name: digest for name, digest in digests.items() if name not in history.faulty}
            require(len(set(correct.values())) <= 1, "checkpoints agree", f"{point}: {digests}")


def check_no_accusation(history: History) -> None:
    """No correct domain is accused; a correct slow one may be suspected, and is replaced then."""
    for server, kind, data in history.core_events:
        domain = data.get("domain", "")
        is_accusation = kind in ("vote_contradicts", "domain_misbehaved")
        is_conviction = kind == "role_changed" and str(data["reason"]).startswith("convicted")
        if is_accusation or is_conviction:
            require(domain in history.faulty, "no conviction of a correct domain", f"server {server}: {kind} {data}")
        # Votes that differ, and too many faults, need a liar; too many, more than the bound allows.
        is_allowed = {"vote_diverged": bool(history.faulty), "vote_exceeded": history.is_bound_exceeded}.get(kind, True)
        require(is_allowed, "no conviction of a correct domain", f"server {server}: {kind} {data}")


def check_retirement(servers: "Iterable[SimulatedServer]", history: History) -> None:
    """Whoever was caught in a lie does not serve any more."""
    caught = set()
    for _, kind, data in history.core_events:
        if kind in ("vote_contradicts", "domain_misbehaved"):
            caught.add(data["domain"])
        elif kind in ("repair_began", "next_booting"):
            caught.discard(data["domain"])  # a name that the cell was never told of may be used again
    for server in servers:
        for name in sorted(caught):
            record = server.core.cell.domains.get(DomainId(name))
            require(record is None or record.role is Role.RETIRED, "liars are retired", record)
            require(name not in server.domains, "liars are destroyed", f"{name} on server {server.number}")


def check_kept_without_proof(history: History) -> None:
    """Nobody is given up on suspicion alone: a suspected domain stays until another one has replaced it."""
    for server, kind, data in history.core_events:
        if kind == "role_changed" and data["role"] == Role.RETIRED.value and data["domain"] not in history.faulty:
            reason = str(data["reason"])
            is_allowed = (
                reason.startswith(("replaced by", "server ", "it was handed")) or data["domain"] in history.fresh
            )
            require(is_allowed, "suspicion alone gives nobody up", f"server {server}: {data}")


def check_held(history: History) -> None:
    """A request that killed more domains than the bound allows is held before all are gone."""
    require(bool(history.held), "deadly requests are held", sorted(history.faulty))


def check_can_go_on(servers: "Iterable[SimulatedServer]", history: History) -> None:
    """The invariant that makes the cell live: each correct domain of a live server has voted on an open number, or can
    still execute it, or its server has the number stable.

    Source: design "Why this is live" (`L1`).
    """
    for server in servers:
        core = server.core
        for feed in core.feeds.values() if server.is_serving else ():
            if feed.power is Power.GONE or feed.role is Role.STARTING or feed.domain in history.faulty:
                continue
            came_back_at = server.linked_cursors.get(feed.domain, 0)
            for record in core.requests.records(max(core.buffer.prefix + 1, came_back_at)):
                is_ahead = feed.cursor <= record.sequence or record.sequence in feed.executing
                is_stable = record.stable_digest is not None
                can_go_on = is_ahead or is_stable or feed.domain in record.votes
                require(can_go_on, "every domain can go on", f"{feed.domain} at {record.sequence}")


def present_voters(server: "SimulatedServer") -> list[DomainRecord]:
    """Return the domains that can vote, as one server knows them."""
    cell = server.core.cell
    return [*cell.domains_in(Role.ACTIVE), *cell.domains_in(Role.PASSIVE)]
