"""Keys and certificates of a cell."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agreement.identifiers import MemberId
from replica_manager.network import keys
from replica_manager.network.errors import KeysError
from replica_manager.network.key_files import member_files

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
SERVER, WITNESS = MemberId.server(0), MemberId.witness(1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    keys.init(path, "shop", NOW)
    return path


def days(count: float) -> datetime.timedelta:
    return datetime.timedelta(days=count)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_files_and_directory_belong_to_the_owner_alone(directory: Path) -> None:
    keys.issue(directory, "shop", SERVER, now=NOW)
    assert directory.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == dict.fromkeys(("authority.crt", "authority.key", "server-0.crt", "server-0.key"), 0o600)


def test_init_again_changes_nothing(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert not keys.init(directory, "shop", NOW + days(10))
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_init_for_another_cell_is_refused(directory: Path) -> None:
    with pytest.raises(KeysError, match="belongs to spare://shop, not to spare://bank"):
        keys.init(directory, "bank", NOW)


def test_an_authority_without_its_key_is_never_replaced(directory: Path) -> None:
    """A member's directory holds the authority's certificate alone; a new authority there would split the cell."""
    (directory / "authority.key").unlink()
    with pytest.raises(KeysError, match=r"authority\.key"):
        keys.init(directory, "shop", NOW)


def test_issue_without_an_authority_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="spare keys init"):
        keys.issue(tmp_path, "shop", SERVER, now=NOW)


def test_a_certificate_names_cell_member_and_addresses(directory: Path) -> None:
    keys.issue(directory, "shop", WITNESS, addresses=["10.78.0.110", "w.example"], now=NOW)
    names = certificate(directory / "witness-1.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["spare://shop/witness-1"]
    assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == ["10.78.0.110"]
    assert names.value.get_values_for_type(x509.DNSName) == ["witness-1.spare", "w.example"]


def test_a_certificate_serves_both_ends_of_a_connection(directory: Path) -> None:
    keys.issue(directory, "shop", SERVER, now=NOW)
    extensions = certificate(directory / "server-0.crt").extensions
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_issue_again_changes_nothing_until_two_thirds_of_the_time_are_over(directory: Path) -> None:
    assert keys.issue(directory, "shop", SERVER, now=NOW)
    assert not keys.issue(directory, "shop", SERVER, now=NOW + days(59))
    assert keys.issue(directory, "shop", SERVER, now=NOW + days(61))


def test_issue_replaces_a_certificate_with_other_addresses(directory: Path) -> None:
    keys.issue(directory, "shop", SERVER, addresses=["10.0.0.1"], now=NOW)
    assert keys.issue(directory, "shop", SERVER, addresses=["10.0.0.2"], now=NOW)


def test_issue_replaces_a_pair_that_does_not_match(directory: Path) -> None:
    """What a crash between the two files leaves."""
    keys.issue(directory, "shop", SERVER, now=NOW)
    keys.issue(directory, "shop", WITNESS, now=NOW)
    (directory / "server-0.key").write_bytes((directory / "witness-1.key").read_bytes())
    assert keys.issue(directory, "shop", SERVER, now=NOW)


def test_issue_replaces_a_certificate_of_another_authority(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    keys.init(other, "shop", NOW)
    keys.issue(other, "shop", SERVER, now=NOW)
    for name in ("server-0.key", "server-0.crt"):
        (directory / name).write_bytes((other / name).read_bytes())
    assert keys.issue(directory, "shop", SERVER, now=NOW)


def test_renew_makes_only_what_is_due_and_keeps_addresses(directory: Path) -> None:
    keys.issue(directory, "shop", SERVER, addresses=["10.0.0.1"], now=NOW)
    keys.issue(directory, "shop", WITNESS, now=NOW + days(30))
    assert keys.renew(directory, "shop", now=NOW + days(70)) == (SERVER,)
    assert not keys.issue(directory, "shop", SERVER, addresses=["10.0.0.1"], now=NOW + days(70))


def test_a_renewed_authority_keeps_its_key_and_its_members(directory: Path) -> None:
    later = NOW + days(3000)
    keys.issue(directory, "shop", SERVER, now=later)
    before = certificate(directory / "authority.crt")
    assert keys.renew(directory, "shop", now=later) == ()
    after = certificate(directory / "authority.crt")
    assert after.not_valid_after_utc > before.not_valid_after_utc
    certificate(directory / "server-0.crt").verify_directly_issued_by(after)


def test_show_lists_the_authority_first_and_tells_the_expiry(directory: Path) -> None:
    keys.issue(directory, "shop", WITNESS, now=NOW)
    keys.issue(directory, "shop", SERVER, now=NOW, days=1)
    listed = keys.show(directory)
    assert [status.name for status in listed] == ["authority", "server-0", "witness-1"]
    assert [status.identity for status in listed] == ["spare://shop", "spare://shop/server-0", "spare://shop/witness-1"]
    assert listed[1].remaining(NOW + days(2)) == -days(1)


def test_a_file_that_is_no_certificate_is_named(directory: Path) -> None:
    (directory / "server-0.crt").write_text("nonsense")
    with pytest.raises(KeysError, match=r"server-0\.crt cannot be read"):
        keys.show(directory)


def test_a_stray_certificate_is_named(directory: Path) -> None:
    (directory / "printer.crt").write_bytes((directory / "authority.crt").read_bytes())
    with pytest.raises(KeysError, match=r"printer\.crt is not the certificate of a member"):
        keys.renew(directory, "shop", now=NOW)


def test_openssl_accepts_the_pair_in_strict_mode(directory: Path) -> None:
    keys.init(directory, "shop")
    keys.issue(directory, "shop", SERVER, always=True)
    files = member_files(directory, SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(files.authority)
    context.load_cert_chain(files.certificate, files.key)
    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}


def test_no_private_key_is_in_a_certificate_file(directory: Path) -> None:
    keys.issue(directory, "shop", SERVER, now=NOW)
    assert all(b"PRIVATE" not in path.read_bytes() for path in directory.glob("*.crt"))
