"""Draws the throughput over time with the faults marked; matplotlib is optional (`pip install spare[bench]`)."""

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


class PlotUnavailable(Exception):
    """Raised when a plot was asked for and matplotlib is not installed: the operator's environment."""

    hint = "pip install 'spare[bench]'"


def is_plot_possible() -> bool:
    """Say whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draw the report `document` to `path`, a PNG.

    Raises:
        PlotUnavailable: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    if not is_plot_possible():
        raise PlotUnavailable("the plot needs matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.step(range(len(document["throughput_rps"])), document["throughput_rps"], where="post", linewidth=0.8)
    top = max(document["throughput_rps"], default=1) or 1
    for fault in document["faults"]:
        restored_s = fault["redundancy_restored_s"]
        axes.axvline(fault["at_s"], color="tab:red", linewidth=0.8)
        if restored_s is not None:
            axes.axvspan(fault["at_s"], fault["at_s"] + restored_s, color="tab:red", alpha=0.08, linewidth=0)
    for at_s, label in _labels(document["faults"]):
        axes.text(at_s, top, f" {label}", rotation=90, va="top", fontsize=7)
    axes.set(xlabel="seconds", ylabel="replies per second", ylim=(0, top * 1.05))
    axes.set_title(f"{document['schedule']}: from a fault (line) to full redundancy (end of the band)")
    figure.savefig(path, dpi=120)


def _labels(faults: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, str]]:
    """Yield one label per step: faults at a time would write over each other."""
    for _, group in itertools.groupby(faults, key=lambda fault: fault["step"]):
        together = list(group)
        yield together[0]["at_s"], " + ".join(f"{fault['kind']} {fault['target']}" for fault in together)
