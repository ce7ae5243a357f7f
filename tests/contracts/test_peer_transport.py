"""The contract of `PeerTransport`, run against the fake and against TLS over loopback."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from agreement.identifiers import MemberId
from replica_manager.ordering.errors import RefusalReason
from replica_manager.ordering.peer_port import PeerRefused, PeerTransport, QueueOverflowed, ResyncNeeded
from tests.ordering.peers import S0, S1, W0, Recorder, addresses, make_keys, make_transport, until
from tests.simulation.fake_peer_transport import FakePeerNetwork

MEMBERS = (S0, S1, W0)
QUEUE_BYTES_MAX = 4 * 1024 * 1024


class World(Protocol):
    """Where the transports of a test live."""

    def make(self, own: MemberId, recorder: Recorder) -> PeerTransport: ...
    async def until(self, condition: Callable[[], bool]) -> None: ...
    async def starve(self, member: MemberId, is_slow: bool) -> None: ...


class FakeWorld:
    def __init__(self, _: Path) -> None:
        self._network = FakePeerNetwork(QUEUE_BYTES_MAX)

    def make(self, own: MemberId, recorder: Recorder) -> PeerTransport:
        return self._network.transport(own, recorder.handler())

    async def until(self, condition: Callable[[], bool]) -> None:
        self._network.settle()
        assert condition()

    async def starve(self, member: MemberId, is_slow: bool) -> None:
        self._network.slow(member, is_slow)


class TlsWorld:
    def __init__(self, directory: Path) -> None:
        self._directory = make_keys(directory / "keys")
        self._addresses = addresses(*MEMBERS)
        self._transports: dict[MemberId, PeerTransport] = {}

    def make(self, own: MemberId, recorder: Recorder) -> PeerTransport:
        transport = make_transport(own, self._addresses, self._directory, recorder, queue_bytes_max=QUEUE_BYTES_MAX)
        self._transports[own] = transport
        return transport

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)

    async def starve(self, member: MemberId, is_slow: bool) -> None:
        """Keep the member's event loop from reading its sockets."""
        for peer in self._transports[member]._peers.values():  # type: ignore[attr-defined]
            if peer.connection is not None:
                stream = peer.connection._transport
                (stream.pause_reading if is_slow else stream.resume_reading)()


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture(params=[FakeWorld, TlsWorld])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    """Run a scenario in each world."""

    def run_scenario(scenario: Scenario) -> None:
        async def in_world() -> None:
            await scenario(request.param(tmp_path))

        asyncio.run(in_world())

    return run_scenario


async def open_pair(world: World) -> tuple[PeerTransport, PeerTransport, Recorder, Recorder]:
    """Two servers whose link is up."""
    first, second = Recorder(), Recorder()
    transports = world.make(S0, first), world.make(S1, second)
    for transport in transports:
        await transport.open()
    await world.until(lambda: transports[0].is_up(S1) and transports[1].is_up(S0))
    return *transports, first, second


def test_frames_arrive_in_order_and_whole(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        zero, one, first, second = await open_pair(world)
        frames = [bytes([number % 251]) * (1 + number * 37 % 5000) for number in range(300)]
        for frame in frames:
            zero.send(S1, frame)
            one.send(S0, frame[:1])
        zero.flush()
        one.flush()
        await world.until(lambda: len(second.frames.get(S0, [])) == 300 and len(first.frames.get(S1, [])) == 300)
        assert second.frames[S0] == frames
        assert first.frames[S1] == [frame[:1] for frame in frames]
        assert one.counters.received_frame_count == zero.counters.sent_frame_count == 300
        await zero.close()
        await one.close()

    run(scenario)


def test_a_large_frame_arrives(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        zero, one, _, second = await open_pair(world)
        frame = bytes(range(256)) * 4096
        zero.send(S1, frame)
        zero.flush()
        await world.until(lambda: bool(second.frames.get(S0)))
        assert second.frames[S0] == [frame]
        await zero.close()
        await one.close()

    run(scenario)


def test_every_pair_of_three_members_has_one_link(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        recorders = {member: Recorder() for member in MEMBERS}
        transports = {member: world.make(member, recorders[member]) for member in MEMBERS}
        for transport in transports.values():
            await transport.open()
        await world.until(
            lambda: all(transports[own].is_up(other) for own in MEMBERS for other in MEMBERS if own != other)
        )
        for own in MEMBERS:
            assert sorted(recorders[own].log) == [("up", other) for other in sorted(MEMBERS) if other != own]
            assert transports[own].counters.link_count == 2
        for transport in transports.values():
            await transport.close()

    run(scenario)


def test_a_frame_to_a_member_that_is_down_is_counted_and_lost(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        recorder = Recorder()
        transport = world.make(S0, recorder)
        await transport.open()
        transport.send(S1, b"lost")
        assert not transport.is_up(S1)
        assert transport.counters.dropped_frame_count == 1
        await transport.close()

    run(scenario)


def test_a_member_that_restarts_is_reported_down_and_up_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        zero, one, first, _ = await open_pair(world)
        await one.close()
        await world.until(lambda: first.log == [("up", S1), ("down", S1)])
        recorder = Recorder()
        again = world.make(S1, recorder)
        await again.open()
        await world.until(lambda: first.log == [("up", S1), ("down", S1), ("up", S1)] and again.is_up(S0))
        zero.send(S1, b"hello again")
        zero.flush()
        await world.until(lambda: recorder.frames.get(S0) == [b"hello again"])
        await again.close()
        await zero.close()

    run(scenario)


def test_disconnect_names_the_reason_and_the_link_comes_back(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        zero, one, first, second = await open_pair(world)
        zero.disconnect(S1, RefusalReason.MESSAGE, "no such tag")
        refused = [event for event in first.events if isinstance(event, PeerRefused)]
        assert [(event.member, event.reason, event.detail) for event in refused] == [
            (S1, RefusalReason.MESSAGE, "no such tag")
        ]
        await world.until(lambda: second.log == [("up", S0), ("down", S0), ("up", S0)] and zero.is_up(S1))
        assert first.log == [("up", S1), ("down", S1), ("up", S1)]
        await zero.close()
        await one.close()

    run(scenario)


def test_a_slow_member_costs_its_oldest_frames_and_is_told_to_be_resynchronised(
    run: Callable[[Scenario], None],
) -> None:
    """The queue is bounded; overflow is one event when it begins and one when everything left has been sent."""

    async def scenario(world: World) -> None:
        zero, one, first, second = await open_pair(world)
        await world.starve(S1, True)
        frame_count = 64
        for number in range(frame_count):
            zero.send(S1, bytes([number]) * 512 * 1024)
            zero.flush()
            await asyncio.sleep(0)
        assert first.events == [QueueOverflowed(S1, QUEUE_BYTES_MAX)]
        await world.starve(S1, False)
        await world.until(lambda: len(first.events) == 2)
        resync = first.events[1]
        assert isinstance(resync, ResyncNeeded)
        zero.send(S1, b"end")
        zero.flush()
        await world.until(lambda: second.frames[S0][-1] == b"end")
        numbers = [frame[0] for frame in second.frames[S0][:-1]]
        assert numbers == sorted(numbers)
        assert numbers[-1] == frame_count - 1
        assert len(numbers) == frame_count - resync.dropped_frame_count
        await zero.close()
        await one.close()

    run(scenario)


def test_close_is_idempotent_and_reports_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        zero, one, first, second = await open_pair(world)
        await zero.close()
        await zero.close()
        await one.close()
        await one.close()
        assert first.log == [("up", S1)]
        assert not second.events

    run(scenario)
