"""TLS contexts for links between members: mutual, version 1.3 only, certificates of the cell's authority only.

Source: RFC 8446; Python's `ssl`.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import LinkRefused, RefusalReason, TransportError


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """What a member proves itself with, and how it names the others."""

    authority: Path
    certificate: Path
    key: Path
    identity_uri: Callable[[MemberId], str]
    """The identity that a member's certificate must carry: `spare://<cell>/<member>`."""


class PeerTls:
    """Makes TLS contexts from key files, again when a file has changed: `spare keys renew` needs no restart."""

    def __init__(self, credentials: PeerCredentials) -> None:
        """Load the files once, so that a mistake in them shows at the start.

        Raises:
            TransportError: a file is missing or unreadable, or key and certificate do not match.
        """
        self._credentials = credentials
        self._stamp: tuple[int, ...] = ()
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self.context(is_dialer=True)

    def context(self, *, is_dialer: bool) -> ssl.SSLContext:
        """Return the context for the dialing or the accepting end.

        Raises:
            TransportError: as above; a renewal between its two files looks like this for a moment, try again.
        """
        files = (self._credentials.authority, self._credentials.certificate, self._credentials.key)
        try:
            stamp = tuple(os.stat(path).st_mtime_ns for path in files)
            if stamp != self._stamp:
                self._contexts = {is_dialer: self._load(is_dialer) for is_dialer in (True, False)}
                self._stamp = stamp
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(path) for path in files)
            raise TransportError(f"the key files of this member cannot be loaded ({names}): {error}") from error
        return self._contexts[is_dialer]

    def identities(self, members: list[MemberId]) -> dict[str, MemberId]:
        """Return which certificate identity stands for which member."""
        return {self._credentials.identity_uri(member): member for member in members}

    def _load(self, is_dialer: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if is_dialer else ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The identity is the URI, checked by `peer_identity`; host names prove nothing that matters here.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if not is_dialer:
            # Sessions are never resumed: a resumed one would outlive its certificate.
            context.num_tickets = 0
        context.load_cert_chain(self._credentials.certificate, self._credentials.key)
        context.load_verify_locations(self._credentials.authority)
        return context


def peer_identity(tls: ssl.SSLObject) -> str:
    """Return the one URI in the certificate of the other end, after the handshake.

    Raises:
        LinkRefused: there is not exactly one.
    """
    certificate = tls.getpeercert() or {}
    names = cast(tuple[tuple[str, str], ...], certificate.get("subjectAltName", ()))
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1:
        raise LinkRefused(RefusalReason.IDENTITY, f"certificate with {len(uris)} identities instead of one")
    return uris[0]
