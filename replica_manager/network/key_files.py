"""Names of members in certificates and of their files: all that a running member needs to know about keys.

Apart from `keys` and `certificates`, because those load a cryptographic library of 12 MiB that a member, which leaves
TLS to `ssl`, has no other use for.
"""

from dataclasses import dataclass
from pathlib import Path

from agreement.identifiers import MemberId


@dataclass(frozen=True, slots=True)
class MemberFiles:
    """What one member needs to prove who it is and to check the others."""

    authority: Path
    certificate: Path
    key: Path


def member_name(member: MemberId) -> str:
    """Return `server-<number>` or `witness-<number>`: file names, certificate subjects, identities."""
    return f"{'server' if member.is_server else 'witness'}-{member.number}"


def identity_uri(cell: str, member: MemberId) -> str:
    """Return the identity of `member`, as it stands in its certificate."""
    return f"spare://{cell}/{member_name(member)}"


def member_files(directory: Path, member: MemberId) -> MemberFiles:
    """Return the paths of `member` in a key directory; says nothing about whether they exist."""
    name = member_name(member)
    return MemberFiles(directory / "authority.crt", directory / f"{name}.crt", directory / f"{name}.key")
