"""Whatever a domain says, its manager goes on: the domain is taken out, by name, and the others serve."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement.changes import Entry
from exec_wrapper.wire import Executed, FromWrapper, Pong, StateSet, WrapperHello
from replica_manager.cell.entries import RecoveryPoint, encode_entry
from replica_manager.cell.roles import Role
from replica_manager.execution.errors import LinkError
from replica_manager.execution.feed import PowerAction
from replica_manager.execution.local_domains import DomainLink, LocalDomains
from replica_manager.hypervisor.hypervisor import DomainSpec, DomainState
from replica_manager.identifiers import DomainId
from replica_manager.intake.port import Outcome
from replica_manager.manager_core import ManagerCore
from tests.exec_wrapper.message_strategies import from_wrapper
from tests.replica_manager.lockstep_cell import LockstepCell, RecordingSink, core_settings
from tests.simulation.fake_hypervisor import FakeHypervisor

BAD = DomainId("s0.g1")
FAR = 2**64 - 1


def kinds(cell: LockstepCell) -> list[str]:
    return [kind for server, kind, _ in cell.events if server == 0]


def serves(cell: LockstepCell) -> bool:
    """Whether a new client gets an answer."""
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.submit(1, sink, client, 1, b"set a 1")
    return [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]


@given(st.lists(from_wrapper, min_size=1, max_size=8))
def test_frames_that_nobody_asked_for_take_the_domain_out_and_the_cell_serves_on(frames: list[FromWrapper]) -> None:
    """Containment: no sequence of well-formed frames of a domain harms its manager."""
    cell = LockstepCell(1)
    cell.cores[0].on_domain_frames(BAD, frames, 0)
    cell.settle()
    assert kinds(cell).count("domain_misbehaved") == 1
    assert cell.cores[0].cell.domains[BAD].role is Role.RETIRED
    assert serves(cell)


@given(st.lists(from_wrapper, max_size=8), st.sampled_from(["set a 1", "get a"]))
def test_frames_behind_a_lie_do_no_more_harm_than_the_lie(frames: list[FromWrapper], command: str) -> None:
    """The same of a domain that was asked something: its answer reaches nobody, it is taken out and replaced."""
    cell = LockstepCell(1)
    sink = RecordingSink()
    client = cell.open_client(1, sink)
    cell.muted.add(BAD)
    cell.submit(1, sink, client, 1, command.encode())
    executing = cell.cores[0].feeds[BAD].executing[0]
    cell.cores[0].on_domain_frames(BAD, [Executed(executing, b"lie", b""), *frames], 0)
    cell.settle()
    assert all(reply != b"lie" for _, _, _, reply in sink.replies)
    assert [outcome for _, _, outcome, _ in sink.replies] == [Outcome.ANSWERED]
    assert cell.cores[0].cell.domains[BAD].role is Role.RETIRED
    assert frames or not cell.cores[0].cell.is_counted(BAD), "a lie alone convicts"
    assert kinds(cell).count("domain_misbehaved") == (1 if frames else 0)


@pytest.mark.parametrize("cursor", [0, 2, 3, FAR])
def test_a_cursor_beyond_the_order_is_no_cursor(cursor: int) -> None:
    """A domain that claimed to be ahead of everything would break what its feed relies on at the next checkpoint."""
    core = ManagerCore(core_settings(0, 1), 0)
    core.on_domain_linked(BAD, WrapperHello(b"e" * 16, cursor, 1, True, "s", "1", "i"))
    assert [event.kind for event in core.take_output().events] == ["domain_misbehaved", "domain_gone"]


def test_a_cursor_beyond_a_position_at_which_its_state_is_wanted_is_no_cursor() -> None:
    """Booting while a checkpoint waits, a liar cannot claim to have passed it."""
    core = ManagerCore(core_settings(0, 1), 0)
    for sequence in (1, 2, 3):
        core.deliver(sequence, Entry(0, 1, sequence, encode_entry(RecoveryPoint("checkpoint", sequence - 1, 7))))
    core.on_domain_linked(BAD, WrapperHello(b"e" * 16, 2, 1, True, "s", "1", "i"))
    assert "domain_misbehaved" in [event.kind for event in core.take_output().events]


def test_what_a_domain_still_sends_after_its_end_is_not_told_again() -> None:
    """One end, one event."""
    cell = LockstepCell(1)
    for frame in (Pong(1), StateSet(1), Pong(2)):
        cell.cores[0].on_domain_frames(BAD, [frame], 0)
    cell.settle()
    assert kinds(cell).count("domain_misbehaved") == 1


# -- at boot ---------------------------------------------------------------------------------------------------


class Heard:
    """A `DomainHandler` that records."""

    def __init__(self) -> None:
        self.gone: list[tuple[DomainId, str]] = []
        self.linked: list[DomainId] = []

    def on_domain_linked(self, domain: DomainId, hello: WrapperHello) -> None:
        self.linked.append(domain)

    def on_domain_frames(self, domain: DomainId, frames: Sequence[FromWrapper]) -> None:
        raise AssertionError("nobody sends here")

    def on_domain_gone(self, domain: DomainId, reason: str) -> None:
        self.gone.append((domain, reason))

    def on_power_done(self, domain: DomainId, action: PowerAction) -> None:
        """Not asked for here."""

    def on_domain_event(self, kind: str, domain: DomainId, **data: Any) -> None:
        """Of no interest here."""


class SilentLink:
    """A link that carries nothing."""

    def send(self, message: object) -> None:
        """Lose it."""

    def close(self) -> None:
        """End."""


def test_a_domain_whose_wrapper_never_makes_sense_does_not_keep_the_server_from_starting(tmp_path: Path) -> None:
    """One bad image must not be the end of a server: the domain counts as stopped, the next one boots."""

    async def connect(spec: DomainSpec, *_: object) -> tuple[DomainLink, WrapperHello]:
        if spec.domain_id == BAD:
            raise LinkError("no wrapper at a: no_echo: many bytes")
        return SilentLink(), WrapperHello(b"e" * 16, 1, 1, True, "s", "1", "i")

    async def scenario() -> Heard:
        heard = Heard()
        loop = asyncio.get_running_loop()

        def call_soon(_delay_s: float, action: Callable[[], None]) -> None:
            loop.call_soon(action)

        hypervisor = FakeHypervisor(time.monotonic, call_soon)
        domains = LocalDomains(hypervisor, connect, heard, 0.25)
        await domains.open(keep_disks=False)
        for name in (BAD, DomainId("s0.g2")):
            paths = (tmp_path / f"{name}.channel", tmp_path / name, tmp_path / f"{name}.console")
            await domains.start(DomainSpec(name, "i", *paths))
        assert (await domains.observe())[BAD].state is DomainState.RUNNING, "retiring it is ordered, not done at once"
        await domains.close()
        return heard

    heard = asyncio.run(scenario())
    assert heard.gone == [(BAD, "no wrapper at a: no_echo: many bytes")]
    assert heard.linked == ["s0.g2"]


@pytest.mark.parametrize(
    ("names", "known"), [(["shop", "shop"], "shop"), (["shop", "evil"], ""), (["shop", ""], ""), ([], "")]
)
def test_the_service_has_a_name_if_no_domain_here_contradicts_it(tmp_path: Path, names: list[str], known: str) -> None:
    """It stands in exported files, and one of the domains may lie."""
    left = iter(names)

    async def connect(*_: object) -> tuple[DomainLink, WrapperHello]:
        return SilentLink(), WrapperHello(b"e" * 16, 1, 1, True, next(left), "1", "i")

    async def scenario() -> str:
        loop = asyncio.get_running_loop()

        def call_soon(_delay_s: float, action: Callable[[], None]) -> None:
            loop.call_soon(action)

        domains = LocalDomains(FakeHypervisor(time.monotonic, call_soon), connect, Heard(), 0.25)
        await domains.open(keep_disks=False)
        for number in range(len(names)):
            paths = (tmp_path / f"{number}.channel", tmp_path / f"{number}", tmp_path / f"{number}.console")
            await domains.start(DomainSpec(DomainId(f"s0.g{number + 1}"), "i", *paths))
        service = domains.service()
        await domains.close()
        return service

    assert asyncio.run(scenario()) == known


def test_a_domain_that_is_retired_twice_is_destroyed_once(tmp_path: Path) -> None:
    """1. It stops.  2. A late vote of its convicts it while it is being destroyed.  The second order finds nothing."""

    async def connect(*_: object) -> tuple[DomainLink, WrapperHello]:
        return SilentLink(), WrapperHello(b"e" * 16, 1, 1, True, "s", "1", "i")

    class Counting(Heard):
        ended = 0

        def on_power_done(self, domain: DomainId, action: PowerAction) -> None:
            self.ended += action is PowerAction.DESTROY

    async def scenario() -> int:
        heard = Counting()
        loop = asyncio.get_running_loop()

        def call_soon(_delay_s: float, action: Callable[[], None]) -> None:
            loop.call_soon(action)

        domains = LocalDomains(FakeHypervisor(time.monotonic, call_soon), connect, heard, 0.25)
        await domains.open(keep_disks=False)
        await domains.start(DomainSpec(BAD, "i", tmp_path / "a", tmp_path / "b", tmp_path / "c"))
        failures: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _loop, context: failures.append(context))
        for _ in range(2):
            domains.power(BAD, PowerAction.DESTROY)
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0)
        await domains.close()
        assert failures == []
        return heard.ended

    assert asyncio.run(scenario()) == 1
