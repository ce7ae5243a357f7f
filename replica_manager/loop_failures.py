"""What becomes of an exception that nobody caught: it ends the process, and is a named event.

An event loop writes such an exception to a log and goes on, with whatever state the failed callback left behind.
A replica manager must not: the crash of a server is inside the fault model, a wrong vote is not.

Source: design "Fault model and promises"; Python's `loop.set_exception_handler`.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

_OURS: Final = ("handle", "task", "future")
"""Keys of a context in which our own code raised; a failed socket has `transport`, `protocol` or `socket` instead."""

Report = Callable[[str, Mapping[str, Any]], None]
"""Takes a named event with its data."""


def end_on_failure(loop: asyncio.AbstractEventLoop, report: Report, fail: Callable[[str], None]) -> None:
    """Have `loop` end the process when a callback or task of it raises.

    Args:
        loop: the loop of the process.
        report: hears of `internal_error`, `connection_failed` and `loop_warning`.
        fail: ends the process with a reason; called for `internal_error` alone, once.
    """
    has_failed = False

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal has_failed
        error = context.get("exception")
        message = str(context.get("message", "an unhandled exception"))
        if error is None:
            report("loop_warning", {"reason": message})
        elif _is_of_one_socket(error, context):
            report("connection_failed", {"reason": f"{message}: {error}"})
        elif not has_failed:
            has_failed = True
            traceback.print_exception(error, file=sys.stderr)
            reason = f"{type(error).__name__}: {error}"
            report("internal_error", {"reason": reason, "where": message})
            fail(f"internal error: {reason}")

    loop.set_exception_handler(handle)


def _is_of_one_socket(error: BaseException, context: Mapping[str, Any]) -> bool:
    """Whether the operating system failed one connection: no state of ours is in doubt.

    uvloop reports time-outs and resets this way, and both loops a want of file descriptors at `accept`.
    """
    return isinstance(error, OSError) and not any(key in context for key in _OURS)


def raise_failure(task: asyncio.Future[Any]) -> None:
    """Done callback for tasks that nobody awaits: hands their exception to the loop at once.

    Otherwise it is reported when the task is collected, that is never for one that is kept in a set.
    """
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
