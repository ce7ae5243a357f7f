"""A whole cell's ordering in one event loop: real nodes, TLS over loopback, SQLite with syncs."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agreement.changes import Entry, ServerLeft
from agreement.identifiers import Identity, MemberId
from agreement.messages import Message
from agreement.node import Node
from agreement.output import Delivery, Event
from agreement.records import PREFIX, PREFIX_END
from agreement.settings import AgreementSettings
from agreement.witness import Witness
from replica_manager.ordering.agreement_driver import AgreementDriver
from replica_manager.ordering.errors import RefusalReason
from replica_manager.ordering.member_driver import DriverHandler, MemberDriver, monotonic_ms
from replica_manager.ordering.peer_channel import ChannelHandler, PeerChannel
from replica_manager.ordering.peer_port import PeerHandler
from replica_manager.ordering.peer_transport import TlsPeerTransport
from replica_manager.ordering.stable_log import SqliteStableStorage
from tests.ordering.peers import S0, S1, W0, Recorder, addresses, make_keys, tls_of, until

MEMBERS = (S0, S1, W0)
IDENTITIES = [Identity(member, 1) for member in MEMBERS]
PATIENT = AgreementSettings(
    witness_timeout_ms=5_000,
    election_timeout_min_ms=6_000,
    election_timeout_max_ms=10_000,
    election_timeout_ceiling_ms=20_000,
    crash_timeout_ms=60_000,
)
"""For what must not happen because the machine is busy."""
SETTINGS = AgreementSettings(witness_timeout_ms=200, crash_timeout_ms=2000, startup_grace_ms=3000)


@dataclass
class Place:
    """What outlives a member's process."""

    directory: Path
    addresses: dict[MemberId, tuple[str, int]]
    settings: AgreementSettings = SETTINGS


class Member:
    """One member: core, storage, links, driver."""

    def __init__(self, place: Place, own: MemberId, *, is_restart: bool = False) -> None:
        self.own = own
        self.delivered: list[Delivery] = []
        self.events: list[Event] = []
        self.failures: list[Exception] = []
        self._storage = SqliteStableStorage(place.directory / f"{own}.db")
        recorder = Recorder().handler()
        self.channel: PeerChannel[Message] = PeerChannel(
            Message,
            ChannelHandler(self._on_messages, recorder.on_up, recorder.on_down, recorder.on_event),
            lambda handler: self._transport(place, handler),
        )
        self.driver: MemberDriver[Node] | MemberDriver[Witness] = self._driver(is_restart, place.settings)

    def _transport(self, place: Place, handler: PeerHandler) -> TlsPeerTransport:
        tls = tls_of(place.directory / "keys", self.own)
        return TlsPeerTransport(place.addresses, self.own, tls, handler, generator=random.Random(1))

    def _driver(self, is_restart: bool, settings: AgreementSettings) -> MemberDriver[Node] | MemberDriver[Witness]:
        handler = DriverHandler(self.delivered.extend, self.events.extend, self.failures.append)
        ports = {"post": self.channel.post, "flush": self.channel.flush, "handler": handler}
        identity, rng = Identity(self.own, 1), random.Random(self.own.number)
        if not self.own.is_server:
            witness = Witness.born(identity, settings, IDENTITIES, monotonic_ms())
            return MemberDriver(witness, self._storage, **ports)
        if is_restart:
            content = self._storage.scan(PREFIX, PREFIX_END)
            node = Node.recovered(identity, settings, IDENTITIES, content, rng, monotonic_ms())
        else:
            node = Node.born(identity, settings, IDENTITIES, rng, monotonic_ms())
        return AgreementDriver(node, self._storage, **ports)

    def _on_messages(self, sender: MemberId, messages: list[Message]) -> None:
        for message in messages:
            self.driver.receive(sender, message)

    @property
    def server(self) -> AgreementDriver:
        assert isinstance(self.driver, AgreementDriver)
        return self.driver

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.entry.payload for delivery in self.delivered if isinstance(delivery.entry, Entry)]

    @property
    def changes(self) -> list[object]:
        return [delivery.entry for delivery in self.delivered if not isinstance(delivery.entry, Entry)]

    async def open(self) -> None:
        await self.channel.transport.open()

    async def close(self) -> None:
        self.driver.close()
        await self.channel.transport.close()
        self._storage.close()


async def open_cell(place: Place) -> dict[MemberId, Member]:
    """Start all members; return when both servers follow the same leader."""
    members = {own: Member(place, own) for own in MEMBERS}
    for member in members.values():
        await member.open()
    zero, one = members[S0].server.core, members[S1].server.core
    await until(lambda: zero.leader is not None and zero.leader == one.leader)
    return members


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Place], Awaitable[None]]], None]:
    make_keys(tmp_path / "keys")
    place = Place(tmp_path, addresses(*MEMBERS))

    def run_scenario(scenario: Callable[[Place], Awaitable[None]]) -> None:
        async def in_loop() -> None:
            await scenario(place)

        asyncio.run(in_loop())

    return run_scenario


Runner = Callable[[Callable[[Place], Awaitable[None]]], None]


def test_both_servers_deliver_the_same_entries_in_the_same_order_and_the_witness_sleeps(run: Runner) -> None:
    async def scenario(place: Place) -> None:
        members = await open_cell(replace(place, settings=PATIENT))
        zero, one = members[S0], members[S1]
        for number in range(300):
            zero.server.propose(b"zero %d" % number)
            one.server.propose(b"one %d" % number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(zero.payloads) == 600 and len(one.payloads) == 600)
        assert zero.delivered == one.delivered
        assert [delivery.sequence for delivery in zero.delivered] == list(range(1, 601))
        for name in (b"zero", b"one"):
            assert [p for p in zero.payloads if p.startswith(name)] == [b"%s %d" % (name, n) for n in range(300)]
        for member in (zero, one):
            counters = member.driver.counters
            assert counters.witness_message_count == 0
            # Group commit: far fewer syncs than entries.
            assert 0 < counters.write_count < 300
            assert counters.write_count == counters.write_ms.count
        assert zero.driver.counters.slot_count + one.driver.counters.slot_count > 0
        for member in members.values():
            await member.close()

    run(scenario)


@pytest.mark.parametrize("is_leader_lost", [True, False])
def test_the_cell_goes_on_with_the_witness_when_a_server_is_lost(run: Runner, is_leader_lost: bool) -> None:
    async def scenario(place: Place) -> None:
        members = await open_cell(place)
        leader = members[S0].server.core.leader
        assert leader is not None
        lost = leader if is_leader_lost else next(own for own in (S0, S1) if own != leader)
        stays = next(own for own in (S0, S1) if own != lost)
        members[stays].server.propose(b"before")
        await until(lambda: len(members[lost].payloads) == 1)
        await members.pop(lost).close()
        members[stays].server.propose(b"after")
        await until(lambda: members[stays].payloads == [b"before", b"after"])
        await until(lambda: bool(members[stays].changes))
        assert members[stays].changes == [ServerLeft(lost.number, False)]
        members[stays].server.propose(b"alone")
        await until(lambda: members[stays].payloads[-1] == b"alone")
        for member in members.values():
            await member.close()

    run(scenario)


def test_a_server_that_restarts_with_its_log_catches_up(run: Runner) -> None:
    async def scenario(place: Place) -> None:
        members = await open_cell(place)
        follower = next(own for own in (S0, S1) if own != members[S0].server.core.leader)
        leader = next(own for own in (S0, S1) if own != follower)
        members[leader].server.propose(b"before")
        await until(lambda: all(len(members[own].payloads) == 1 for own in (S0, S1)))
        await members[follower].close()
        members[leader].server.propose(b"meanwhile")
        members[follower] = Member(place, follower, is_restart=True)
        await members[follower].open()
        await until(lambda: members[follower].payloads == [b"before", b"meanwhile"])
        members[follower].server.propose(b"again")
        await until(lambda: members[leader].payloads == [b"before", b"meanwhile", b"again"])
        await until(lambda: members[follower].delivered == members[leader].delivered)
        for member in members.values():
            await member.close()

    run(scenario)


def test_a_link_that_is_ended_again_and_again_loses_nothing(run: Runner) -> None:
    async def scenario(place: Place) -> None:
        members = await open_cell(place)
        zero, one = members[S0], members[S1]
        for number in range(10):
            for _ in range(10):
                one.server.propose(b"x%d" % number)
            zero.channel.transport.disconnect(S1, RefusalReason.MESSAGE, "test")
            await until(lambda: zero.channel.transport.is_up(S1) and one.channel.transport.is_up(S0))
        await until(lambda: len(zero.payloads) == 100 and len(one.payloads) == 100)
        assert zero.delivered == one.delivered
        assert zero.payloads == [b"x%d" % (number // 10) for number in range(100)]
        for member in members.values():
            await member.close()

    run(scenario)
