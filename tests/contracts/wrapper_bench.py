"""One wrapper, one link to it, and what came over it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from exec_wrapper.wire import Execute, FromWrapper
from replica_manager.execution.wrapper_link import LinkEnd, LinkSettings, WrapperLink
from replica_manager.execution.wrapper_session import WrapperLimits
from tests.contracts.wrapper_hosts import PATIENCE_S

SEED = bytes(32)


class Bench:
    """One wrapper, one link to it, and what came over it."""

    def __init__(self, wrapper: Any) -> None:
        self.wrapper = wrapper
        self.messages: list[FromWrapper] = []
        self.ends: list[LinkEnd] = []
        self._news = asyncio.Event()

    def make_link(self, **settings: int) -> WrapperLink:
        """Return a link that reports to this bench."""
        limits = WrapperLimits(1 << 24, settings.pop("state_part_bytes_max", 1 << 16))
        defaults = {"open_timeout_ms": int(PATIENCE_S * 1000)}
        link: WrapperLink = self.wrapper.make_link(
            LinkSettings(limits, **(defaults | settings)), self.on_frames, self.on_end
        )
        return link

    def on_frames(self, messages: Sequence[FromWrapper]) -> None:
        """Take messages."""
        self.messages.extend(messages)
        self._news.set()

    def on_end(self, end: LinkEnd) -> None:
        """Take the end."""
        self.ends.append(end)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that came makes `condition` true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def next(self, count: int = 1) -> list[FromWrapper]:
        """Wait for `count` messages and take them."""
        await self.until(lambda: len(self.messages) >= count)
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken


def execute(sequence: int, payload: bytes) -> Execute:
    """Return a request that follows the number before it."""
    return Execute(sequence - 1, sequence, 1_000_000 + sequence, SEED, payload)
