"""Executes a recorded log of agreed requests again, in one fresh domain, and compares every byte.

`python -m benchmarks.replay RECORDING --image rubis-mariadb` boots a virtual machine;
`python -m benchmarks.replay RECORDING --database postgresql` starts RUBiS in a child process;
`python -m benchmarks.replay RECORDING --command …` any other wrapper.

Replies and updates are compared with the recorded stable ones, states with the digests of recorded checkpoints.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.native_rubis import native_rubis
from benchmarks.replay_domain import (
    DomainFailed,
    DomainSource,
    FreshDomain,
    MachineSource,
    ProcessSource,
    fresh_domain,
)
from exec_wrapper.wire import Execute, Executed, NextPart, StatePart, TakeState
from replica_manager.event_loop import run as run_event_loop
from replica_manager.hypervisor.selection import preload_libvirt
from replica_manager.recording.recording_file import Recording
from replica_manager.recording.recording_format import RecordedCheckpoint, RecordedRequest
from replica_manager.recovery.state_digests import StateReader
from replica_manager.server_settings import STATE_FORMAT
from rubis_adapter.tiers.service_processes import DatabaseKind

REQUESTS_IN_FLIGHT_MAX = 64
"""Enough to hide the way to the domain and back."""
STATE_CREDIT = 4
DIFFERENCES_TOLD_MAX = 10
EXCERPT_BYTES = 40
TOLD_EVERY_S = 10.0
Report = Callable[[str], None]


@dataclass(frozen=True)
class Difference:
    """Bytes that are not the recorded ones."""

    sequence: int
    what: str
    """`reply`, `update` or `state`."""
    text: str


@dataclass
class ReplayReport:
    """What was executed again, and what came out differently."""

    requests: int = 0
    modifying_requests: int = 0
    reply_bytes: int = 0
    update_bytes: int = 0
    states: dict[int, str] = field(default_factory=dict)
    """Content digest of the domain's state by position, in hexadecimal."""
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)
    """The first `DIFFERENCES_TOLD_MAX`; those that follow the first are mostly its consequences."""
    image: str = ""
    boot_s: float = 0.0
    replay_s: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether something was compared, a state too, and nothing differs."""
        return self.requests > 0 and bool(self.states) and not self.difference_count

    def note(self, difference: Difference) -> None:
        """Count a difference."""
        self.difference_count += 1
        if len(self.differences) < DIFFERENCES_TOLD_MAX:
            self.differences.append(difference)

    def to_json(self) -> dict[str, Any]:
        """Return everything, with the rate."""
        return {
            **asdict(self),
            "is_equal": self.is_equal,
            "requests_per_s": round(self.requests / self.replay_s, 1) if self.replay_s else 0.0,
        }


class Replay:
    """Feeds a recording to a domain and compares its answers."""

    def __init__(self, recording: Recording, domain: FreshDomain, until: int | None, report: Report) -> None:
        """Prepare.

        Args:
            recording: what to execute again.
            domain: where; booted and fresh.
            until: the position to stop at, usually of a checkpoint; None: everything.
            report: takes progress lines.
        """
        self.result = ReplayReport()
        self._recording = recording
        self._domain = domain
        self._until = until
        self._report = report
        self._waiting: deque[RecordedRequest] = deque()
        self._previous = 0
        self._told_s = time.monotonic()

    async def run(self) -> ReplayReport:
        """Execute everything; return the report.

        Raises:
            DomainFailed: the domain does not answer as the protocol says.
        """
        started_s = time.monotonic()
        checkpoints = deque(c for c in self._recording.checkpoints if self._until is None or c.point <= self._until)
        for request in self._requests():
            while checkpoints and checkpoints[0].point <= request.sequence:
                await self._compare_state(checkpoints.popleft())
            if len(self._waiting) >= REQUESTS_IN_FLIGHT_MAX:
                await self._take_answer()
            self._execute(request)
        for checkpoint in checkpoints:
            await self._compare_state(checkpoint)
        await self._finish_requests()
        self.result.replay_s = round(time.monotonic() - started_s, 3)
        return self.result

    def _requests(self) -> Iterator[RecordedRequest]:
        until = self._until
        requests = self._recording.requests()
        return requests if until is None else takewhile(lambda request: request.sequence < until, requests)

    def _execute(self, request: RecordedRequest) -> None:
        sequence, timestamp_us, seed, payload, _, _ = request
        self._domain.send(Execute(self._previous, sequence, timestamp_us, seed, payload))
        self._previous = sequence
        self._waiting.append(request)

    async def _finish_requests(self) -> None:
        while self._waiting:
            await self._take_answer()

    async def _take_answer(self) -> None:
        answer = await self._domain.answer()
        request = self._waiting.popleft()
        if not isinstance(answer, Executed) or answer.sequence != request.sequence:
            raise DomainFailed(f"asked to execute {request.sequence}, answered {_name(answer)}")
        result = self.result
        result.requests += 1
        result.modifying_requests += bool(answer.update)
        result.reply_bytes += len(answer.reply)
        result.update_bytes += len(answer.update)
        for what, recorded, replayed in (
            ("reply", request.reply, answer.reply),
            ("update", request.update, answer.update),
        ):
            if recorded != replayed:
                result.note(Difference(request.sequence, what, describe_difference(recorded, replayed)))
        self._maybe_tell()

    async def _compare_state(self, checkpoint: RecordedCheckpoint) -> None:
        """Take the state as of everything before the checkpoint and compare it with what every domain's was."""
        await self._finish_requests()
        point = checkpoint.point
        self._domain.send(TakeState(self._previous, point, STATE_FORMAT))
        self._domain.send(NextPart(STATE_CREDIT))
        self._previous = point - 1
        reader = StateReader(point)
        while not reader.is_complete:
            part = await self._domain.answer()
            if not isinstance(part, StatePart):
                raise DomainFailed(f"asked for its state at {point}, answered {_name(part)}")
            reader.take(part)
            if not part.is_last:
                self._domain.send(NextPart(1))
        digest = reader.content_digest
        self.result.states[point] = digest.hex()
        for domain, recorded in sorted(checkpoint.digests.items()):
            if recorded != digest:
                text = f"{digest.hex()}, that of {domain} was {recorded.hex()}"
                self.result.note(Difference(point, "state", text))

    def _maybe_tell(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            count = self._recording.request_count
            self._report(f"{self.result.requests} of {count} requests, {self.result.difference_count} differences")


def describe_difference(recorded: bytes, replayed: bytes) -> str:
    """Say where two byte strings part, with what stands there in both."""
    shorter = min(len(recorded), len(replayed))
    position = next((i for i in range(shorter) if recorded[i] != replayed[i]), shorter)
    excerpts = [repr(data[position : position + EXCERPT_BYTES]) for data in (recorded, replayed)]
    return (
        f"recorded {len(recorded)} bytes, replayed {len(replayed)}; "
        f"from byte {position}: recorded {excerpts[0]}, replayed {excerpts[1]}"
    )


def _name(answer: object) -> str:
    return repr(answer) if type(answer).__name__ == "Failed" else type(answer).__name__


async def replay(
    recording: Recording, source: DomainSource, directory: Path, report: Report, until: int | None = None
) -> ReplayReport:
    """Execute `recording` in a fresh domain of `source`, with scratch files in `directory`.

    Raises:
        DomainFailed: the domain does not boot, ends, hangs, or breaks the protocol.
        HypervisorError, ImageError: it cannot be booted.
    """
    async with fresh_domain(directory, source, recording.head) as domain:
        assert domain.hello is not None, "a booted domain has said Hello"
        report(f"a fresh domain of {domain.hello.image or domain.hello.service} after {domain.boot_s:.1f} s")
        result = await Replay(recording, domain, until, report).run()
        result.image, result.boot_s = domain.hello.image, round(domain.boot_s, 3)
        return result


# -- the command -----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if everything is equal, otherwise 1."""
    options = _parser().parse_args(arguments)
    recording = Recording(options.recording)
    _say(f"{recording.request_count} requests, {len(recording.checkpoints)} checkpoints")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spare-replay-")))
        source = _source(options, stack)
        if isinstance(source, MachineSource):
            preload_libvirt()  # it starts no machine if it is loaded when the event loop runs
        result = run_event_loop(replay(recording, source, directory, _say, options.until))
    document = {**environment(), **result.to_json(), "torn_bytes": recording.torn_bytes}
    if options.report:
        options.report.write_text(json.dumps(document, indent=2) + "\n")
    for difference in result.differences:
        _say(f"{difference.what} of {difference.sequence} differs: {difference.text}")
    _say(summary_line(result))
    return 0 if result.is_equal else 1


def summary_line(result: ReplayReport) -> str:
    """Return one line for people."""
    verdict = "byte-identical" if result.is_equal else f"{result.difference_count} DIFFERENCES"
    return (
        f"{result.requests} requests ({result.modifying_requests} with an update), {len(result.states)} states: "
        f"{verdict}; boot {result.boot_s:.1f} s, {result.replay_s:.1f} s for the requests"
    )


def _source(options: argparse.Namespace, stack: ExitStack) -> DomainSource:
    if options.image:
        return MachineSource(options.image, options.images)
    if options.database:
        return ProcessSource(tuple(stack.enter_context(native_rubis(options.database)).command()))
    return ProcessSource(tuple(options.command))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.replay", description="Execute a recorded log again and compare.")
    parser.add_argument("recording", type=Path, help="a file that [service] record made")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--image", help="boot a virtual machine of this image")
    where.add_argument("--database", type=DatabaseKind, choices=list(DatabaseKind), help="RUBiS in a child process")
    where.add_argument("--command", nargs="+", metavar="WORD", help="a wrapper command, as in [service] command")
    parser.add_argument("--images", type=Path, default=Path("var/images"), help="the image directory")
    parser.add_argument("--until", type=int, help="stop at this position, usually that of a checkpoint")
    parser.add_argument("--report", type=Path, help="write a JSON report to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
