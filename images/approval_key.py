"""The key with which an operator approves images: Ed25519, the private half in a file of mode 0600.

Source: RFC 8032; the public key in hexadecimal, as it stands in the configuration, is its 32 bytes.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from images.errors import ApprovalKeyRefused
from images.whole_files import write_whole

KEY_BYTES_MAX = 16 * 1024
SIGNED_FOR = b"spare image approval\0"
"""Before what is signed: a signature is of no use anywhere else."""


class ApprovalKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> str:
        """The public key, hexadecimal."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, content: bytes) -> bytes:
        """Return the signature of `content`."""
        return self._key.sign(SIGNED_FOR + content)


def make_key(path: Path) -> ApprovalKey:
    """Make a key and write it to the file `path`, which must not exist.

    Raises:
        ApprovalKeyRefused: the file is there, or cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise ApprovalKeyRefused(f"{path} is there already and is not overwritten.", "Name another file with --key.")
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_whole(path, content, 0o600)
    except OSError as error:
        raise ApprovalKeyRefused(f"{path} cannot be written: {error.strerror}.") from error
    return ApprovalKey(key)


def read_key(path: Path) -> ApprovalKey:
    """Return the private key in the file `path`.

    Raises:
        ApprovalKeyRefused: it cannot be read, holds no Ed25519 key, or others than its owner may read or write it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(KEY_BYTES_MAX)
    except FileNotFoundError as error:
        raise ApprovalKeyRefused(f"There is no key {path}.", "Make one, once: spare image keygen") from error
    except OSError as error:
        raise ApprovalKeyRefused(f"The key {path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise ApprovalKeyRefused(
            f"The key {path} has mode {mode:04o}: others than its owner may use it.",
            f"chmod 600 {path}; if somebody else was on this machine meanwhile, make another key.",
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ApprovalKeyRefused(f"{path} holds no private key without a password.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ApprovalKeyRefused(f"{path} holds a key that is not Ed25519.", "Make one: spare image keygen")
    return ApprovalKey(key)


def is_signed_by(public: str, content: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `content` by the key `public` (64 hexadecimal digits)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, SIGNED_FOR + content)
    except (InvalidSignature, ValueError):
        return False
    return True
