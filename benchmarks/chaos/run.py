"""A run: start the cell, load it, go through the steps, settle the accounts, write the report."""

import fcntl
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.cell_under_test import (
    ROUNDING,
    TREACHEROUS,
    CellUnderTest,
    Report,
    rounding_servers,
    wait_for,
)
from benchmarks.chaos.databases import count_key_value
from benchmarks.chaos.event_tail import EventTail
from benchmarks.chaos.evidence import observe, wrong_convictions
from benchmarks.chaos.fault_kinds import KINDS, Means
from benchmarks.chaos.injection import Injected, Injector
from benchmarks.chaos.key_value_load import KeyValueLoad, KeyValueSettings
from benchmarks.chaos.load_thread import Load, LoadFailed
from benchmarks.chaos.plot import draw, is_plot_possible
from benchmarks.chaos.schedule import Schedule, StepPart
from benchmarks.chaos.tokens import Accounts
from benchmarks.chaos.verdict import Outcome, report_of, summary_lines
from benchmarks.environment import environment
from benchmarks.linearizability.checker import check
from benchmarks.linearizability.model import KeyValueModel
from benchmarks.linearizability.recorded import read_history
from replica_manager.client.failover_values import Noted
from replica_manager.control.checkpoint import Checkpoint, take_checkpoint
from replica_manager.control.errors import ControlError
from replica_manager.member_addresses import framed_address

POLL_S = 0.1
LOOK_S = 0.4
CALM_S = 2.0
"""So long the cell must be whole, and repair nothing: a repair begins a moment after what it is for."""
TELL_S = 10.0
CHECKPOINT_S = 600.0
DURABLE_S = 120.0
CHECKPOINT_TRIES = 5
STOP_S, INTERRUPTED_S = 30.0, 0.5
"""Patience with the load at the end, and after Ctrl-C."""
GO_ON = "the steps behind it were left out: the cell could not have borne them"


class ChaosFailed(Exception):
    """Raised when a run found something that must not be; the report says what."""


@dataclass(frozen=True, slots=True)
class ChaosSettings:
    """One run."""

    schedule: Schedule
    directory: Path
    images: Path
    plot: bool | None = None
    """Whether to draw the throughput; None: if matplotlib is there."""


def run_chaos(settings: ChaosSettings, report: Report) -> dict[str, Any]:
    """Run a schedule; return the report, which is also written.

    Raises:
        ChaosFailed: something is wrong with the cell, or a fault did not take effect.
        ControlError, ImageError, NetworkError: the cell cannot be started; nothing is left behind.
    """
    settings.directory.mkdir(parents=True, exist_ok=True)
    with _alone(settings.directory):
        _build_images(settings, report)
        return _conclude(settings, _run(settings, report))


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep a second run from taking this one's cell down."""
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ChaosFailed(f"another run uses {directory}: wait for it, or name another --directory") from error
        yield


def _run(settings: ChaosSettings, report: Report) -> dict[str, Any]:
    head = environment()
    cell = CellUnderTest(settings.schedule, settings.directory, settings.images)
    try:
        cell.up(report)
        cell.keep_one_rounding(report)
        document = head | _Run(settings, cell, report).execute()
    finally:
        report("removing the cell")
        cell.down(report)
    document["load_average_after"] = environment()["load_average"]
    return document


def _build_images(settings: ChaosSettings, report: Report) -> None:
    if settings.schedule.cell.driver == "subprocess":
        return
    from images.build import build
    from images.catalog import Catalog
    from replica_manager.control.cli.image import ProgressLine

    names = [TREACHEROUS[settings.schedule.cell.service]]
    names += [ROUNDING] if rounding_servers(settings.schedule) else []
    for name in names:
        report(f"image {name}: building what is missing")
        build(name, Catalog(settings.images), ProgressLine().show)


def _conclude(settings: ChaosSettings, document: dict[str, Any]) -> dict[str, Any]:
    document["summary"] = "\n".join(summary_lines(document)) + "\n"
    path = settings.directory / "report.json"
    path.write_text(json.dumps(document, indent=2, default=str) + "\n")
    if settings.plot if settings.plot is not None else is_plot_possible():
        draw(document, settings.directory / "throughput.png")
    if document["problems"]:
        raise ChaosFailed(f"{document['summary']}\nreport: {path}\nthe run failed: {'; '.join(document['problems'])}")
    return document


class _Run:
    """One run on a cell that serves."""

    def __init__(self, settings: ChaosSettings, cell: CellUnderTest, report: Report) -> None:
        self._settings = settings
        self._schedule = settings.schedule
        self._cell = cell
        self._report = report
        self._tail = EventTail(cell.paths, cell.servers, settings.directory / "runner-events.jsonl")
        self._load = self._make_load()
        self._injector = Injector(cell, self._load, self._tail)
        self._struck: list[tuple[int, Injected]] = []
        self._given_up: list[str] = []
        self._ended: list[str] = []
        self._whole_since_s = 0.0

    def _make_load(self) -> Load:
        directory, part, config = self._settings.directory, self._schedule.load, self._cell.config
        if self._schedule.cell.service == "rubis":
            from benchmarks.chaos.auction_load import AuctionLoad, AuctionSettings

            log = directory / "proxy.log"
            return AuctionLoad(
                AuctionSettings(config.path, part.clients, part.think_time_scale, self._schedule.seed, log)
            )
        addresses = [found for one in config.server if (found := framed_address(config, one.id)) is not None]
        settings = KeyValueSettings(
            addresses,
            self._cell.clients_namespace,
            part.clients,
            part.pause_s,
            self._schedule.seed,
            directory / "history.jsonl",
        )
        return KeyValueLoad(settings, _hear_nothing)

    def execute(self) -> dict[str, Any]:
        """Run the schedule and return the report."""
        began_s = time.monotonic()
        patience_s = INTERRUPTED_S
        try:
            self._load.start()
            self._go_through()
            time.sleep(0 if self._given_up else self._schedule.settle_s)
            self._undo_all()
            self._report("waiting for the last requests")
            self._load.become_quiet()
            document = self._settle()
            patience_s = STOP_S
        finally:
            self._undo_all()
            self._load.stop(patience_s)
        document["throughput_rps"] = self._load.tally.per_second
        document["schedule"] = self._schedule.name
        document["seed"] = self._schedule.seed
        document["duration_s"] = round(time.monotonic() - began_s, 1)
        self._tail.write(self._settings.directory / "events.jsonl")
        self._tail.close()
        return document

    def _undo_all(self) -> None:
        for _, injected in self._struck:
            self._injector.undo(injected)

    # -- steps -------------------------------------------------------------------------------------------------

    def _go_through(self) -> None:
        for number, step in enumerate(self._schedule.step, 1):
            names = ", ".join(f"{fault.kind} of {fault.target}" for fault in step.fault)
            left_s = sum(one.lead_s + one.redundancy_s for one in self._schedule.step[number - 1 :])
            head = f"step {number} of {len(self._schedule.step)}"
            self._report(f"{head}: {names} (at most {left_s / 60:.0f} min left)")
            time.sleep(step.lead_s)
            self._load.require_running()
            problem = self._take_step(number, step)
            if problem:
                self._given_up.append(f"{head}: {problem}; {GO_ON}")
                return

    def _take_step(self, number: int, step: StepPart) -> str:
        """Return why the run cannot go on, or an empty text."""
        view = self._cell.look()
        try:
            targets = [self._cell.resolve(part.target, view) for part in step.fault]
            struck = []
            for part, target in zip(step.fault, targets, strict=True):
                struck.append(self._injector.inject(part, target, view))
                self._struck.append((number, struck[-1]))
        except (LookupError, ControlError, LoadFailed, OSError) as error:
            return f"a fault could not be brought about: {error}"
        limit_s = time.monotonic() + step.evidence_s
        self._wait(struck, limit_s, lambda: self._has_shown(struck))
        self._tell_evidence(struck)
        limit_s = struck[0].at_s + step.redundancy_s
        self._whole_since_s = math.inf
        if not self._wait(struck, limit_s, lambda: self._is_redundant(struck)):
            return f"no full redundancy within {step.redundancy_s:g} s: {self._standing_in_words()}"
        for one in struck:
            one.restored_s, one.last_event = round(self._whole_since_s - one.at_s, 2), len(self._tail.events)
        self._report(f"  full redundancy {self._whole_since_s - struck[0].at_s:.1f} s after the fault")
        return ""

    def _wait(self, struck: Sequence[Injected], deadline_s: float, condition: Callable[[], bool]) -> bool:
        """Take back what is due until `condition` holds; tell whether it does."""
        told_s = time.monotonic()
        while True:
            for one in struck:
                is_shown = KINDS[one.part.kind].ends_when_shown and self._effect(one).evidence
                if one.undo is not None and (is_shown or time.monotonic() >= one.undo_at_s):
                    self._injector.undo(one)
            self._note_ended(struck)
            self._tail.read()
            if condition():
                return True
            now_s = time.monotonic()
            if now_s > deadline_s:
                return False
            if now_s - told_s >= TELL_S:
                told_s = now_s
                self._report(f"  {self._standing_in_words()}; {deadline_s - now_s:.0f} s left for this")
            time.sleep(POLL_S)

    def _note_ended(self, struck: Sequence[Injected]) -> None:
        """A server that nobody ended has a mistake of ours; the keeper starts it again, so the run goes on."""
        # Such a server ends itself, and says so before it has ended: by then the fault may have been taken back.
        may_end = {one.target.server for one in struck if KINDS[one.part.kind].ends_when_shown}
        for server in self._cell.servers:
            if self._cell.has_ended_by_itself(server) and server not in may_end:
                self._tail.record("server_ended", server=f"s{server}")
                self._report(f"  s{server} has ended by itself; see {self._cell.paths.log('server', server)}")
                self._ended.append(f"server {server} ended by itself")

    def _has_shown(self, struck: Sequence[Injected]) -> bool:
        unseen = [one for one in struck if not self._effect(one).evidence]
        if any(KINDS[one.part.kind].means is Means.ORDER and one.part.target.endswith(".passive") for one in unseen):
            # The order comes with one refresh and acts at the next one: so many writes may take the users minutes.
            try:
                self._load.write_once()
            except LoadFailed as error:
                self._ended.append(str(error))
        return not unseen

    def _effect(self, injected: Injected) -> Any:
        events = self._tail.events[injected.first_event : injected.last_event]
        return observe(KINDS[injected.part.kind], injected.target, injected.at_us, events)

    def _tell_evidence(self, struck: Sequence[Injected]) -> None:
        for one in struck:
            effect = self._effect(one)
            shown = f"shown by {effect.evidence[0]} after {effect.detected_ms:g} ms" if effect.evidence else "NOT SHOWN"
            self._report(f"  {one.part.kind} of {one.target.name}: {shown}")

    def _is_redundant(self, struck: Sequence[Injected]) -> bool:
        """Whether everything is as before the faults, for some time now."""
        if not self._is_whole(struck):
            self._whole_since_s = math.inf
            return False
        self._whole_since_s = min(self._whole_since_s, time.monotonic())
        return time.monotonic() - self._whole_since_s >= CALM_S

    def _is_whole(self, struck: Sequence[Injected]) -> bool:
        if any(one.undo is not None for one in struck):
            return False
        time.sleep(LOOK_S)
        view = self._cell.look()
        if view.state != "serving":
            return False
        present = {row["domain"] for row in view.domains() if row["role"] in ("active", "passive")}
        waiting = [domain for one in struck for domain in one.to_be_replaced if domain in present]
        # A sleeper that has executed requests counts, and is replaced: whoever struck it now might strike nobody.
        is_repairing = any(answer.get("repair") for answer in view.answers.values())
        return not waiting and not is_repairing and len(present) == 2 * len(self._cell.servers)

    def _standing_in_words(self) -> str:
        view = self._cell.look()
        servers = ", ".join(f"s{number} {answer.get('state')}" for number, answer in view.answers.items())
        silent = "".join(f", s{number} silent" for number in view.silent)
        domains = ", ".join(f"{row['domain']} {row['role']}" for row in view.domains() if row["role"] != "retired")
        return f"{servers}{silent}; {domains}"

    # -- the end -----------------------------------------------------------------------------------------------

    def _settle(self) -> dict[str, Any]:
        digests: Mapping[str, str] = {}
        accounts: Accounts | None = None
        try:
            point = self._checkpoint()
            digests = point.digests
            self._wait_until_durable(point.point)
            self._cell.power_off()
            self._report(f"reading the disks of {len(digests)} domains")
            accounts = self._load.ledger.settle(self._count(sorted(digests)))
        except (ControlError, LoadFailed, OSError, AssertionError) as error:
            self._given_up.append(f"the databases cannot be compared: {error}")
        self._tail.read()
        is_linearizable, words = self._judge_history()
        tally = self._load.tally
        faulty = {
            name
            for _, one in self._struck
            for name in (one.target.name, *one.to_be_replaced)
            if KINDS[one.part.kind].is_lie
        }
        outcome = Outcome(
            requests=tally.requests,
            failures=tally.failures,
            accounts=accounts,
            wrong_convictions=wrong_convictions(self._tail.events, faulty),
            state_digests=digests,
            domains_wanted=2 * len(self._cell.servers),
            linearizable=is_linearizable,
            linearizability=words,
            given_up=[*self._given_up, *self._ended],
        )
        return report_of([self._row(number, one) for number, one in self._struck], outcome)

    def _checkpoint(self) -> Checkpoint:
        """Compare all states; another checkpoint may be open, or a repair under way."""
        for attempt in range(CHECKPOINT_TRIES):
            try:
                point = take_checkpoint(self._cell.config, CHECKPOINT_S)
                break
            except ControlError:
                if attempt + 1 == CHECKPOINT_TRIES:
                    raise
                time.sleep(1.0)
        self._report(f"checkpoint at {point.point}: {'states equal' if point.is_equal else 'STATES DIFFER'}")
        return point

    def _wait_until_durable(self, point: int) -> None:
        def is_durable() -> bool:
            # A sleeper is made durable behind its next refresh, which takes writes.
            self._load.write_once()
            rows = self._cell.look().newest.get("servers", ())
            return bool(rows) and all(row["durable"] >= point for row in rows)

        if not wait_for(is_durable, DURABLE_S, 0.05):
            raise ControlError(f"not every domain has what is before {point} on its disk")

    def _count(self, domains: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        if self._schedule.cell.service == "rubis":
            from benchmarks.chaos.auction_databases import count_auction

            return count_auction(self._cell.config, domains)
        return count_key_value(self._cell.config, domains)

    def _judge_history(self) -> tuple[bool | None, str]:
        if not isinstance(self._load, KeyValueLoad):
            return None, "not recorded"
        self._report("judging the recorded history")
        verdict = check(read_history(self._load.settings.history), KeyValueModel())
        words = verdict.explain()
        return (True if verdict.is_proven else None if "nknown" in type(verdict).__name__ else False), words

    def _row(self, number: int, injected: Injected) -> dict[str, Any]:
        effect = self._effect(injected)
        return {
            "step": number,
            "kind": injected.part.kind,
            "target": injected.target.name,
            "at_s": round(injected.at_s - self._load.tally.began_s, 2),
            "evidence": list(effect.evidence),
            "detected_ms": effect.detected_ms,
            "stable_ms": effect.stable_ms,
            "redundancy_restored_s": injected.restored_s,
        }


def _hear_nothing(_note: Noted) -> None:
    """Which server a client talks to is its own affair."""
