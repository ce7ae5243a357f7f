"""Fills the first domains of a new cell with a state from a file, before they count as linked.

Each gets the parts as a fresh domain of a repair does, makes them durable, and gives its state back: what its service
holds then, and not what it was told, is compared with the file.  So no client can have been told anything yet when a
domain turns out to hold something else.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from exec_wrapper.wire import (
    Failed,
    FromWrapper,
    NextPart,
    Pong,
    StatePart,
    StateSet,
    Sync,
    Synced,
    TakeState,
    WrapperHello,
)
from replica_manager.execution.domain_answers import STATE_CREDIT
from replica_manager.execution.local_domains import ConnectLink, DomainLink
from replica_manager.hypervisor.hypervisor import DomainSpec
from replica_manager.identifiers import DomainId
from replica_manager.recovery.filling import Filling
from replica_manager.recovery.state_digests import StateOrderError, StateReader
from replica_manager.state_files.errors import StateFileDamaged, StateNotTaken
from replica_manager.state_files.fitting import require_service
from replica_manager.state_files.state_file import IMPORT_POINT, StateFile


class StateImport:
    """A `ConnectLink` around another one."""

    def __init__(
        self,
        state: StateFile,
        name: str,
        first: Collection[DomainId],
        connect: ConnectLink,
        patience_s: float,
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Fill `first` domains from `state`.

        Args:
            state: a file that was read and is whole; it stays open.
            name: of the file, for errors and events.
            first: domains to be filled; any other one is connected as it is.
            connect: connects a domain.
            patience_s: how long a domain may take for its next answer.
            record: records an event.
        """
        self._state = state
        self._name = name
        self._first = first
        self._connect = connect
        self._patience_s = patience_s
        self._record = record
        self._domain: DomainId | None = None
        self._filling: Filling | None = None

    def report(self) -> dict[str, Any] | None:
        """Return how far the domain is that is filled now; None: none is."""
        if self._domain is None:
            return None
        parts = 0 if self._filling is None else self._filling.progress[0]
        return {"domain": self._domain, "parts": parts, "parts_total": self._state.part_count}

    async def connect(
        self, spec: DomainSpec, on_frames: Callable[[Sequence[FromWrapper]], None], on_closed: Callable[[str], None]
    ) -> tuple[DomainLink, WrapperHello]:
        """Connect a domain, and return when it holds the state.

        Raises:
            LinkError: as the other `ConnectLink` does.
            StateUnfit: the service is another one.
            StateNotTaken: the domain does not take it in, or gives another one back.
            StateFileDamaged: the file was changed meanwhile.
        """
        if spec.domain_id not in self._first:
            return await self._connect(spec, on_frames, on_closed)
        talk = _Talk(spec.domain_id, self._patience_s, on_frames, on_closed)
        link, hello = await self._connect(spec, talk.on_frames, talk.on_closed)
        self._domain = spec.domain_id
        try:
            await self._import(talk, link, hello)
            talk.end()
            data = {"domain": talk.domain, "file": self._name, "parts": self._state.part_count}
            self._record("state_imported", {**data, "digest": self._state.content_digest.hex()})
        except BaseException:
            link.close()
            raise
        finally:
            self._domain = self._filling = None
        return link, hello

    async def _import(self, talk: "_Talk", link: DomainLink, hello: WrapperHello) -> None:
        head = self._state.head
        require_service(self._state, self._name, hello.service)
        if hello.cursor != IMPORT_POINT or hello.state_format != head.state_format:
            raise talk.failure(f"it says cursor {hello.cursor} and state format {hello.state_format}")
        await self._fill(talk, link)
        link.send(Sync())
        if await talk.next() != Synced(IMPORT_POINT):
            raise talk.failure("it does not make the state durable")
        await self._compare(talk, link)

    async def _fill(self, talk: "_Talk", link: DomainLink) -> None:
        state, domain = self._state, talk.domain
        digests = state.part_digests
        self._filling = filling = Filling(domain, IMPORT_POINT, state.head.state_format, digests, lambda _: (domain,))
        filling.is_whole = True
        while not filling.is_set:
            for index, _ in filling.wanted():
                if not filling.take(index, await asyncio.to_thread(state.part, index)):
                    what = f"part {index + 1} of {state.part_count} was changed while it was imported"
                    raise StateFileDamaged(self._name, what, index + 1)
            for frame in filling.frames():
                link.send(frame)
            answer = await talk.next()
            is_pong = isinstance(answer, Pong) and filling.on_pong(answer.token)
            if not is_pong and not (isinstance(answer, StateSet) and filling.on_set(answer.point)):
                raise talk.failure(f"it answers {type(answer).__name__} out of turn")

    async def _compare(self, talk: "_Talk", link: DomainLink) -> None:
        reader = StateReader(IMPORT_POINT)
        link.send(TakeState(IMPORT_POINT - 1, IMPORT_POINT, self._state.head.state_format))
        link.send(NextPart(STATE_CREDIT))
        while not reader.is_complete:
            part = await talk.next()
            if not isinstance(part, StatePart):
                raise talk.failure(f"it answers {type(part).__name__} out of turn")
            try:
                reader.take(part)
            except StateOrderError as error:
                raise talk.failure(str(error)) from error
            if reader.part_digests != self._state.part_digests[: len(reader.part_digests)]:
                raise talk.failure(f"part {part.index + 1} that it gives back is another one than it was given")
            if not part.is_last:
                link.send(NextPart(1))


class _Talk:
    """What one domain says before it is linked, one frame at a time; afterwards it is handed on."""

    def __init__(
        self,
        domain: DomainId,
        patience_s: float,
        on_frames: Callable[[Sequence[FromWrapper]], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self.domain = domain
        self.is_over = False
        self._patience_s = patience_s
        self._hand_on = on_frames
        self._hand_end_on = on_closed
        self._heard: asyncio.Queue[FromWrapper | str] = asyncio.Queue()

    def on_frames(self, frames: Sequence[FromWrapper]) -> None:
        if self.is_over:
            self._hand_on(frames)
            return
        for frame in frames:
            self._heard.put_nowait(frame)

    def on_closed(self, reason: str) -> None:
        if self.is_over:
            self._hand_end_on(reason)
        else:
            self._heard.put_nowait(reason)

    async def next(self) -> FromWrapper:
        """Return the next frame.

        Raises:
            StateNotTaken: none comes in time, or never.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                heard = await self._heard.get()
        except TimeoutError as error:
            raise self.failure(f"it answers nothing for {self._patience_s:g} s") from error
        if isinstance(heard, str):
            raise self.failure(f"its channel ended: {heard}")
        if isinstance(heard, Failed):
            raise self.failure(f"its wrapper gave up: {heard.text}")
        return heard

    def end(self) -> None:
        """From now on everything is handed on.

        Raises:
            StateNotTaken: something came that nobody asked for, its end perhaps.
        """
        if not self._heard.empty():
            raise self.failure(f"it says what it was not asked: {self._heard.get_nowait()}"[:200])
        self.is_over = True

    def failure(self, why: str) -> StateNotTaken:
        return StateNotTaken(f"domain {self.domain} does not take the state: {why}")
