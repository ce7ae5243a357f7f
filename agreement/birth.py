"""How a member comes to its memory: born, recovered or amnesiac.

A member that answers from an incomplete memory under its old identity takes back promises, and two histories follow:
1. {s0, s1} choose X.  2. s1 loses its disk and restarts within a second.  3. s0 is cut off; s1, empty, and a witness
choose Y for the same slot.  So an acceptor is `(id, incarnation)`, and a lost memory means a new incarnation.

Source: Lamport, "Paxos Made Simple" (2001), section 2.4; design "Agreement stage", Identity.
"""

from collections.abc import Iterable
from enum import Enum

from agreement.configuration import Configuration
from agreement.errors import AmnesiaError
from agreement.identifiers import Identity
from agreement.output import Outbox
from agreement.records import StoredState, delete_everything, put_identity, read_storage


class Start(Enum):
    """How a member comes to its memory; only the caller can know."""

    BORN = "born"
    """The cell is new: the storage is empty because nothing ever happened."""
    RECOVERED = "recovered"
    """The storage is complete: this identity wrote it with `durability = "sync"`, and nothing is missing."""
    AMNESIAC = "amnesiac"
    """The storage is lost or not to be trusted; the incarnation is one that this member has never used."""


def check_memory(
    identity: Identity, cell: Configuration, storage_content: Iterable[tuple[bytes, bytes]], start: Start
) -> StoredState:
    """Read the memory, if there is to be one.

    Raises:
        AmnesiaError: `storage_content` does not fit `identity` and `start`.
    """
    if start is Start.AMNESIAC:
        if identity.incarnation <= cell.latest_incarnation(identity.member):
            raise AmnesiaError(f"{identity} lost its memory and needs an incarnation that it has never used")
        return StoredState()
    stored = read_storage(storage_content)
    if start is Start.RECOVERED and stored.identity != identity:
        raise AmnesiaError(f"the storage is the memory of {stored.identity or 'nobody'}, not of {identity}")
    if start is Start.BORN and stored != StoredState():
        raise AmnesiaError(f"{identity} is to be born, but its storage is the memory of {stored.identity}")
    if start is Start.BORN and identity.incarnation != cell.latest_incarnation(identity.member):
        raise AmnesiaError(f"{identity} is to be born, but the cell begins with another incarnation of it")
    return stored


def begin_life(outbox: Outbox, identity: Identity, stored: StoredState, start: Start) -> int:
    """Write who lives here from now on; how often this memory was taken up again."""
    if start is Start.AMNESIAC:
        outbox.write(delete_everything())
    life = stored.life + 1 if start is Start.RECOVERED else 0
    outbox.write(put_identity(identity, life))
    return life
