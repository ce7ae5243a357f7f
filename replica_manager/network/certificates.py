"""The shape of a cell's certificates: pure functions over keys, names and times.

The identity of a member is the URI `spare://<cell>/<member>` among the alternative names of its certificate; the
transport compares it with the configuration.  Names and addresses are there for humans and other tools.

Source: RFC 5280 (profile).
"""

import datetime
import ipaddress
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agreement.identifiers import MemberId
from replica_manager.network.key_files import identity_uri, member_name

AUTHORITY_DAYS = 3650
CLOCK_SKEW = datetime.timedelta(minutes=5)
"""A new certificate is valid this much earlier, for members whose clocks are behind."""

_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def authority_certificate(cell: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    """Return the self-signed certificate of the cell's authority, valid for `AUTHORITY_DAYS`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SPARE cell {cell}")])
    builder = _builder(name, name, key, now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spare://{cell}")])
    return builder.add_extension(uri, critical=False).sign(key, hashes.SHA256())


def member_certificate(
    member: MemberId,
    key: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    now: datetime.datetime,
    days: float,
) -> x509.Certificate:
    """Return a certificate for `key` with the alternative `names`, signed by the authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, member_name(member))])
    builder = _builder(subject, authority.subject, key, now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    # libvirt refuses certificates without it: "usage does not permit key encipherment".
    builder = builder.add_extension(_key_usage(digital_signature=True, key_encipherment=True), critical=True)
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(purposes, critical=False)
    builder = builder.add_extension(names, critical=False)
    # OpenSSL's strict mode asks for it.
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return builder.add_extension(issuer, critical=False).sign(authority_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: float
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - CLOCK_SKEW).not_valid_after(now + datetime.timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _key_usage(**granted: bool) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: granted.get(usage, False) for usage in _KEY_USAGES})


def subject_names(cell: str, member: MemberId, addresses: Iterable[str]) -> x509.SubjectAlternativeName:
    """Return the identity of `member` and its `addresses` (host names or IP addresses), in a fixed order."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity_uri(cell, member))]
    names.append(x509.DNSName(f"{member_name(member)}.spare"))
    for address in sorted(set(addresses) - {f"{member_name(member)}.spare"}):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    return x509.SubjectAlternativeName(names)


def addresses_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses in a member's certificate."""
    names = names_of(certificate)
    found = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return found + names.get_values_for_type(x509.DNSName)


def names_of(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    """Return the alternative names.

    Raises:
        x509.ExtensionNotFound: there are none.
    """
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def identity_of(certificate: x509.Certificate) -> str:
    """Return the one identity in a certificate; empty if there is none or several."""
    try:
        uris = names_of(certificate).get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return uris[0] if len(uris) == 1 else ""


def is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Tell whether less than a third of the lifetime remains: time to renew."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now < lifetime / 3
