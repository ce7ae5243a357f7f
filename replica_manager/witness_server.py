"""Puts one witness together: storage, agreement, links; nothing else.

A witness holds no domain, talks to no client and delivers nothing: it votes while a server is silent.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from agreement.errors import MalformedMessage
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message
from agreement.output import Event
from agreement.records import PREFIX, PREFIX_END, read_storage
from agreement.storage import StableStorage
from agreement.witness import Witness
from replica_manager.cell_paths import CellPaths
from replica_manager.clean_stop import leave_mark, take_mark
from replica_manager.config import Config
from replica_manager.loop_failures import end_on_failure
from replica_manager.member_addresses import peer_credentials, private_addresses
from replica_manager.ordering.errors import RefusalReason
from replica_manager.ordering.member_driver import DriverHandler, MemberDriver, monotonic_ms
from replica_manager.ordering.peer_channel import ChannelHandler, PeerChannel
from replica_manager.ordering.peer_port import PeerEvent
from replica_manager.ordering.peer_tls import PeerTls
from replica_manager.ordering.peer_transport import TlsPeerTransport
from replica_manager.ordering.stable_log import SqliteStableStorage
from replica_manager.server_settings import agreement_settings, first_members

Report = Callable[[str, Mapping[str, Any]], None]
"""Takes a named event with its data."""


async def run_witness(
    config: Config, witness_id: int, report: Report, *, is_born: bool, is_loss_accepted: bool = False
) -> int:
    """Run witness `witness_id` until SIGTERM or SIGINT; return the exit code of the process.

    Args:
        config: complete configuration, checked.
        witness_id: a witness of it.
        report: takes what happens, by name.
        is_born: whether the cell starts for the first time; else an empty log is a lost memory.
        is_loss_accepted: take the log for complete although it was not synced before an unclean end.

    Raises:
        StorageError: its log cannot be opened.
        TransportError: its keys cannot be loaded or its peer port cannot be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = WitnessServer(config, witness_id, report, is_born=is_born, is_loss_accepted=is_loss_accepted)
        stack.callback(server.close_storage)
        loop = asyncio.get_running_loop()
        end_on_failure(loop, report, server.halt)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.end, f"signal {number.name}")
        stack.push_async_callback(server.close)
        await server.open()
        reason = await server.ended
        report("witness_stopping", {"reason": reason})
    if server.has_failed:
        return 1
    leave_mark(CellPaths.of(config).state("witness", witness_id))
    return 0


class WitnessServer:
    """One running witness."""

    def __init__(
        self, config: Config, witness_id: int, report: Report, *, is_born: bool, is_loss_accepted: bool = False
    ) -> None:
        """Open the storage and take up its memory; `open` begins to talk.

        Raises:
                StorageError, TransportError: as for `run_witness`.
        """
        own = MemberId.witness(witness_id)
        paths = CellPaths.of(config)
        directory = paths.state("witness", witness_id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._report = report
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the reason when the witness is to stop."""
        self.has_failed = False
        tls = PeerTls(peer_credentials(paths.keys, config.cell.name, own))
        is_complete = take_mark(directory) or config.cell.durability == "sync" or is_loss_accepted
        self.storage = SqliteStableStorage(directory / "agreement.db", config.cell.durability)
        self.core = make_witness(config, own, self.storage, is_born=is_born, is_complete=is_complete)
        addresses = private_addresses(config)
        self.channel: PeerChannel[Message] = PeerChannel(
            Message,
            ChannelHandler(
                on_messages=self._on_messages,
                on_up=lambda member: report("peer_up", {"member": str(member)}),
                on_down=lambda member: report("peer_down", {"member": str(member)}),
                on_event=self._on_peer_event,
            ),
            lambda handler: TlsPeerTransport(addresses, own, tls, handler, generator=random.Random()),
        )
        self.driver = MemberDriver(
            self.core,
            self.storage,
            post=self.channel.post,
            flush=self.channel.flush,
            handler=DriverHandler(lambda _: None, self._on_agreement_events, self._on_failure),
        )

    async def open(self) -> None:
        """Begin to talk to the servers."""
        self._report("witness_started", {"identity": str(self.core.identity)})
        await self.channel.transport.open()

    async def close(self) -> None:
        """Stop talking and writing; idempotent."""
        self.driver.close()
        await self.channel.transport.close()

    def close_storage(self) -> None:
        """Release the log; idempotent."""
        self.driver.close()
        self.storage.close()

    def end(self, reason: str) -> None:
        """Let `run_witness` return."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def halt(self, reason: str) -> None:
        """A broken invariant: nothing may be said or written any more."""
        self.driver.close()
        self.has_failed = True
        self.end(reason)

    def _on_messages(self, member: MemberId, messages: list[Message]) -> None:
        try:
            for message in messages:
                self.driver.receive(member, message)
        except MalformedMessage as error:
            self.channel.transport.disconnect(member, RefusalReason.MESSAGE, str(error))

    def _on_peer_event(self, event: PeerEvent) -> None:
        self._report(*named(event))

    def _on_agreement_events(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._report(*named(event))

    def _on_failure(self, error: Exception) -> None:
        self.has_failed = True
        self.end(f"the agreement log cannot be written: {error}")


def make_witness(config: Config, own: MemberId, storage: StableStorage, *, is_born: bool, is_complete: bool) -> Witness:
    """Return the witness with the memory that `storage` holds.

    Its incarnation survives a restart only if the storage is complete; otherwise, and if its disk was lost, it takes
    one that it has never used, votes in nothing, and asks the servers to name it.
    """
    settings, members = agreement_settings(config), first_members(config)
    content = list(storage.scan(PREFIX, PREFIX_END))
    if not content and is_born:
        return Witness.born(Identity(own, 1), settings, members, monotonic_ms())
    known = read_storage(content).identity
    if is_complete and known is not None:
        return Witness.recovered(known, settings, members, content, monotonic_ms())
    return Witness.amnesiac(Identity(own, time.time_ns() // 1000), settings, members, monotonic_ms())


def named(event: PeerEvent | Event) -> tuple[str, Mapping[str, Any]]:
    """Return an event's name and data as a log has them: `PeerRefused` is `peer_refused`."""
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(event).__name__)
    return words.lstrip("_"), {name: str(getattr(event, name)) for name in type(event).__dataclass_fields__}
