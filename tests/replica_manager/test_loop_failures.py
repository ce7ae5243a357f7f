"""An exception that nobody catches ends the process; a socket that fails ends nothing but itself."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from replica_manager import event_loop
from replica_manager.loop_failures import end_on_failure, raise_failure

LOOPS = pytest.mark.parametrize("run", [asyncio.run, event_loop.run], ids=["asyncio", "chosen"])


class Process:
    """What a failure reaches."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.reasons: list[str] = []
        self.ended = asyncio.Event()
        end_on_failure(asyncio.get_running_loop(), lambda *event: self.events.append(event), self._fail)

    def _fail(self, reason: str) -> None:
        self.reasons.append(reason)
        self.ended.set()


def broken() -> None:
    """Break an invariant, as a core does."""
    raise AssertionError("a slot was decided twice")


@LOOPS
def test_a_broken_invariant_in_a_callback_ends_the_process(
    run: Callable[[Any], Process], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a named event, and the log has the traceback."""

    async def scenario() -> Process:
        process = Process()
        asyncio.get_running_loop().call_soon(broken)
        asyncio.get_running_loop().call_soon(broken)
        await process.ended.wait()
        await asyncio.sleep(0)
        return process

    process = run(scenario())
    assert process.reasons == ["internal error: AssertionError: a slot was decided twice"]
    assert [kind for kind, _ in process.events] == ["internal_error"]
    assert "in broken" in capsys.readouterr().err


@LOOPS
def test_a_task_that_fails_ends_the_process_though_somebody_keeps_it(run: Callable[[Any], Process]) -> None:
    """The loop alone would tell only when the task is collected."""

    async def scenario() -> Process:
        process = Process()

        async def work() -> None:
            broken()

        kept = asyncio.get_running_loop().create_task(work())
        kept.add_done_callback(raise_failure)
        await process.ended.wait()
        return process

    assert len(run(scenario()).reasons) == 1


@LOOPS
def test_a_task_that_is_cancelled_is_no_failure(run: Callable[[Any], Process]) -> None:
    """That is how tasks end at a stop."""

    async def scenario() -> Process:
        process = Process()
        task = asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        task.add_done_callback(raise_failure)
        task.cancel()
        await asyncio.wait((task,))
        await asyncio.sleep(0)
        return process

    assert run(scenario()).events == []


def test_what_the_system_does_to_one_socket_ends_nothing() -> None:
    """A time-out or reset, reported by a loop for a transport, is the end of that connection alone."""

    async def scenario() -> Process:
        process = Process()
        context = {"message": "Fatal error on transport", "exception": TimeoutError("timed out"), "transport": None}
        asyncio.get_running_loop().call_exception_handler(context)
        return process

    process = asyncio.run(scenario())
    assert process.reasons == []
    assert [kind for kind, _ in process.events] == ["connection_failed"]


def test_an_operating_error_in_our_own_callback_is_a_failure() -> None:
    """Nobody expected it there, so nobody knows what it left behind."""

    async def scenario() -> Process:
        process = Process()

        def work() -> None:
            raise FileNotFoundError("gone")

        asyncio.get_running_loop().call_soon(work)
        await process.ended.wait()
        return process

    assert len(asyncio.run(scenario()).reasons) == 1
