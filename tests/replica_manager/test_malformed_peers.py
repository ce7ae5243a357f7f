"""Peers fail only by crashing, so one that makes no sense is broken: its link ends, by name, and nothing else does."""

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from agreement.identifiers import Ballot, Identity, MemberId
from agreement.messages import Accept
from agreement.node import Node
from agreement.settings import AgreementSettings
from exec_wrapper.wire import WrapperHello
from replica_manager.control.event_log import EventLog
from replica_manager.execution.errors import LinkError
from replica_manager.execution.local_domains import DomainLink, LocalDomains
from replica_manager.identifiers import DomainId
from replica_manager.manager_core import ManagerCore
from replica_manager.ordering.agreement_driver import AgreementDriver
from replica_manager.ordering.member_driver import DriverHandler, monotonic_ms
from replica_manager.ordering.peer_channel import ChannelHandler, PeerChannel
from replica_manager.peer_messages import FetchResult, PeerMessage, StableNotice, Votes
from replica_manager.replica_server import ReplicaServer
from replica_manager.standing import Standing
from replica_manager.state_export import StateSource
from tests.ordering.peers import S0, S1, W0, Recorder
from tests.replica_manager.lockstep_cell import core_settings
from tests.simulation.fake_hypervisor import FakeHypervisor
from tests.simulation.fake_part_spool import MemorySpool
from tests.simulation.fake_peer_transport import FakePeerNetwork
from tests.simulation.fake_storage import FakeStableStorage


class OneServer:
    """The shell of server 0 with a real node, on a network in memory."""

    def __init__(self, standing: Standing = Standing.SERVING) -> None:
        self.events = EventLog(0, lambda: 0)
        self.stopped: list[str] = []
        self.network = FakePeerNetwork()
        self.server = server = ReplicaServer(
            ManagerCore(core_settings(0, 1), 0, standing), self.events, self.stopped.append, self.stopped.append
        )
        handler = ChannelHandler(server.on_peer_messages, server.on_peer_up, server.on_peer_down, server.on_peer_event)
        self.channel: PeerChannel[PeerMessage] = PeerChannel(
            PeerMessage, handler, lambda peer_handler: self.network.transport(S0, peer_handler)
        )
        members = [Identity(member, 1) for member in (S0, S1, W0)]
        node = Node.born(members[0], AgreementSettings(), members, random.Random(1), monotonic_ms())
        self.driver = AgreementDriver(
            node,
            FakeStableStorage(),
            post=self.channel.post,
            flush=self.channel.flush,
            handler=DriverHandler(server.on_deliveries, server.on_agreement_events, lambda _: None),
        )
        server.attach(self.driver, self.channel, _no_domains(server), MemorySpool(), _boot_nothing, NOWHERE)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events.since(0, 100)]


NOWHERE = StateSource("cell", 1024, lambda: "", lambda: 0)


async def _boot_nothing(_domain: DomainId) -> str | None:
    return "there are no domains here"


def _no_domains(server: ReplicaServer) -> LocalDomains:
    loop = asyncio.get_running_loop()

    def call_soon(_delay_s: float, action: Callable[[], None]) -> None:
        loop.call_soon(action)

    async def connect(*_: object) -> tuple[DomainLink, WrapperHello]:
        raise LinkError("there are no domains here")

    return LocalDomains(FakeHypervisor(time.monotonic, call_soon), connect, server, 0.25)


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (S1, Accept(1, 1, Ballot(1, S1), 0, 0, -1, b"\xc1 no batch")),
        (W0, FetchResult(1, b"d" * 32)),
    ],
    ids=["a batch that is none", "a manager's message of a witness"],
)
def test_a_message_that_makes_no_sense_ends_its_link_and_nothing_else(sender: MemberId, message: PeerMessage) -> None:
    """A named event, no exception in the loop; the link may come up again."""

    async def scenario() -> OneServer:
        one = OneServer()
        await one.channel.transport.open()
        await one.network.transport(sender, Recorder().handler()).open()
        one.network.step()
        one.server.on_peer_messages(sender, [message])
        assert not one.channel.transport.is_up(sender)
        one.network.step()
        assert one.channel.transport.is_up(sender)
        one.driver.close()
        return one

    one = asyncio.run(scenario())
    assert one.kinds() == ["peer_up", "peer_refused", "peer_down", "peer_up"]
    assert one.stopped == []


@pytest.mark.parametrize("message", [Votes, StableNotice])
def test_digests_that_do_not_fit_their_numbers_are_malformed(message: type[Votes] | type[StableNotice]) -> None:
    """A shorter digest would count as a vote for something that nobody can have."""
    values = ("s1.g1", [1], b"d" * 31) if message is Votes else ([1], b"d" * 31)
    with pytest.raises(ValueError, match="31 bytes of digests for 1 sequence numbers"):
        message(*values)  # type: ignore[arg-type]
