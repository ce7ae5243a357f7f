"""What this machine has of processes, namespaces, links, packet filters, mounts and loop devices: before and after."""

import re

from benchmarks.machine_traces import left_behind, machine_traces
from tests.vm.vm_cell import VmCell
from tests.vm.waiting import until

CELL_IN_NAME = re.compile(r"spare-(.+)-(?:switch|clients|[sw][0-9]+)$")
"""Names of namespaces and of their mounts."""

Traces = dict[str, list[str]]


def traces_of_machine(name: str, mark: str) -> Traces:
    """Return what is there; of cells only that called `name`, since others may come and go meanwhile.

    Args:
        name: of the cell.
        mark: a text in the command line of every process that counts.
    """
    found = machine_traces(mark)
    return {kind: [line for line in lines if _is_of(name, line)] for kind, lines in found.items()}


def _is_of(name: str, line: str) -> bool:
    cell = CELL_IN_NAME.search(line)
    return cell is None or cell[1] == name


def traces_of(cell: VmCell) -> Traces:
    """Return what is there of `cell`, and of the machine."""
    return traces_of_machine(cell.config.cell.name, str(cell.file.parent))


def require_nothing_left(cell: VmCell, before: Traces) -> None:
    """Wait until the machine is as it was, and nothing of the cell is below its runtime directory."""
    until(lambda: not left_behind(before, traces_of(cell)), "nothing is left behind", patience_s=30.0)
    assert not cell.machines()
    assert not cell.paths.runtime_dir.exists()
