"""What this machine has of processes, namespaces, links, packet filters, mounts and loop devices: before and after."""

from benchmarks.machine_traces import left_behind, machine_traces
from tests.vm.vm_cell import OperatedCell
from tests.vm.waiting import until

Traces = dict[str, list[str]]


def traces_of(cell: OperatedCell) -> Traces:
    """Return what the machine has, processes of `cell` among it."""
    return machine_traces(str(cell.file.parent), cell.config.cell.name)


def require_nothing_left(cell: OperatedCell, before: Traces) -> None:
    """Wait until the machine is as it was, and nothing of the cell is below its runtime directory."""
    until(lambda: not left_behind(before, traces_of(cell)), "nothing is left behind", patience_s=30.0)
    assert not cell.machines()
    assert not cell.paths.runtime_dir.exists()
