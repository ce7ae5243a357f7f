"""Starts a one-machine cell: keys, disks, networks, one detached process per member; waits until it serves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from replica_manager.cell_paths import CellPaths, MemberKind
from replica_manager.config import Config
from replica_manager.control.cell_down import discard, plan_down, plan_fresh, take_down, take_down_whole
from replica_manager.control.cell_import import confirm_import, import_words
from replica_manager.control.cell_network import CellNetwork, Reporter, certificate_addresses, member_id
from replica_manager.control.cell_restart_plan import PLAIN, Restart, require_complete_logs
from replica_manager.control.cell_wait import wait_until_serving
from replica_manager.control.errors import ProcessError
from replica_manager.control.keeper_process import ensure_keeper, find_keeper
from replica_manager.control.leftovers import SERVED_MARK, STATE_MARK, has_leftovers, mark_served
from replica_manager.control.member_process import MemberCommand, member_command, start_member, tail_of
from replica_manager.control.process_records import ProcessRecord, ProcessRecords
from replica_manager.control.state_disks import attach_state_disks
from replica_manager.state_files.fitting import ImportedState

START_MARGIN_S = 60.0
"""Beside the time to boot: keys, agreement, first contact between servers."""
KNOWN_STATE = ("keys", "log")
"""What `spare keys` and a server in the foreground make in a state directory before the cell's first start."""


def has_served(paths: CellPaths) -> bool:
    """Say whether an earlier run has come to serve: clients may have been told something."""
    return (paths.state_dir / SERVED_MARK).exists()


def is_running(config: Config) -> bool:
    """Say whether the cell runs with all its members.

    Raises:
        ProcessError: some of them have ended.
    """
    records = ProcessRecords(CellPaths.of(config).processes)
    # Whom the operator had leave is not missed.
    wanted = [record for record in records.read() if not records.is_held(record.kind, record.member)]
    return bool(wanted) and _all_run(wanted, config)


def bring_up(
    config: Config,
    network: CellNetwork,
    report: Reporter,
    command_of: MemberCommand = member_command,
    margin_s: float = START_MARGIN_S,
    restart: Restart = PLAIN,
    imported: ImportedState | None = None,
) -> str:
    """Start the cell, which does not run, and return once every server serves: `serving`, or `degraded`.

    A cell that has served restarts from its disks.

    What was started is ended again if the cell does not come to serve, or at Ctrl-C.

    Args:
        config: complete configuration, checked.
        network: where the members live.
        report: takes progress lines.
        command_of: the command of a member's process.
        margin_s: patience beyond the configured time to boot.
        restart: what the operator says about the state of an earlier run.
        imported: with what a new cell begins; None: with nothing.

    Raises:
        ImportFailed: a domain does not hold the imported state.
        LogsIncomplete: the state may miss what clients were told, and the operator has not accepted that.
        ControlError: it cannot be started; with the end of the log of the member that failed.
    """
    paths = CellPaths.of(config)
    if imported is not None and has_served(paths):
        raise ProcessError(f"the cell {config.cell.name} has served", "only a new cell takes a state in")
    clear_leftovers(config, network, report)
    try:
        records = _start(config, network, paths, report, command_of, restart, imported)
        limit_s = config.timeouts.boot_ms / 1000 + margin_s
        state = wait_until_serving(config, records, report, limit_s, may_be_degraded=bool(restart.without))
        if imported is not None:
            confirm_import(config, imported, report)
        mark_served(paths.state_dir)
        if config.cell.restart == "always":
            ensure_keeper(paths, report)
        return state
    except BaseException:
        # Ctrl-C too: a cell that half runs is worse than none.
        report("ending what was started")
        take_down_whole(config, network, report)
        raise


def stored_config(runtime_dir: Path) -> Config | None:
    """Return the configuration with which the cell of `runtime_dir` was started; `None` if none was."""
    try:
        return msgspec.json.decode((runtime_dir / "cell.json").read_bytes(), type=Config, dec_hook=_path)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _path(wanted: type, value: Any) -> Any:
    return wanted(value)


def _all_run(records: Sequence[ProcessRecord], config: Config) -> bool:
    """Say whether all members run; a part of them is the operator's decision."""
    ended = [record for record in records if not record.is_alive]
    if ended and len(ended) < len(records):
        names = ", ".join(record.name for record in ended)
        is_kept = find_keeper(CellPaths.of(config)) is not None
        by_hand = "`spare server join N` starts a server again, `spare cell down` ends the rest"
        cure = "the keeper starts it again, see `spare events`" if is_kept else by_hand
        hint = f"{cure}\n{tail_of(Path(ended[0].log), ended[0].log_offset)}"
        raise ProcessError(f"the cell {config.cell.name} runs without {names}", hint)
    return not ended


def clear_leftovers(config: Config, network: CellNetwork, report: Reporter) -> None:
    """End and remove what a killed cell has left, but its state; nothing happens if there is nothing.

    Raises:
        ProcessError: something cannot be removed.
    """
    if has_leftovers(CellPaths.of(config), network):
        report("removing what a killed cell left behind")
        take_down(config, network, plan_down(config, purge=False), report)


def _start(
    config: Config,
    network: CellNetwork,
    paths: CellPaths,
    report: Reporter,
    command_of: MemberCommand,
    restart: Restart,
    imported: ImportedState | None,
) -> Sequence[ProcessRecord]:
    is_new = not has_served(paths)
    if is_new and restart.without:
        raise ProcessError("a new cell starts with all its servers", "leave out --without")
    if is_new:
        # What a start that was given up has left: no client was told anything of it.
        discard(plan_fresh(config))
    _make_directories(config, paths)
    issue_keys(config, paths.keys)
    attach_state_disks(config, report)
    if not is_new:
        require_complete_logs(config, restart)  # the marks are on the disks
        report("restarting the cell from its disks")
    network.up(report)
    publish = {("server", server.id): server.publish for server in config.server}
    records: list[ProcessRecord] = []
    for kind, member in _members(config, restart):
        # Only here is it known that the cell is new: an empty log alone may be one that was lost.
        words = ("--born", *import_words(kind, imported)) if is_new else restart.words(kind)
        command = (*command_of(kind, member, config.path), *words)
        records.append(start_member(paths, network, kind, member, command, publish.get((kind, member), "")))
        report(f"{kind} {member}: process {records[-1].identity.pid}, log {records[-1].log}")
    return records


def _members(config: Config, restart: Restart) -> Sequence[tuple[MemberKind, int]]:
    """Return whom to start, in this order."""
    return [
        *(("witness", witness.id) for witness in config.witness),
        *(("server", server.id) for server in config.server if server.id not in restart.without),
    ]


def _make_directories(config: Config, paths: CellPaths) -> None:
    _require_own_state(paths.state_dir)
    try:
        for directory in (paths.state_dir, paths.runtime_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (paths.state_dir / STATE_MARK).touch()
        content = msgspec.json.encode(config, enc_hook=str)
        (paths.runtime_dir / "cell.json").write_bytes(content)
    except OSError as error:
        raise ProcessError(
            f"{error.filename} cannot be made: {error.strerror}", "see state_dir, runtime_dir"
        ) from error


def _require_own_state(directory: Path) -> None:
    """Refuse a directory with other people's files: `--purge` and `--fresh` will delete in it."""
    if (directory / STATE_MARK).exists() or not directory.exists():
        return
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in KNOWN_STATE)
    if foreign:
        message = f"state_dir {directory} has files that no cell made: {', '.join(foreign[:3])}"
        raise ProcessError(message, "name a directory that is empty or does not exist")


def issue_keys(config: Config, directory: Path, *, always: bool = False) -> Sequence[str]:
    """Give the cell its authority and every member a certificate; return the members that got a new one.

    Raises:
        KeysError: a file cannot be read or written, or belongs to another cell.
    """
    from replica_manager.network.keys import init, issue

    init(directory, config.cell.name)
    members: list[tuple[MemberKind, int]] = [
        *(("server", server.id) for server in config.server),
        *(("witness", witness.id) for witness in config.witness),
    ]
    issued = []
    for kind, member in members:
        addresses = certificate_addresses(config, kind, member)
        if issue(directory, config.cell.name, member_id(kind, member), addresses=addresses, always=always):
            issued.append(f"{kind}-{member}")
    return issued
