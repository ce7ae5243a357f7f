"""Members with real keys on loopback, and a recorder of what their transport reports."""

import asyncio
import datetime
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from agreement.identifiers import MemberId
from benchmarks.loopback_ports import free_port
from replica_manager.network import keys
from replica_manager.network.key_files import identity_uri, member_files
from replica_manager.ordering.peer_port import PeerEvent, PeerHandler
from replica_manager.ordering.peer_tls import PeerCredentials, PeerTls
from replica_manager.ordering.peer_transport import TlsPeerTransport

S0, S1, W0 = MemberId.server(0), MemberId.server(1), MemberId.witness(0)
PATIENCE_S = 60.0


class Recorder:
    """Keeps everything a transport reports, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[str, MemberId]] = []
        self.frames: dict[MemberId, list[bytes]] = {}
        self.events: list[PeerEvent] = []

    def handler(self) -> PeerHandler:
        """A handler that records."""
        return PeerHandler(
            on_frames=lambda member, frames: self.frames.setdefault(member, []).extend(frames),
            on_up=lambda member: self.log.append(("up", member)),
            on_down=lambda member: self.log.append(("down", member)),
            on_event=self.events.append,
        )


def make_keys(directory: Path, cell: str = "shop", members: Iterable[MemberId] = (S0, S1, W0)) -> Path:
    """Make an authority and good certificates for `members`."""
    keys.init(directory, cell)
    for member in members:
        keys.issue(directory, cell, member)
    return directory


def make_expired(directory: Path, member: MemberId, cell: str = "shop") -> None:
    """Replace the member's certificate by one that ran out a minute ago."""
    now = datetime.datetime.now(datetime.UTC)
    yesterday = now - datetime.timedelta(days=1)
    keys.issue(directory, cell, member, now=yesterday, days=1 - 1 / 1440, always=True)


def tls_of(directory: Path, member: MemberId, cell: str = "shop") -> PeerTls:
    """The TLS contexts of one member."""
    files = member_files(directory, member)
    return PeerTls(PeerCredentials(files.authority, files.certificate, files.key, partial(identity_uri, cell)))


def addresses(*members: MemberId) -> dict[MemberId, tuple[str, int]]:
    """Loopback addresses for members."""
    return {member: ("127.0.0.1", free_port()) for member in members}


def make_transport(
    own: MemberId,
    members: dict[MemberId, tuple[str, int]],
    directory: Path,
    recorder: Recorder,
    *,
    frame_bytes_max: int = 1024 * 1024,
    queue_bytes_max: int = 8 * 1024 * 1024,
    handshake_timeout_s: float = 30.0,
) -> TlsPeerTransport:
    """A real transport with the keys of `directory`."""
    return TlsPeerTransport(
        members,
        own,
        tls_of(directory, own),
        recorder.handler(),
        generator=random.Random(own.number),
        frame_bytes_max=frame_bytes_max,
        queue_bytes_max=queue_bytes_max,
        handshake_timeout_s=handshake_timeout_s,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.002)
