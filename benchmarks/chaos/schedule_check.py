"""Reads a schedule and finds every mistake in it at once, with line numbers."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.fault_kinds import KINDS, Means, Place
from benchmarks.chaos.schedule import FaultPart, Schedule
from replica_manager.config import CELL_NAME_PATTERN
from replica_manager.config_check import read_text
from replica_manager.config_decode import decode_as
from replica_manager.config_findings import ConfigError, Finding, Report
from replica_manager.config_positions import KeyPath, find_positions
from replica_manager.config_syntax import parse

SHIPPED = Path(__file__).parent / "schedules"
_DOMAIN = re.compile(r"s(?P<server>\d+)\.(?P<role>active|passive)")
_SERVER = re.compile(r"s(?P<server>\d+)|leader|follower")
_FORMS = {Place.DOMAIN: _DOMAIN, Place.SERVER: _SERVER}
_PASSIVE_TOO = frozenset(("crash", "hang", "slow", "stop-domain"))
"""What a sleeping domain can do when it is refreshed; it gives no replies that could be wrong."""


def find_schedule(name: str) -> Path:
    """Return the file `name`, or the shipped schedule of that name."""
    shipped = SHIPPED / f"{name}.toml"
    return shipped if not Path(name).exists() and shipped.exists() else Path(name)


def load_schedule(path: Path) -> Schedule:
    """Return the schedule in `path`.

    Raises:
        ConfigError: the file cannot be read or has mistakes; all of them are in `findings`.
    """
    text = read_text(path)
    if isinstance(text, Finding):
        raise ConfigError(str(path), [text])
    schedule, report = examine(text)
    if report.findings:
        raise ConfigError(str(path), report.in_file_order())
    return schedule


def examine(text: str) -> tuple[Schedule, Report]:
    """Return what `text` says, and everything that is wrong with it.  Pure."""
    parsed = parse(text)
    report = Report(
        positions=find_positions(parsed.text),
        findings=list(parsed.findings),
        broken_keys=parsed.broken_keys,
        is_partial=bool(parsed.findings),
    )
    schedule = decode_as(Schedule, parsed.values, report)
    if not re.fullmatch(CELL_NAME_PATTERN, schedule.name):
        report.error(("name",), f"{schedule.name!r} is no name of a cell", "at most 24 of a-z, 0-9, inner -")
    if not schedule.step:
        report.error(("step",), "a schedule needs a step", "write [[step]] and below it [[step.fault]]")
    if schedule.cell.driver == "subprocess" and schedule.cell.service == "rubis":
        report.error(("cell", "driver"), "the auction site needs virtual machines", 'driver = "libvirt"')
    if schedule.cell.driver == "libvirt" and schedule.cell.service == "key-value":
        message = "the stores of a key-value cell are read where child processes have them, not in virtual machines"
        report.error(("cell", "driver"), message, 'driver = "subprocess"')
    for index, step in enumerate(schedule.step):
        _check_step(schedule, ("step", index), step.fault, report)
    return schedule, report


def _check_step(schedule: Schedule, path: KeyPath, faults: Sequence[FaultPart], report: Report) -> None:
    if not faults:
        report.error(path, "a step needs a fault", "write [[step.fault]] below it")
    if len(faults) > schedule.cell.f:
        message = f"{len(faults)} faults at a time in a cell that tolerates {schedule.cell.f}"
        report.error(path, message, "spread them over more steps", uses=(("cell", "f"),))
    targets = [fault.target for fault in faults]
    for index, fault in enumerate(faults):
        fault_path: KeyPath = (*path, "fault", index)
        _check_target(schedule, fault, fault_path, report)
        _check_needs(schedule, fault, fault_path, report)
        if fault.target in targets[:index]:
            report.error((*fault_path, "target"), f"{fault.target} is struck twice in this step")


def _check_target(schedule: Schedule, fault: FaultPart, path: KeyPath, report: Report) -> None:
    place = KINDS[fault.kind].place
    match = _FORMS[place].fullmatch(fault.target)
    if match is None:
        report.error((*path, "target"), f"`{fault.kind}` strikes {place.value}, not {fault.target!r}")
        return
    server = match["server"]
    if server is not None and int(server) > schedule.cell.f:
        message = f"there is no server {server}: a cell with f = {schedule.cell.f} has {schedule.cell.f + 1}"
        report.error((*path, "target"), message, "the first is s0", uses=(("cell", "f"),))
    if fault.target.endswith(".passive") and fault.kind not in _PASSIVE_TOO:
        report.error((*path, "target"), f"a passive domain has no occasion for `{fault.kind}`", "strike an active one")


def _check_needs(schedule: Schedule, fault: FaultPart, path: KeyPath, report: Report) -> None:
    means = KINDS[fault.kind].means
    if means is Means.DISK and not schedule.cell.state_disk_mib:
        hint = "put state_disk_mib = 64 or more into [cell]"
        report.error((*path, "kind"), f"`{fault.kind}` needs servers with disks of their own", hint)
    if means is not Means.IMAGE:
        return
    if schedule.cell.service != "rubis":
        report.error((*path, "kind"), f"`{fault.kind}` is a variant of the auction site", 'service = "rubis"')
    if path[1] != 0:
        report.error((*path, "kind"), f"`{fault.kind}` has to be in the first step", "the server boots with it")
    if not fault.target.startswith("s"):
        report.error((*path, "target"), "which server boots the variant is decided before there is a leader", "s1")
