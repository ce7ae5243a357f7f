"""All domains of the cell and what their roles become.

Whether an entry may change a role is decided in `cell_state`, which knows thresholds and rounds.

Source: design "The replicated cell state", "Back to normal", "Repair".
"""

from collections.abc import Iterable, Iterator

from replica_manager.cell.effects import DomainSuspected, RoleChanged
from replica_manager.cell.roles import DomainRecord, Role
from replica_manager.identifiers import DomainId, domain_id, generation_of, server_of

RETIRED_KEPT = 6
"""Retired domains per server that an operator can still ask for; their names are never used again in any case."""


class DomainTable:
    """Domains by name."""

    def __init__(self, servers: Iterable[int]) -> None:
        """A new cell: an active and a passive domain on each server."""
        self.records: dict[DomainId, DomainRecord] = {}
        self.next_generation: dict[int, int] = {}
        for server in servers:
            self.next_generation[server] = 3
            for generation, role in ((1, Role.ACTIVE), (2, Role.PASSIVE)):
                name = domain_id(server, generation)
                is_active = role is Role.ACTIVE
                self.records[name] = DomainRecord(name, role, True, "start of the cell", was_active=is_active)

    # -- looking -----------------------------------------------------------------------------------------------

    def in_role(self, role: Role) -> tuple[DomainRecord, ...]:
        """Return the domains in `role`, by name."""
        return tuple(record for _, record in sorted(self.records.items()) if record.role is role)

    def of_server(self, server: int) -> tuple[DomainRecord, ...]:
        """Return the domains of a server, by generation."""
        found = [record for record in self.records.values() if record.server == server]
        return tuple(sorted(found, key=lambda record: generation_of(record.domain)))

    def present(self, domain: str) -> DomainRecord | None:
        """Return the record of a domain that is not retired."""
        record = self.records.get(DomainId(domain))
        return None if record is None or record.role is Role.RETIRED else record

    def may_begin(self, domains: Iterable[str]) -> bool:
        """Whether these can be the fresh domains of a repair: all of one server, each starting or of a new name."""
        names = [DomainId(name) for name in domains]
        servers = {int(server_of(name)) for name in names}
        return bool(names) and len(set(names)) == len(names) and len(servers) == 1 and all(map(self._is_fresh, names))

    def is_overtaken(self, domains: Iterable[str], seen: int) -> bool:
        """Whether a point for one of these was ordered after what the proposer had seen: the entry came twice."""
        records = (self.records.get(DomainId(name)) for name in domains)
        return any(record is not None and record.since > seen for record in records)

    def _is_fresh(self, name: DomainId) -> bool:
        record = self.records.get(name)
        if record is not None:
            return record.role is Role.STARTING
        return generation_of(name) >= self.next_generation.get(int(server_of(name)), 1)

    # -- changing ----------------------------------------------------------------------------------------------

    def change(self, record: DomainRecord, role: Role, reason: str, position: int) -> RoleChanged:
        """Give a domain another role."""
        is_active = role is Role.ACTIVE
        self.records[record.domain] = record._replace(
            role=role, reason=reason, since=position, was_active=record.was_active or is_active
        )
        return RoleChanged(record.domain, role, reason)

    def suspect(self, record: DomainRecord, reason: str) -> DomainSuspected:
        """Note that a domain is not what it should be."""
        self.records[record.domain] = record._replace(suspicion=reason)
        return DomainSuspected(record.domain, reason)

    def convict(self, record: DomainRecord, reason: str, position: int) -> RoleChanged:
        """Retire a domain whose votes do not count any more."""
        changed = self.change(record, Role.RETIRED, reason, position)
        self.records[record.domain] = self.records[record.domain]._replace(is_counted=False)
        return changed

    def begin(self, domains: Iterable[str], reason: str, position: int) -> Iterator[RoleChanged]:
        """Take in fresh domains; those that are there already are filled from this position now."""
        for name in map(DomainId, domains):
            if name in self.records:
                self.records[name] = self.records[name]._replace(since=position)
            else:
                yield self._add(DomainRecord(name, Role.STARTING, True, reason, position))

    def _add(self, record: DomainRecord) -> RoleChanged:
        # A name is never used again: votes of a domain of that name may still be on their way.
        following = generation_of(record.domain) + 1
        self.next_generation[record.server] = max(self.next_generation.get(record.server, 1), following)
        self.records[record.domain] = record
        return RoleChanged(record.domain, record.role, record.reason)

    def retire_surplus(self, position: int) -> Iterator[RoleChanged]:
        """Give up sleepers that another one of their server has replaced.

        A suspected one is kept until then, never destroyed on suspicion alone.  A second clean one comes from a domain
        that was active for a while; the one whose state was voted on all along stays.
        """
        for server in sorted(self.next_generation):
            own = self.of_server(server)
            clean = [record for record in own if record.is_clean_passive]
            if not clean:
                continue
            kept = min(clean, key=lambda record: (record.was_active, -generation_of(record.domain)))
            has_active = any(record.role is Role.ACTIVE for record in own)
            for record in own:
                is_surplus = record.suspicion or (has_active and record.domain != kept.domain)
                if record.role is Role.PASSIVE and is_surplus:
                    reason = f"replaced by {kept.domain}" + (f": {record.suspicion}" if record.suspicion else "")
                    yield self.change(record, Role.RETIRED, reason, position)

    def leave(self, server: int, position: int) -> Iterator[RoleChanged]:
        """A server is gone: its domains are retired for ever and their votes stop counting."""
        for record in self.of_server(server):
            was_retired = record.role is Role.RETIRED
            changed = self.convict(record, f"server {server} left", position)
            if not was_retired:
                yield changed

    def join(self, server: int, active: str, passive: str, position: int) -> Iterator[RoleChanged]:
        """A server is back with two filled domains; what it began to fill before and gave up is retired."""
        for record in self.of_server(server):
            if record.role is Role.STARTING and record.domain not in (active, passive):
                yield self.change(record, Role.RETIRED, "given up", position)
        # One that died since it was named stays retired, for ever; the other one takes its place.
        alive = [DomainId(name) for name in (active, passive) if not self._is_retired(DomainId(name))]
        for name, role in zip(alive, (Role.ACTIVE, Role.PASSIVE), strict=False):
            is_active = role is Role.ACTIVE
            yield self._add(DomainRecord(name, role, True, f"server {server} joined", position, was_active=is_active))

    def _is_retired(self, name: DomainId) -> bool:
        record = self.records.get(name)
        return record is not None and record.role is Role.RETIRED

    def forget_retired(self, stable_all: int) -> None:
        """Forget domains retired before `stable_all`, but for the newest of each server.

        A cell whose domains are replaced every hour for years would else carry them all in its state.
        """
        for server in self.next_generation:
            gone = [r for r in self.of_server(server) if r.role is Role.RETIRED]
            for record in gone[:-RETIRED_KEPT]:
                if record.since < stable_all:
                    del self.records[record.domain]

    # -- transferring ------------------------------------------------------------------------------------------

    def rows(self) -> list[object]:
        """Return everything in a canonical order."""
        records = [
            [r.domain, r.role.value, r.is_counted, r.reason, r.since, r.suspicion, r.was_active]
            for _, r in sorted(self.records.items())
        ]
        return [records, sorted(self.next_generation.items())]

    @classmethod
    def of_rows(cls, rows: list[object]) -> "DomainTable":
        """Return what `rows` wrote."""
        records, generations = rows
        assert isinstance(records, list)
        assert isinstance(generations, list)
        table = cls(())
        table.records = {
            DomainId(name): DomainRecord(DomainId(name), Role(role), *rest) for name, role, *rest in records
        }
        table.next_generation = dict(generations)
        return table
