"""Keys and certificates of a cell: one authority, one short-lived certificate per member.

A directory holds `authority.key`, `authority.crt` and per member `<member>.key` and `<member>.crt`.  A member needs
`authority.crt` and its own pair; `authority.key` belongs where the operator issues, and nowhere else.

`<member>` is `server-0`, `witness-1`, …
"""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agreement.identifiers import MemberId
from replica_manager.network.certificates import (
    addresses_of,
    authority_certificate,
    identity_of,
    is_due,
    member_certificate,
    names_of,
    subject_names,
)
from replica_manager.network.errors import KeysError
from replica_manager.network.key_files import MemberFiles, identity_uri, member_files

AUTHORITY = "authority"
MEMBER_DAYS = 90
"""Certificates are not revoked, they run out: a lost key is useless after this time, at once if the configuration drops
the member."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """One certificate in the key directory."""

    name: str
    """`authority` or the member's name."""
    identity: str
    """`spare://<cell>/<member>`; of the authority `spare://<cell>`."""
    expires: datetime.datetime
    """With time zone UTC."""

    def remaining(self, now: datetime.datetime) -> datetime.timedelta:
        """Return the time left, negative after the expiry."""
        return self.expires - now


def init(directory: Path, cell: str, now: datetime.datetime | None = None) -> bool:
    """Create the authority of `cell` in `directory` (mode 0700) unless it is there; tell whether it was created.

    An authority of which less than a third of its time remains gets a new certificate for the same key, so that
    certificates it has issued stay valid.

    Raises:
        KeysError: the directory holds the authority of another cell or only its certificate, or cannot be written.
    """
    now = now or _utc_now()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise KeysError(f"key directory {directory} cannot be made: {error.strerror}") from error
    key_path, certificate_path = directory / "authority.key", directory / "authority.crt"
    if certificate_path.exists():
        key, certificate = _load_key(key_path), _load_certificate(certificate_path)
        _require_identity(certificate, certificate_path, f"spare://{cell}")
        if not is_due(certificate, now):
            return False
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    _write_private(key_path, _key_bytes(key))
    _write_private(certificate_path, _certificate_bytes(authority_certificate(cell, key, now)))
    return True


def issue(
    directory: Path,
    cell: str,
    member: MemberId,
    *,
    addresses: Sequence[str] = (),
    now: datetime.datetime | None = None,
    days: float = MEMBER_DAYS,
    always: bool = False,
) -> bool:
    """Give `member` a key and a certificate of `days` days unless it has a good one; tell whether it was made.

    Good: issued by this authority for this identity and these `addresses` (host names or IP addresses), and at least a
    third of its time remains.  `always` makes a new one in any case.  A new certificate comes with a new key.

    Raises:
        KeysError: the authority is missing or of another cell, or a file cannot be written.
    """
    now = now or _utc_now()
    authority_key, authority = _load_authority(directory, cell)
    files = member_files(directory, member)
    names = subject_names(cell, member, addresses)
    if not always and _is_good(files, authority, names, now):
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = member_certificate(member, key, names, authority_key, authority, now, days)
    # The certificate last: a crash in between leaves a pair that does not match, which the next call replaces.
    _write_private(files.key, _key_bytes(key))
    _write_private(files.certificate, _certificate_bytes(certificate))
    return True


def renew(
    directory: Path, cell: str, *, now: datetime.datetime | None = None, always: bool = False
) -> tuple[MemberId, ...]:
    """Issue again every member's certificate that is due, with its addresses; return the members.

    Raises:
        KeysError: as `init` and `issue`.
    """
    now = now or _utc_now()
    init(directory, cell, now)
    renewed = []
    for path in sorted(directory.glob("*.crt")):
        if path.stem == AUTHORITY:
            continue
        certificate = _load_certificate(path)
        member = _member_of(path)
        _require_identity(certificate, path, identity_uri(cell, member))
        if issue(directory, cell, member, addresses=addresses_of(certificate), now=now, always=always):
            renewed.append(member)
    return tuple(renewed)


def show(directory: Path) -> tuple[CertificateStatus, ...]:
    """Return what is in a key directory, the authority first.

    Raises:
        KeysError: a certificate cannot be read.
    """
    found = [
        CertificateStatus(path.stem, identity_of(certificate), certificate.not_valid_after_utc)
        for path in directory.glob("*.crt")
        if (certificate := _load_certificate(path))
    ]
    return tuple(sorted(found, key=lambda status: (status.name != AUTHORITY, status.name)))


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _member_of(path: Path) -> MemberId:
    kind, _, number = path.stem.rpartition("-")
    if kind not in ("server", "witness") or not number.isdigit():
        raise KeysError(f"{path} is not the certificate of a member; remove it from the key directory")
    return MemberId.server(int(number)) if kind == "server" else MemberId.witness(int(number))


def _is_good(
    files: MemberFiles, authority: x509.Certificate, names: x509.SubjectAlternativeName, now: datetime.datetime
) -> bool:
    if not files.key.exists() or not files.certificate.exists():
        return False
    certificate = _load_certificate(files.certificate)
    try:
        certificate.verify_directly_issued_by(authority)
        has_names = set(names_of(certificate)) == set(names)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return has_names and certificate.public_key() == _load_key(files.key).public_key() and not is_due(certificate, now)


def _load_authority(directory: Path, cell: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    path = directory / "authority.crt"
    if not path.exists():
        raise KeysError(f"no authority in {directory}: run 'spare keys init' first")
    certificate = _load_certificate(path)
    _require_identity(certificate, path, f"spare://{cell}")
    return _load_key(directory / "authority.key"), certificate


def _require_identity(certificate: x509.Certificate, path: Path, identity: str) -> None:
    found = identity_of(certificate)
    if found != identity:
        raise KeysError(
            f"{path} belongs to {found or 'nobody of a cell'}, not to {identity}: use another key directory"
        )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeysError(f"private key {path} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeysError(f"private key {path} is not an elliptic-curve key")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeysError(f"certificate {path} cannot be read: {error}") from error


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically by a file of mode 0600 that is on disk before it has its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KeysError(f"{path} cannot be written: {error.strerror}") from error
