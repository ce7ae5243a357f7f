"""Codec and transport put together, over the fake network."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import RefusalReason
from replica_manager.ordering.peer_channel import ChannelHandler, PeerChannel
from replica_manager.ordering.peer_port import PeerRefused
from tests.ordering.peers import S0, S1, W0, Recorder
from tests.simulation.fake_peer_transport import FakePeerNetwork


class Say(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    words: str


class Ends:
    """Channels of some members on one fake network."""

    def __init__(self, *members: MemberId) -> None:
        self.network = FakePeerNetwork()
        self.heard: dict[MemberId, list[tuple[MemberId, str]]] = {member: [] for member in members}
        self.recorders = {member: Recorder() for member in members}
        self.channels = {member: self._channel(member) for member in members}

    def _channel(self, own: MemberId) -> PeerChannel[Say]:
        recorder = self.recorders[own].handler()
        handler = ChannelHandler[Say](
            on_messages=lambda member, says: self.heard[own].extend((member, say.words) for say in says),
            on_up=recorder.on_up,
            on_down=recorder.on_down,
            on_event=recorder.on_event,
        )
        return PeerChannel(Say, handler, lambda peer_handler: self.network.transport(own, peer_handler))

    async def open(self) -> None:
        for channel in self.channels.values():
            await channel.transport.open()
        self.network.settle()


def run(members: tuple[MemberId, ...], scenario: Callable[[Ends], Awaitable[None]]) -> None:
    async def in_loop() -> None:
        ends = Ends(*members)
        await ends.open()
        await scenario(ends)

    asyncio.run(in_loop())


def test_messages_of_one_iteration_are_one_frame_per_member() -> None:
    async def scenario(ends: Ends) -> None:
        hello = Say("hello")
        for member in (S1, W0, S1):
            ends.channels[S0].post(member, hello)
        ends.channels[S0].post(S1, Say("more"))
        await asyncio.sleep(0)
        ends.network.settle()
        assert ends.heard[S1] == [(S0, "hello"), (S0, "hello"), (S0, "more")]
        assert ends.heard[W0] == [(S0, "hello")]
        assert ends.channels[S0].transport.counters.sent_frame_count == 2

    run((S0, S1, W0), scenario)


def test_flush_sends_at_once_and_only_once() -> None:
    async def scenario(ends: Ends) -> None:
        channel = ends.channels[S0]
        channel.post(S1, Say("now"))
        channel.flush()
        ends.network.settle()
        assert ends.heard[S1] == [(S0, "now")]
        channel.flush()
        await asyncio.sleep(0)
        ends.network.settle()
        assert ends.heard[S1] == [(S0, "now")]

    run((S0, S1), scenario)


def test_a_frame_that_makes_no_sense_ends_the_link_after_the_good_ones_before_it() -> None:
    async def scenario(ends: Ends) -> None:
        transport = ends.channels[S0].transport
        good = msgspec.msgpack.encode([Say("good")])
        for frame in (good, b"\xc1", good):
            transport.send(S1, frame)
        transport.flush()
        ends.network.settle()
        assert ends.heard[S1] == [(S0, "good")]
        (event,) = ends.recorders[S1].events
        assert isinstance(event, PeerRefused)
        assert (event.member, event.reason) == (S0, RefusalReason.MESSAGE)
        assert ends.recorders[S0].log == [("up", S1), ("down", S1), ("up", S1)]

    run((S0, S1), scenario)
