"""Help a peer that lacks votes: messages may be lost with a connection or in a full queue.

Source: design "What may be dropped, and catching up" (`L12`: without it one lost vote costs a stall for ever).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replica_manager.core_output import CoreOutput
from replica_manager.execution.feed import Feed
from replica_manager.execution.request_log import RequestLog
from replica_manager.identifiers import DomainId
from replica_manager.peer_messages import StableNotice, Votes
from replica_manager.updates.update_buffer import UpdateBuffer

RESENT_MAX = 512
"""Numbers that one resending covers; the next tick covers more."""


@dataclass(slots=True)
class _Peer:
    stable: int = 0
    advanced_at_ms: int = 0


class CatchUp:
    """Watches the stable prefix of every peer."""

    def __init__(self, patience_ms: int) -> None:
        """Know no peer yet; one whose prefix stands still for `patience_ms` is helped."""
        self._patience_ms = patience_ms
        self._peers: dict[int, _Peer] = {}

    def on_position(self, server: int, stable: int, now_ms: int) -> None:
        """A peer's frame said how far it is."""
        peer = self._peers.get(server)
        if peer is None:
            peer = self._peers[server] = _Peer(advanced_at_ms=now_ms)
        if stable > peer.stable:
            peer.stable = stable
            peer.advanced_at_ms = now_ms

    def stable_of(self, server: int) -> int:
        """Return the last known stable prefix of a peer."""
        peer = self._peers.get(server)
        return 0 if peer is None else peer.stable

    def forget(self, server: int) -> None:
        """A peer that was no member of the cell is gone."""
        self._peers.pop(server, None)

    def forget_peers_except(self, live_servers: Iterable[int]) -> None:
        """Membership changed."""
        live = set(live_servers)
        self._peers = {server: peer for server, peer in self._peers.items() if server in live}

    def on_timer(
        self,
        now_ms: int,
        requests: RequestLog,
        buffer: UpdateBuffer,
        feeds: Mapping[DomainId, Feed],
        output: CoreOutput,
    ) -> None:
        """Help peers whose prefix has not moved for half a stall timeout though there is something above it."""
        for server, peer in self._peers.items():
            if peer.stable >= requests.last:
                peer.advanced_at_ms = now_ms  # what comes next is new to it, not late
            elif now_ms - peer.advanced_at_ms >= self._patience_ms:
                peer.advanced_at_ms = now_ms
                self.resend(server, requests, feeds, output)

    def resend(self, server: int, requests: RequestLog, feeds: Mapping[DomainId, Feed], output: CoreOutput) -> None:
        """Send what is stable here, and the votes of this server's domains, above the peer's prefix."""
        stable: list[tuple[int, bytes]] = []
        votes: dict[DomainId, list[tuple[int, bytes]]] = {}
        for count, record in enumerate(requests.records(self.stable_of(server) + 1)):
            if count >= RESENT_MAX:
                break
            # A skip is no result: who has not delivered it yet would answer its client with it.
            if record.stable_digest is not None and not record.is_skipped:
                stable.append((record.sequence, record.stable_digest))
            for domain in feeds:
                digest = record.votes.get(domain)
                if digest is not None:
                    votes.setdefault(domain, []).append((record.sequence, digest))
        if stable:
            output.sends.append((server, StableNotice([s for s, _ in stable], b"".join(d for _, d in stable))))
        for domain, own in votes.items():
            output.sends.append((server, Votes(domain, [s for s, _ in own], b"".join(d for _, d in own))))
