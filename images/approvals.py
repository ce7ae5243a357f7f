"""Which images may be booted: signed statements of an operator, and what follows from them.  Pure.

A statement approves an image, or revokes it, for the servers of one service.  Those of one key are numbered: each
number exists once, so that one that was taken away is missed.  For a server the newest statement about an image counts.

Source: SPARE §4.5.4; design "Choice and evolution"; `docs/decisions/0021-image-approval.md`.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

from images.approval_key import is_signed_by
from images.errors import ImageNotApproved
from images.manifest import DIGEST_CHARACTERS, Sha256

STATEMENT_FORMAT = 1
APPROVAL_BYTES_MAX = 64 * 1024
SIGNATURE_LABEL = "ed25519 "
_FILE_NAME = re.compile(r"(.+)-\d{6,}-[0-9a-f]{8}\.approval")


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator signs."""

    format: int
    action: Literal["approve", "revoke"]
    service: str
    """The cell's name: an approval is of no use to another one."""
    serial: int
    """Ascending by one from 1 for each service and key."""
    image_name: str
    manifest_digest: Sha256
    """Of the image's manifest, which has the digests of all its files."""
    servers: tuple[int, ...] | None
    """For which it holds, ascending; `None`: all."""
    at_us: int
    """The operator's clock, microseconds since 1970-01-01 UTC: for people, nothing follows from it."""
    key: Sha256
    """The public key, hexadecimal."""

    @property
    def image_id(self) -> str:
        """`NAME-DIGEST`."""
        return f"{self.image_name}-{self.manifest_digest[:DIGEST_CHARACTERS]}"

    def holds_for(self, server: int) -> bool:
        """Whether it says something about images of `server`."""
        return self.servers is None or server in self.servers


class Rejected(NamedTuple):
    """A file that is no statement of the wanted key, and why."""

    file_name: str
    reason: str


class Ledger(NamedTuple):
    """All statements about one service by one key."""

    service: str
    statements: tuple[Statement, ...]
    """By serial number, all of them signed."""
    rejected: tuple[Rejected, ...] = ()
    """Tampered, or something else."""

    @property
    def missing(self) -> tuple[int, ...]:
        """Serial numbers below the newest one that are not there: any of them may be a revocation."""
        present = {statement.serial for statement in self.statements}
        return tuple(number for number in range(1, max(present, default=0)) if number not in present)

    @property
    def next_serial(self) -> int:
        """The serial number of the next statement."""
        return max((statement.serial for statement in self.statements), default=0) + 1

    def newest_about(self, manifest_digest: str, server: int) -> Statement | None:
        """Return the statement that decides about an image on a server; `None`: there is none."""
        about = (one for one in self.statements if one.manifest_digest == manifest_digest and one.holds_for(server))
        return max(about, key=_order, default=None)

    def was_approved(self, manifest_digest: str, server: int) -> bool:
        """Whether an image was ever approved for a server, revoked since or not."""
        about = (one for one in self.statements if one.manifest_digest == manifest_digest and one.holds_for(server))
        return any(one.action == "approve" for one in about)

    def approved(self, server: int, image_name: str = "") -> Sequence[Statement]:
        """Return the approvals that count for `server`, the newest first; of images of that name, or of all."""
        return [
            one
            for one in sorted(self.statements, key=_order, reverse=True)
            if one.action == "approve"
            and one.holds_for(server)
            and image_name in ("", one.image_name)
            and self.newest_about(one.manifest_digest, server) == one
        ]


def newest_approved(ledger: Ledger, server: int, image_name: str = "") -> Statement:
    """Return the newest approved image of the ledger's service for `server`.

    Args:
        ledger: all statements.
        server: whose domains are to boot it.
        image_name: only images of this name; empty: whichever.

    Raises:
        ImageNotApproved: there is none, or a statement that may have revoked it is missing or tampered.
    """
    require_complete(ledger)
    found = ledger.approved(server, image_name)
    if not found:
        which = f"image {image_name!r}" if image_name else "image"
        raise ImageNotApproved(
            f"No {which} is approved for server {server} of {ledger.service}.",
            f"Approve one: spare image approve {image_name or 'IMAGE'} --server {server}",
        )
    return found[0]


def require_approved(ledger: Ledger, manifest_digest: str, image_id: str, server: int) -> None:
    """Refuse an image that does not count as approved for `server`.

    Raises:
        ImageNotApproved: it was never approved, was revoked, or a statement that may have is missing or tampered.
    """
    require_complete(ledger)
    newest = ledger.newest_about(manifest_digest, server)
    if newest is not None and newest.action == "approve":
        return
    how = "is not approved" if newest is None else f"was revoked (serial {newest.serial})"
    raise ImageNotApproved(
        f"The image {image_id} {how} for server {server} of {ledger.service}.",
        f"Approve it: spare image approve {image_id} --server {server}",
    )


def require_once_approved(ledger: Ledger, manifest_digest: str, image_id: str, server: int) -> None:
    """Refuse an image that was never approved for `server`: for a domain that comes back with its own disk.

    A revocation does not count: together with a power cut it would take the cell's state with it.  What the guest has
    written to that disk no approval speaks of in any case.

    Raises:
        ImageNotApproved: no signed statement approves it.
    """
    if not ledger.was_approved(manifest_digest, server):
        raise ImageNotApproved(
            f"The image {image_id} was never approved for server {server} of {ledger.service}.",
            f"Approve it: spare image approve {image_id} --server {server}",
        )


def require_complete(ledger: Ledger) -> None:
    """Refuse a ledger of which statements are missing or tampered: any of them may be a revocation.

    Raises:
        ImageNotApproved: names the first of them.
    """
    hint = "Copy all files of the directory `approvals` again from where images are approved."
    if ledger.rejected:
        name, reason = ledger.rejected[0]
        raise ImageNotApproved(f"The approval {name} of {ledger.service} does not count: {reason}.", hint)
    if ledger.missing:
        raise ImageNotApproved(f"Approval {ledger.missing[0]} of {ledger.service} is missing.", hint)


def encode_statement(statement: Statement) -> bytes:
    """Return the bytes that are signed."""
    return msgspec.json.encode(statement, order="sorted")


def encode_approval(encoded: bytes, signature: bytes) -> bytes:
    """Return the content of a file: the statement in one line, its signature in another one."""
    return encoded + f"\n{SIGNATURE_LABEL}{signature.hex()}\n".encode()


def file_name_of(statement: Statement) -> str:
    """Return the name of the file of a statement; two operators with one serial number do not overwrite each other."""
    digest = sha256(encode_statement(statement)).hexdigest()
    return f"{statement.service}-{statement.serial:06d}-{digest[:8]}.approval"


def ledger_of(service: str, key: str, files: Iterable[tuple[str, bytes]]) -> Ledger:
    """Return what files say about a service.

    Statements of other keys and services are left out.

    Args:
        service: the cell's name.
        key: the public key, hexadecimal.
        files: name and content of each.
    """
    statements, rejected = list[Statement](), list[Rejected]()
    for name, content in files:
        found = _decode(name, content, key)
        if isinstance(found, Rejected):
            named = _FILE_NAME.fullmatch(name)
            if named is None or named[1] == service:
                rejected.append(found)
        elif found is not None and found.service == service:
            statements.append(found)
    return Ledger(service, tuple(sorted(statements, key=_order)), tuple(rejected))


def _decode(name: str, content: bytes, key: str) -> Statement | Rejected | None:
    encoded, _, rest = content.partition(b"\n")
    try:
        statement = msgspec.json.decode(encoded, type=Statement)
        label, hexadecimal = rest.decode()[: len(SIGNATURE_LABEL)], rest.decode()[len(SIGNATURE_LABEL) :]
        signature = bytes.fromhex(hexadecimal)
    except (msgspec.DecodeError, ValueError):
        return Rejected(name, "it is no signed statement")
    if statement.format != STATEMENT_FORMAT or label != SIGNATURE_LABEL or statement.serial < 1:
        return Rejected(name, "it is no signed statement of this version")
    # With the key that it names itself: a statement of a former key is none of ours, a tampered one is told.
    if not is_signed_by(statement.key, encoded, signature):
        return Rejected(name, "its signature is not that of its content: it was tampered with")
    return statement if statement.key == key else None


def _order(statement: Statement) -> tuple[int, int, str]:
    return statement.serial, statement.at_us, statement.manifest_digest
