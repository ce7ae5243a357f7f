"""What the values of one cell must fulfil together: service and hypervisor, fencing, sizes, times."""

import shlex
import shutil
from collections.abc import Callable, Sequence

from replica_manager.config import Config
from replica_manager.config_findings import Report
from replica_manager.config_positions import KeyPath

FRAME_HEADER_BYTES = 4096
"""Room for the fixed fields around a payload in one frame; generous, so that no layout change breaks a file."""
ELECTION_HEARTBEATS = 3
"""Heartbeats that should fit into an election timeout, so that one lost heartbeat changes no leader."""

STATE_DISK_MIB_MIN = 16
"""A smaller file system has hardly room for its own journal."""

DRIVER: KeyPath = ("hypervisor", "driver")
FENCING: KeyPath = ("cell", "fencing")


def check_values(config: Config, report: Report) -> None:
    """Report values of the complete configuration `config` that contradict each other."""
    for rule in _RULES:
        rule(config, report)


def _check_driver(config: Config, report: Report) -> None:
    if config.hypervisor.driver == "subprocess":
        _check_subprocess(config, report)
        return
    image: KeyPath = ("service", "image")
    for index, server in enumerate(config.server):
        if not server.image and not report.is_partial:
            path = ("server", index, "image") if report.is_given(("server", index, "image")) else image
            report.error(path, "no image for the virtual machines", 'name one in [service]: image = "key-value"')
            break
    if config.hypervisor.isolation == "none":
        report.error(
            ("hypervisor", "isolation"),
            'isolation = "none" goes with driver = "subprocess" only',
            "leave it out for virtual machines",
            uses=(DRIVER,),
        )
    if config.service.command:
        report.warning(("service", "command"), "unused: virtual machines start what their image says", uses=(DRIVER,))


def _check_subprocess(config: Config, report: Report) -> None:
    isolation: KeyPath = ("hypervisor", "isolation")
    if config.hypervisor.isolation != "none":
        report.error(
            isolation,
            "subprocess domains are not isolated from the replica manager or from each other",
            'say isolation = "none" if that is meant; for development and benchmarks only',
            uses=(DRIVER,),
        )
    if not config.service.command and not report.is_partial:
        report.error(
            ("service", "command"),
            'driver = "subprocess" needs the command of the wrapper',
            'like command = ["python3", "-m", "exec_wrapper", "--link", "unix:{channel}", "my_service"]',
            uses=(DRIVER,),
        )
    elif config.service.command and not any("{channel}" in word for word in config.service.command):
        report.error(
            ("service", "command"),
            "no word of the command has {channel}, the socket on which the wrapper is to listen",
            'add "--link", "unix:{channel}"',
            uses=(DRIVER,),
        )
    if any(server.uri for server in config.server):
        report.warning(("hypervisor", "uri"), "unused: subprocess domains need no libvirt", uses=(DRIVER,))


def _check_network(config: Config, report: Report) -> None:
    if config.cell.kind == "hosts" and report.is_given(("cell", "network")):
        report.warning(("cell", "network"), "unused: hosts have their own networks", uses=(("cell", "kind"),))
    if config.cell.kind == "hosts" and report.is_given(("cell", "restart")):
        hint = "Restart= in the unit file does it"
        report.warning(("cell", "restart"), "unused: hosts have no keeper", hint, uses=(("cell", "kind"),))


def _check_alarm(config: Config, report: Report) -> None:
    command = config.alarm.command
    if command and shutil.which(command[0]) is None:
        report.error(("alarm", "command"), f"the alarm command `{command[0]}` is not an executable program")


def _check_fencing(config: Config, report: Report) -> None:
    if config.cell.witnesses != 0:
        return
    if config.cell.fencing == "none":
        report.warning(
            FENCING,
            "with witnesses = 0 and no fencing a split network splits the cell: both halves answer",
            "use witnesses = f, or a fencing command",
            uses=(("cell", "witnesses"),),
        )
    elif config.cell.fencing == "local":
        if config.cell.kind == "hosts":
            report.error(
                FENCING,
                '"local" ends processes of this machine; it cannot fence another host',
                "give the command that switches a server off, or use witnesses = f",
                uses=(("cell", "witnesses"), ("cell", "kind")),
            )
    else:
        _check_fencing_command(config.cell.fencing, report)


def _check_fencing_command(command: str, report: Report) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        report.error(FENCING, f"{command!r} is no command: {error}")
        return
    if not words or shutil.which(words[0]) is None:
        name = words[0] if words else command
        report.error(FENCING, f"the fencing command `{name}` is not an executable program", "or `local`, `none`")


def _check_fault_injection(config: Config, report: Report) -> None:
    if config.fault_injection and config.cell.kind != "one-machine":
        report.error(("fault_injection",), "planted faults are for one-machine cells only", uses=(("cell", "kind"),))


def _check_approval(config: Config, report: Report) -> None:
    if config.approval.public_key and config.hypervisor.driver == "subprocess":
        path: KeyPath = ("approval", "public_key")
        report.error(path, "child processes are booted from no image: nothing could be approved", uses=(DRIVER,))


def _check_state_disk(config: Config, report: Report) -> None:
    path: KeyPath = ("cell", "state_disk_mib")
    size_mib = config.cell.state_disk_mib
    if size_mib and not config.fault_injection:
        report.error(
            path,
            "a disk of their own is for tests in which it fails",
            "put `fault_injection = true` at the top of the file if that is meant",
            uses=(("fault_injection",),),
        )
    if 0 < size_mib < STATE_DISK_MIB_MIN:
        report.error(path, f"{size_mib} MiB are too small for a file system", f"at least {STATE_DISK_MIB_MIN}, or 0")


def _check_sizes(config: Config, report: Report) -> None:
    limits, updates = config.limits, config.updates
    frame: KeyPath = ("limits", "frame_bytes_max")
    for path, value in (
        (("limits", "request_bytes_max"), limits.request_bytes_max),
        (("limits", "state_part_bytes_max"), limits.state_part_bytes_max),
        (("updates", "refresh_bytes_max"), updates.refresh_bytes_max),
    ):
        if value + FRAME_HEADER_BYTES > limits.frame_bytes_max:
            report.error(
                path,
                f"{value} bytes and {FRAME_HEADER_BYTES} of header do not fit into frame_bytes_max ="
                f" {limits.frame_bytes_max}",
                uses=(frame,),
            )
    _at_most(report, ("updates", "refresh_bytes_max"), updates.refresh_bytes_max,
             ("updates", "buffer_bytes_max"), updates.buffer_bytes_max)  # fmt: skip
    _at_most(report, ("updates", "refresh_updates_max"), updates.refresh_updates_max,
             ("updates", "buffer_entries_max"), updates.buffer_entries_max)  # fmt: skip
    _at_most(report, ("limits", "open_requests_max"), limits.open_requests_max,
             ("updates", "buffer_entries_max"), updates.buffer_entries_max)  # fmt: skip
    if updates.buffer_bytes_max < limits.frame_bytes_max:
        report.error(
            ("updates", "buffer_bytes_max"),
            f"{updates.buffer_bytes_max} bytes cannot hold one update of frame_bytes_max = {limits.frame_bytes_max}",
            uses=(frame,),
        )


def _check_times(config: Config, report: Report) -> None:
    times = config.timeouts
    heartbeat, election = times.heartbeat_ms, times.election_ms
    path: KeyPath = ("timeouts", "heartbeat_ms")
    if heartbeat >= election:
        report.error(path, f"{heartbeat} ms is not below election_ms = {election}", uses=(("timeouts", "election_ms"),))
    elif heartbeat * ELECTION_HEARTBEATS > election:
        report.warning(
            path,
            f"fewer than {ELECTION_HEARTBEATS} heartbeats of {heartbeat} ms fit into election_ms = {election}:"
            " one lost message may change the leader",
            uses=(("timeouts", "election_ms"),),
        )
    if election >= times.crash_ms:
        report.error(
            ("timeouts", "election_ms"),
            f"{election} ms is not below crash_ms = {times.crash_ms}: no leader could declare a crash",
            uses=(("timeouts", "crash_ms"),),
        )
    _at_most(report, ("timeouts", "stall_start_ms"), times.stall_start_ms,
             ("timeouts", "stall_max_ms"), times.stall_max_ms)  # fmt: skip


def _at_most(report: Report, path: KeyPath, value: int, bound_path: KeyPath, bound: int) -> None:
    if value > bound:
        report.error(path, f"{value} is more than {bound_path[-1]} = {bound}", uses=(bound_path,))


_RULES: Sequence[Callable[[Config, Report], None]] = (
    _check_driver,
    _check_network,
    _check_alarm,
    _check_fencing,
    _check_fault_injection,
    _check_approval,
    _check_state_disk,
    _check_sizes,
    _check_times,
)
