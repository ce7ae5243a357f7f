"""Runs an operator's command beside the event loop: with a time limit, and without anything of it left behind."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import BinaryIO

DYING_S = 10.0
"""For what was killed to be gone; what has left the command's session keeps the pipe open longer."""
OUTPUT_BYTES_SHOWN = 300
"""Of what a command wrote before it failed; the rest is dropped."""


async def run_command(words: Sequence[str], environment: Mapping[str, str], stdin: bytes, limit_s: float) -> str:
    """Run a command to its end; return why it failed, or an empty text.

    A command that takes longer than `limit_s` is killed, with what it has started.

    Args:
        words: program and arguments.
        environment: added to that of this process.
        stdin: what the command can read.
        limit_s: time for all of it.
    """
    with _file_of(stdin) as file:
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"{words[0]} cannot be run: {error}"
    try:
        said = await asyncio.wait_for(_finish(process), limit_s)
    except TimeoutError:
        return f"{words[0]} did not end within {limit_s:g} s and was killed"
    finally:
        if process.returncode is None or process.stdout is None or not process.stdout.at_eof():
            _kill_group(process.pid)
            await process.wait()
            # Its children die when the system comes to it; until then the pipe is open, and this loop may end before.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_finish(process), DYING_S)
    code = process.returncode
    assert code is not None, "it has ended"
    if code == 0:
        return ""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"{words[0]} ended {how}" + (f": {said}" if said else "")


def _file_of(content: bytes) -> BinaryIO:
    """Return an open file in memory with this content.

    Not a pipe: a command need not read its input, and uvloop raises "unable to perform operation on
    <WriteUnixTransport closed=True …>; the handler is closed" when the other end has gone.
    """
    file = os.fdopen(os.memfd_create("input"), "r+b")
    file.write(content)
    file.seek(0)
    return file


async def _finish(process: asyncio.subprocess.Process) -> str:
    """Read to the end of the output, wait for the end; return the last of what was said."""
    assert process.stdout is not None
    said = b""
    while chunk := await process.stdout.read(4096):
        said = (said + chunk)[-OUTPUT_BYTES_SHOWN:]
    await process.wait()
    return said.decode(errors="replace").strip()


def _kill_group(leader: int) -> None:
    """A command's children hold its pipe open, and may do later what it was killed for not having done in time."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
