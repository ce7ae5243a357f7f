"""A new one-machine cell that begins with a state from a file: checked before its start, compared after it."""

import time
from collections.abc import Sequence
from pathlib import Path

from replica_manager.cell_paths import MemberKind
from replica_manager.config import Config
from replica_manager.control.cell_network import Reporter
from replica_manager.control.cell_view import look
from replica_manager.control.checkpoint import Checkpoint, take_checkpoint
from replica_manager.control.errors import ControlError
from replica_manager.state_files.fitting import ImportedState, require_fit
from replica_manager.state_files.state_disk import OpenStateFile

COMPARE_S = 3600.0
"""For every domain to give its state once more, however large it is."""


class ImportFailed(ControlError):
    """Raised when a new cell does not hold the state that it was to begin with: an operating error, or a fault."""


def read_import(config: Config, path: Path, digest: str, report: Reporter) -> ImportedState:
    """Read a state from end to end; return it with its digest, so that every server takes the same.

    Raises:
        StateFileError: it is damaged, or does not fit this cell.
        OSError: it cannot be read.
    """
    with OpenStateFile(path) as file:
        state = file.verify()
    require_fit(state, file.name, config, time.time_ns() // 1000, digest)
    head = state.head
    report(
        f"{path}: {state.part_count} parts, {state.byte_count} bytes, of cell {head.cell} before sequence {head.point}"
    )
    return ImportedState(path, state.content_digest.hex())


def import_words(kind: MemberKind, imported: ImportedState | None) -> Sequence[str]:
    """Return what is added to the command of a member that is born."""
    if imported is None or kind != "server":
        return ()
    return ("--import", str(imported.path), "--digest", imported.digest)


def confirm_import(config: Config, imported: ImportedState, report: Reporter) -> None:
    """Compare the states of all domains with each other and with the file.

    Clients may have written already: then only the former can be told.  Each domain has been compared with the file
    before it served.

    Raises:
        ImportFailed: they differ; with each domain's digest.
    """
    taken = take_checkpoint(config, COMPARE_S)
    has_clients = any(answer.get("clients") for answer in look(config).answers.values())
    if not taken.is_equal or not (has_clients or imported.digest in taken.digests.values()):
        # Whom clients have talked to is no new cell any more.
        again = "spare cell up --fresh --import" if has_clients else "spare cell up --import"
        raise ImportFailed(_objection(taken, imported), f"see spare events; {again} tries it anew")
    compared = "equal to each other; clients have come already" if has_clients else f"equal to {imported.path}"
    report(f"{len(taken.digests)} domains hold the imported state: {compared}, digest {imported.digest}")


def _objection(taken: Checkpoint, imported: ImportedState) -> str:
    wrong = [f"{domain} {digest}" for domain, digest in sorted(taken.digests.items()) if digest != imported.digest]
    return f"the cell does not hold the state of {imported.path}, digest {imported.digest}: {', '.join(wrong)}"
