"""A first domain counts as linked when it holds the imported state, and says so itself."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from exec_wrapper.wire import (
    Failed,
    FromWrapper,
    NextPart,
    Pong,
    SetPart,
    StatePart,
    Sync,
    Synced,
    ToWrapper,
    WrapperHello,
)
from replica_manager.execution.errors import LinkError
from replica_manager.hypervisor.hypervisor import DomainSpec
from replica_manager.identifiers import DomainId
from replica_manager.recovery.filling import PARTS_IN_FLIGHT
from replica_manager.state_files.errors import StateFileDamaged, StateFileError, StateNotTaken, StateUnfit
from replica_manager.state_files.state_file import StateHead, read_state_file
from replica_manager.state_import import StateImport
from tests.simulation.fake_domain import FakeDomain
from tests.state_files.memory_file import Bytes, file_of

FIRST, LATER = DomainId("s0.g1"), DomainId("s0.g3")
HEAD = StateHead("shop", "registers", 1, 1000, 777, 0)
ROWS = {b"key-%02d" % number: b"value %d" % number for number in range(60)}


def parts() -> list[bytes]:
    domain = FakeDomain("donor")
    domain.rows = dict(ROWS)
    return [part.data for part in domain._state(777)]


class FakeLink:
    """A domain behind a `DomainLink`; answers come in a later turn of the loop, as over a channel."""

    def __init__(self, domain: FakeDomain, on_frames: Callable[[Sequence[FromWrapper]], None]) -> None:
        self.domain = domain
        self.sent: list[ToWrapper] = []
        self.is_closed = False
        self.in_flight_max = self._in_flight = 0
        self._on_frames = on_frames

    def send(self, message: ToWrapper) -> None:
        self.sent.append(message)
        self._in_flight += isinstance(message, SetPart)
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        asyncio.get_running_loop().call_soon(self._answer, message)

    def _answer(self, message: ToWrapper) -> None:
        answers = self.domain.receive(message)
        self._in_flight -= sum(isinstance(answer, Pong) for answer in answers)
        if answers:
            self._on_frames(answers)

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """One import into one domain."""

    def __init__(self, domain: FakeDomain | None = None, content: bytes | None = None, patience_s: float = 5.0) -> None:
        self.domain = domain or FakeDomain(FIRST)
        self.file = Bytes(content or file_of(parts(), HEAD))
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.handed_on: list[FromWrapper] = []
        self.ends: list[str] = []
        self.hello = self.domain.hello()
        self.end: Callable[[str], None] = lambda _reason: None
        self._patience_s = patience_s
        state = read_state_file(self.file, "f")
        self.importing = StateImport(state, "f", [FIRST], self._connect, patience_s, self._record)

    def _record(self, kind: str, data: dict[str, Any]) -> None:
        self.events.append((kind, data))

    async def _connect(
        self, _spec: DomainSpec, on_frames: Callable[[Sequence[FromWrapper]], None], on_closed: Callable[[str], None]
    ) -> tuple[FakeLink, WrapperHello]:
        self.link, self.end = FakeLink(self.domain, on_frames), on_closed
        return self.link, self.hello

    async def connect(self, domain: DomainId = FIRST) -> None:
        spec = DomainSpec(domain_id=domain, image="", channel_path=Path(), disk_path=Path(), console_path=Path())
        await self.importing.connect(spec, self.handed_on.extend, self.ends.append)

    def failure(self) -> StateFileError:
        """Connect in vain: the link is closed, and nobody was told that the domain holds the state."""
        with pytest.raises(StateFileError) as raised:
            asyncio.run(self.connect())
        assert self.link.is_closed
        assert self.events == []
        assert self.handed_on == []
        assert self.importing.report() is None
        return raised.value


def test_a_domain_is_filled_made_durable_and_compared() -> None:
    """In this order; no more parts are on their way than a repair would send."""
    bench = Bench()
    asyncio.run(bench.connect())
    assert bench.domain.rows == ROWS
    assert (bench.domain.disk.rows, bench.domain.disk.cursor) == (ROWS, 1)
    kinds = [type(frame).__name__ for frame in bench.link.sent]
    assert kinds[0] == "SetState"
    assert kinds[kinds.index("Sync") :] == ["Sync", "TakeState", "NextPart", *["NextPart"] * (len(parts()) - 1)]
    assert bench.link.in_flight_max <= PARTS_IN_FLIGHT
    ((kind, data),) = bench.events
    assert (kind, data["domain"], data["file"], data["parts"]) == ("state_imported", FIRST, "f", len(parts()))
    assert not bench.link.is_closed
    assert bench.domain.previous == 0, "the feed begins at number 1"


def test_what_comes_afterwards_is_handed_on() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.connect()
        bench.link.send(Sync())
        await asyncio.sleep(0.01)
        bench.end("gone")

    bench = Bench()
    asyncio.run(scenario(bench))
    assert bench.handed_on == [Synced(1)]
    assert bench.ends == ["gone"]


def test_a_later_domain_is_connected_as_it_is() -> None:
    """A repair fills it, with what is agreed then."""
    bench = Bench()
    asyncio.run(bench.connect(LATER))
    assert bench.link.sent == []
    assert bench.events == []


def test_the_progress_is_told() -> None:
    async def scenario(bench: Bench) -> list[Any]:
        told = []
        connecting = asyncio.ensure_future(bench.connect())
        while not connecting.done():
            told.append(bench.importing.report())
            await asyncio.sleep(0)
        return told

    told = [report for report in asyncio.run(scenario(Bench())) if report]
    assert told[0] == {"domain": FIRST, "parts": 0, "parts_total": len(parts())}
    assert [report["parts"] for report in told] == sorted(report["parts"] for report in told)
    assert told[-1]["parts"] > 2


class LosesARow(FakeDomain):
    """Says that all is well."""

    def _set_part(self, frame: SetPart) -> list[FromWrapper]:
        answers = super()._set_part(frame)
        self.rows.pop(b"key-17", None)
        return answers


class EndsItsStateEarly(FakeDomain):
    """Everything up to there is right."""

    def _next_parts(self, count: int) -> list[FromWrapper]:
        return [part._replace(is_last=True) for part in super()._next_parts(1) if isinstance(part, StatePart)]


class GivesUp(FakeDomain):
    """At the third part."""

    def _set_part(self, frame: SetPart) -> list[FromWrapper]:
        return [Failed("no space left on device")] if frame.index == 2 else super()._set_part(frame)


class IsSilent(FakeDomain):
    """Takes nothing in."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        return []


class SyncsNothing(FakeDomain):
    """Its disk is behind."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        return [Synced(0)] if isinstance(frame, Sync) else super().receive(frame)


class MixesUp(FakeDomain):
    """Counts its answers wrongly."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        answers = super().receive(frame)
        return [Pong(answer.token + 1) if isinstance(answer, Pong) else answer for answer in answers]


class GivesPartsOutOfOrder(FakeDomain):
    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        answers = super().receive(frame)
        return answers[::-1] if isinstance(frame, NextPart) else answers


class TalksOn(FakeDomain):
    """Behind its last part."""

    def receive(self, frame: ToWrapper) -> list[FromWrapper]:
        answers = super().receive(frame)
        is_last = bool(answers) and isinstance(answers[-1], StatePart) and answers[-1].is_last
        return [*answers, Synced(1)] if is_last else answers


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (LosesARow, "part 3 that it gives back is another one than it was given"),
        (EndsItsStateEarly, "part 1 that it gives back is another one than it was given"),
        (GivesUp, "its wrapper gave up: no space left on device"),
        (IsSilent, "it answers nothing for 0.05 s"),
        (SyncsNothing, "it does not make the state durable"),
        (MixesUp, "it answers Pong out of turn"),
        (GivesPartsOutOfOrder, "expected 0 of 1"),
        (TalksOn, "it says what it was not asked: Synced(cursor=1)"),
    ],
)
def test_a_domain_that_does_not_take_it_is_named_with_its_reason(kind: type[FakeDomain], words: str) -> None:
    """Nobody has been told anything by it yet."""
    failure = Bench(kind(FIRST), patience_s=0.05 if kind is IsSilent else 5.0).failure()
    assert isinstance(failure, StateNotTaken)
    assert str(failure).startswith(f"domain {FIRST} does not take the state: ")
    assert words in str(failure)


def test_a_domain_that_ends_meanwhile_is_told_from_one_that_hangs() -> None:
    async def scenario(bench: Bench) -> None:
        connecting = asyncio.ensure_future(bench.connect())
        await asyncio.sleep(0.01)
        bench.end("link_closed: end of file")
        await connecting

    bench = Bench(IsSilent(FIRST))
    with pytest.raises(StateNotTaken, match="its channel ended: link_closed: end of file"):
        asyncio.run(scenario(bench))
    assert bench.ends == []


def test_a_state_of_another_service_is_refused_before_it_is_sent() -> None:
    """If the file says of which it is."""
    other = StateHead("shop", "rubis", 1, 1000, 777, 0)
    bench = Bench(content=file_of(parts(), other))
    failure = bench.failure()
    assert isinstance(failure, StateUnfit)
    assert str(failure) == "f is a state of the service rubis, the domains run registers"
    assert bench.link.sent == []
    unknown = Bench(content=file_of(parts(), StateHead("shop", "", 1, 1000, 777, 0)))
    asyncio.run(unknown.connect())
    assert unknown.domain.rows == ROWS


@pytest.mark.parametrize("change", [{"cursor": 2}, {"state_format": 2}])
def test_a_domain_that_is_not_new_or_speaks_another_format_is_refused(change: dict[str, int]) -> None:
    bench = Bench()
    bench.hello = bench.hello._replace(**change)  # type: ignore[arg-type]
    assert "it says cursor" in str(bench.failure())


def test_a_file_that_changes_while_it_is_imported_is_refused() -> None:
    """It was whole when the start began."""
    bench = Bench()
    bench.file.data = bench.file.data.replace(b"key-17 value", b"key-17 VALUE")
    failure = bench.failure()
    assert isinstance(failure, StateFileDamaged)
    assert (failure.part, str(failure)) == (3, f"f: part 3 of {len(parts())} was changed while it was imported")


def test_a_domain_that_cannot_be_connected_is_the_other_links_affair() -> None:
    bench = Bench()

    async def connect(*_: object) -> tuple[FakeLink, WrapperHello]:
        raise LinkError("no wrapper answers")

    bench.importing._connect = connect
    with pytest.raises(LinkError):
        asyncio.run(bench.connect())
    assert bench.importing.report() is None
