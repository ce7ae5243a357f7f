"""The approvals beside the images: a directory of the catalog with one file per statement, each written once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from images.approval_key import ApprovalKey
from images.approvals import (
    APPROVAL_BYTES_MAX,
    STATEMENT_FORMAT,
    Ledger,
    Statement,
    encode_approval,
    encode_statement,
    file_name_of,
    ledger_of,
    newest_approved,
    require_approved,
    require_complete,
)
from images.catalog import Catalog, Image
from images.errors import ImageNotApproved, ImageUnknown
from images.whole_files import write_whole

APPROVALS = "approvals"
SUFFIX = ".approval"


def read_ledger(catalog: Catalog, service: str, key: str) -> Ledger:
    """Return the statements about `service` by the public key `key` in a catalog.

    Raises:
        ImageNotApproved: the directory, or a file in it, cannot be read: it may hold a revocation.
    """
    directory = catalog.directory / APPROVALS
    try:
        paths = sorted(directory.glob(f"*{SUFFIX}"))
        files = [(path.name, _content(path)) for path in paths if not path.name.startswith(".")]
    except OSError as error:
        raise ImageNotApproved(f"{error.filename} cannot be read: {error.strerror}.") from error
    return ledger_of(service, key, files)


def add_statement(
    catalog: Catalog,
    ledger: Ledger,
    key: ApprovalKey,
    action: Literal["approve", "revoke"],
    image: tuple[str, str],
    servers: Sequence[int],
    at_us: int,
) -> Statement:
    """Sign a statement and put it into a catalog, behind all that are there.

    Args:
        catalog: where images and approvals are.
        ledger: what `read_ledger` gave.
        key: the operator's.
        action: what is said.
        image: its name and the digest of its manifest.
        servers: for which; empty: all.
        at_us: wall clock.

    Raises:
        ImageNotApproved: a statement is missing: the next number could be one that exists elsewhere.
        OSError: the file cannot be written.
    """
    require_complete(ledger)
    name, digest = image
    chosen = tuple(sorted(set(servers))) or None
    statement = Statement(
        STATEMENT_FORMAT, action, ledger.service, ledger.next_serial, name, digest, chosen, at_us, key.public
    )
    encoded = encode_statement(statement)
    content = encode_approval(encoded, key.sign(encoded))
    write_whole(catalog.directory / APPROVALS / file_name_of(statement), content, 0o644)
    return statement


def approved_image(
    catalog: Catalog, wanted: str, ledger: Ledger, server: int, *, is_fault_injection_allowed: bool = False
) -> Image:
    """Find the image that a server may boot.

    Args:
        catalog: the images.
        wanted: a name, which means its newest approved image; or `NAME-DIGEST` or a digest, which mean exactly one.
        ledger: the statements.
        server: which one.
        is_fault_injection_allowed: whether an image that misbehaves on purpose will do.

    Raises:
        ImageNotApproved: it is not approved for this server.
        ImageUnknown: it is approved and not in the catalog, or there is no such image.
        ImageRefused: it misbehaves on purpose and that is not allowed.
    """
    is_name = any(one.image_name == wanted for one in ledger.statements)
    if is_name or any(image.name == wanted for image in catalog.list()):
        newest = newest_approved(ledger, server, wanted)
        try:
            return catalog.resolve(newest.manifest_digest, is_fault_injection_allowed=is_fault_injection_allowed)
        except ImageUnknown as error:
            raise ImageUnknown(
                f"{newest.image_id}, approved for server {server} with serial {newest.serial}, is not in the catalog"
                f" {catalog.directory}.",
                "Copy its directory from where it was built.",
            ) from error
    image = catalog.resolve(wanted, is_fault_injection_allowed=is_fault_injection_allowed)
    require_approved(ledger, image.digest, image.image_id, server)
    return image


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(APPROVAL_BYTES_MAX)
