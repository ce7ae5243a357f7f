"""The private key is for its owner only, and nothing else passes for one."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from images.approval_key import is_signed_by, make_key, read_key
from images.errors import ApprovalKeyRefused


def test_a_key_is_private_and_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    """Read again from its file it is the same one."""
    path = tmp_path / "keys" / "approval.key"
    made = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["approval.key"]
    key = read_key(path)
    assert key.public == made.public
    signature = key.sign(b"words")
    assert is_signed_by(made.public, b"words", signature)
    assert not is_signed_by(made.public, b"word", signature)
    assert not is_signed_by(make_key(tmp_path / "other").public, b"words", signature)


@pytest.mark.parametrize("public", ["", "00", "zz" * 32, "ab" * 33])
def test_what_is_no_public_key_verifies_nothing(public: str) -> None:
    """No error: whatever stands in a file may be anything."""
    assert not is_signed_by(public, b"words", bytes(64))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The hint says how to close it."""
    path = tmp_path / "approval.key"
    make_key(path)
    path.chmod(mode)
    with pytest.raises(ApprovalKeyRefused, match=f"has mode {mode:04o}") as caught:
        read_key(path)
    assert f"chmod 600 {path}" in caught.value.hint


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Whoever loses it cannot approve any more; a link to nowhere counts as one."""
    path = tmp_path / "approval.key"
    content = (make_key(path), path.read_bytes())[1]
    link = tmp_path / "link.key"
    link.symlink_to(tmp_path / "nowhere")
    for taken in (path, link):
        with pytest.raises(ApprovalKeyRefused, match="is not overwritten"):
            make_key(taken)
    assert path.read_bytes() == content


def pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "is not Ed25519"),
        (pem(Ed25519PrivateKey.generate(), b"secret"), "without a password"),
    ],
)
def test_what_is_no_key_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    """Whatever the library would say."""
    path = tmp_path / "approval.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ApprovalKeyRefused, match=words):
        read_key(path)


def test_a_key_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    """And a directory in its place is no key."""
    with pytest.raises(ApprovalKeyRefused, match="There is no key") as caught:
        read_key(tmp_path / "approval.key")
    assert "spare image keygen" in caught.value.hint
    with pytest.raises(ApprovalKeyRefused, match="cannot be read"):
        read_key(tmp_path)
