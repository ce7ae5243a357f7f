"""The ledger of writes: each carries a token, and in the end each acknowledged one is in every database once.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Fate(Enum):
    """What the client was told of a write."""

    OPEN = "no answer yet, or none that decides: executed or not"
    ACKNOWLEDGED = "executed"
    REFUSED = "surely not executed"


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the databases have of the writes, against what clients were told."""

    acknowledged: int
    undecided: int
    lost: list[str]
    """`domain: token` of writes that were acknowledged and are not there."""
    doubled: list[str]
    """Writes that are there more than once."""
    revived: list[str]
    """Writes that are there although the client was told that they were not executed."""


@dataclass(slots=True)
class Ledger:
    """Fates by token."""

    fates: dict[str, Fate] = field(default_factory=dict)

    def sent(self, token: str) -> None:
        """A write is about to be sent for the first time."""
        assert token not in self.fates, f"the token {token} is used twice"
        self.fates[token] = Fate.OPEN

    def acknowledged(self, token: str) -> None:
        """The client has the reply."""
        self.fates[token] = Fate.ACKNOWLEDGED

    def refused(self, token: str) -> None:
        """The client was told that nothing happened."""
        self.fates[token] = Fate.REFUSED

    def settle(self, databases: Mapping[str, Mapping[str, int]]) -> Accounts:
        """Compare with how often each database, by domain, has each token."""
        fates = list(self.fates.values())
        accounts = Accounts(fates.count(Fate.ACKNOWLEDGED), fates.count(Fate.OPEN), [], [], [])
        for domain, counts in sorted(databases.items()):
            for token, fate in self.fates.items():
                count, name = counts.get(token, 0), f"{domain}: {token}"
                if count == 0 and fate is Fate.ACKNOWLEDGED:
                    accounts.lost.append(name)
                if count > 1:
                    accounts.doubled.append(name)
                if count > 0 and fate is Fate.REFUSED:
                    accounts.revived.append(name)
        return accounts
