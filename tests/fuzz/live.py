"""Throws mutants at every port of real cells, while correct clients must be served."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.correct_clients import CorrectClient, KeyValueClient, WebClient, kept_busy
from tests.fuzz.hostile_links import attack_links
from tests.fuzz.in_process import MEMORY_GROWTH_BYTES_MAX
from tests.fuzz.live_cell import HOSTILE_DOMAIN, LiveCell, live_cell
from tests.fuzz.mutations import Mutator
from tests.fuzz.ports import S1, W0, Port, admin_port, client_port, control_port, flood, member_port, peer_port, throw

AT_ONCE = 16
"""Throws under way: below the limits on connections, reaching which would be refused under another name."""
WARM_UP_SHARE = 10
"""One in so many throws comes before memory is measured: tables and buffers fill first."""
PATIENCE_S = 120.0
IMPOSTOR_SHARE = 100
"""A server's good certificate in wrong hands costs the real link each time: one in so many throws."""
NEVER = ("internal_error", "control_handler_failed", "admin_failed", "loop_warning", "event_file_failed", "removed")
"""Events that would mean that garbage got further than it may."""

Report = Callable[[str], None]


@dataclass(slots=True)
class Siege:
    """What became of one cell."""

    listen: str
    thrown: int = 0
    named: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Refusals that server and port name must have recorded, at least."""
    memory_growth_bytes: list[int] = field(default_factory=list)
    answered: int = 0
    findings: list[str] = field(default_factory=list)


def fuzz_live(count: int, seed: int, report: Report) -> list[str]:
    """Throw `count` mutants at each port of a cell that speaks HTTP and of one that speaks the framed protocol.

    Returns:
        What was found; empty if all is well.
    """
    findings = []
    for listen in ("framed", "http"):
        siege = besiege(listen, count, seed, report)
        report(f"{listen}: {siege.answered:,} right answers to correct clients meanwhile")
        findings += [f"{listen}: {finding}" for finding in siege.findings]
    findings += _fuzz_links(count, seed, report)
    return findings


def besiege(listen: str, count: int, seed: int, report: Report) -> Siege:
    """Attack one cell; return what became of it."""
    siege = Siege(listen)
    with live_cell(listen, count, seed, lambda line: report(f"  {line}")) as cell:
        try:
            asyncio.run(_attack(cell, siege, count, seed, report))
        except* (AssertionError, OSError, TimeoutError, EOFError) as errors:
            siege.findings += [f"a correct client was not served: {error!r}" for error in _leaves(errors)]
        siege.findings += [f"{name} has ended" for name in cell.dead_members()]
        cell.stop()
        _check_events(cell, siege)
    return siege


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _attack(cell: LiveCell, siege: Siege, count: int, seed: int, report: Report) -> None:
    make = WebClient if siege.listen == "http" else KeyValueClient
    ports = [
        (client_port(cell), count),
        (control_port(cell), count),
        (admin_port(cell), count),
        (peer_port(cell), count),
        (member_port(cell, W0), count),
        (member_port(cell, S1), count // IMPOSTOR_SHARE),
    ]
    async with kept_busy(make, [cell.client_address(server) for server in cell.servers]) as clients:
        for port, share in ports:
            await _bombard(port, max(1, share // WARM_UP_SHARE), seed + 1, siege)
        before = await asyncio.to_thread(cell.memory_bytes)
        for port, share in ports:
            answered, started = _answered(clients), time.monotonic()
            await _bombard(port, share, seed, siege)
            _report_port(port.name, share, time.monotonic() - started, clients, answered, report)
        for server in cell.servers:
            siege.named[server, "client_rejected"] += await flood(cell, server)
        await _expect_progress(clients)
        report("  all client connections taken: correct clients that were connected are served")
        await _let_loose(cell, siege, clients)
        await _expect_progress(clients)
        after = await asyncio.to_thread(cell.memory_bytes)
        await asyncio.to_thread(_check_shown, cell, siege, [kind for port, _ in ports for kind in port.kinds])
    siege.answered = _answered(clients)
    siege.memory_growth_bytes = [new - old for old, new in zip(before, after, strict=True)]
    growth = ", ".join(f"{growth / 1e6:+.1f} MB" for growth in siege.memory_growth_bytes)
    report(f"  memory of the managers: {growth}")
    siege.findings += [
        f"server {server} grew by {growth} bytes"
        for server, growth in enumerate(siege.memory_growth_bytes)
        if growth >= MEMORY_GROWTH_BYTES_MAX
    ]


def _answered(clients: Iterable[CorrectClient]) -> int:
    return sum(client.answered for client in clients)


def _report_port(
    name: str, count: int, seconds: float, clients: list[CorrectClient], answered: int, report: Report
) -> None:
    served, slowest_s = _answered(clients) - answered, max(client.slowest_s for client in clients)
    report(
        f"  {name:27} {count:7,} mutants in {seconds:6.1f} s, {count / max(seconds, 1e-9):6,.0f}/s; "
        f"clients got {served:,} answers, the slowest so far in {slowest_s:.2f} s"
    )


async def _bombard(port: Port, count: int, seed: int, siege: Siege) -> None:
    """Throw at both servers in turn, some at once."""
    mutator = Mutator(port.corpus, seed)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(server: int, mutant: bytes) -> None:
        async with limit:
            named = await throw(port, server, mutant)  # apart: others add to the same count meanwhile
            siege.named[server, port.kinds[0]] += named

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            async with limit:  # no more tasks than throws under way
                server = port.servers[index % len(port.servers)]
                group.create_task(one(server, _garbage(mutator, port)))
    siege.thrown += count


def _garbage(mutator: Mutator, port: Port) -> bytes:
    while not port.may_throw(mutant := mutator.mutant()):
        pass
    return mutant


async def _let_loose(cell: LiveCell, siege: Siege, clients: list[CorrectClient]) -> None:
    """Have the hostile domain, so far in disguise, send garbage; its passive neighbour takes over."""
    await asyncio.to_thread(cell.let_the_domain_loose)
    deadline_s = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(cell.shown_kinds, 1, ["domain_gone"]):
        if time.monotonic() > deadline_s:
            siege.findings.append(f"{HOSTILE_DOMAIN} sends garbage and is not taken out")
            return
        await asyncio.sleep(0.1)
    siege.named[1, "domain_gone"] = 1
    siege.thrown += 1
    await _expect_progress(clients)


async def _expect_progress(clients: list[CorrectClient]) -> None:
    """Wait until every client has got ten more answers; one that gets none ends the whole attack by itself."""
    wanted = [client.answered + 10 for client in clients]
    async with asyncio.timeout(PATIENCE_S):
        while any(client.answered < goal for client, goal in zip(clients, wanted, strict=True)):
            await asyncio.sleep(0.05)


def _check_shown(cell: LiveCell, siege: Siege, kinds: list[str]) -> None:
    """Every kind of refusal is there for an operator who asks now."""
    for server in cell.servers:
        missing = set(kinds) - cell.shown_kinds(server, kinds)
        siege.findings += [f"server {server} shows no event {kind}" for kind in sorted(missing)]


def _check_events(cell: LiveCell, siege: Siege) -> None:
    """Every refusal was recorded, or counted among those left out; and nothing happened that must not."""
    for server in cell.servers:
        counts = cell.count_events(server)
        siege.findings += [f"server {server}: {counts[kind]} times {kind}" for kind in NEVER if counts[kind]]
        counts["control_garbage"] += counts["control_refused"]
        for (owner, kind), wanted in siege.named.items():
            if owner == server and counts[kind] < wanted:
                siege.findings.append(f"server {server}: {counts[kind]} events {kind} for {wanted} refusals")


def _fuzz_links(count: int, seed: int, report: Report) -> list[str]:
    """Attack the manager's end of the wrapper channel."""
    mutator = Mutator(corpus.from_wrapper_stream(), seed)
    mutants = [mutator.mutant() for _ in range(count)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spare-fuzz-") as directory:
        try:
            ends = asyncio.run(attack_links(Path(directory) / "channel", mutants))
        except (AssertionError, TimeoutError) as error:
            return [f"wrapper channel: {error}"]
    said = ", ".join(f"{number:,} {reason.value}" for reason, number in ends.items())
    report(f"  {'wrapper channel':27} {count:7,} mutants in {time.monotonic() - started:6.1f} s: {said}")
    return []
