"""Pictures of a recovery report, beside it: throughput and latency over time with the phases marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fault_plots import DOTS_PER_INCH
from benchmarks.load_process import SECOND_US
from benchmarks.recovery_phases import PHASES, boundaries_us

COLORS = dict(zip(PHASES, ("tab:blue", "tab:purple", "tab:green", "tab:orange", "tab:red"), strict=True))
MARGIN_S = 30
"""Before and after a recovery that is drawn alone."""


def plot_report(document: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the pictures of what the report has; return their files."""
    import matplotlib

    matplotlib.use("Agg")
    files = []
    load = document.get("load", {})
    if "half" in load:
        half = load["half"]
        seconds = len(half["by_second"])
        files.append(_draw(half, 0, seconds, "Recoveries at half load", directory / "recoveries.png"))
        if half["recoveries"]:
            slowest = max(half["recoveries"], key=lambda row: row["slowest_reply_ms"])
            title = f"Recovery {slowest['number']}, at half load: the one with the slowest reply"
            files.append(_draw(half, *_span(half, slowest), title, directory / "recovery.png"))
    for row in load.get("saturated", {}).get("recoveries", ()):
        series = load["saturated"]
        files.append(_draw(series, *_span(series, row), "A recovery at saturation", directory / "saturated.png"))
    return files


def _span(series: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the first and the last second to be drawn of one recovery."""
    first = (row["began_us"] - series["began_us"]) // SECOND_US - MARGIN_S
    last = (row["ended_us"] - series["began_us"]) // SECOND_US + MARGIN_S
    return max(0, first), min(len(series["by_second"]), last)


def _draw(series: Mapping[str, Any], first: int, last: int, title: str, file: Path) -> Path:
    from matplotlib import pyplot
    from matplotlib.ticker import FormatStrFormatter

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(12, 7), sharex=True, layout="constrained")
    rows = series["by_second"][first:last]
    seconds = range(first, first + len(rows))
    above.step(seconds, [replies for replies, _, _ in rows], where="post", color="black", linewidth=0.8)
    above.set(ylabel="replies per second", ylim=(0, None))
    figure.suptitle(title)
    answered = [(second, row) for second, row in zip(seconds, rows, strict=True) if row[0]]
    times = [second + 0.5 for second, _ in answered]
    below.plot(times, [row[2] for _, row in answered], ".", color="tab:gray", markersize=3, label="slowest of a second")
    below.plot(times, [row[1] for _, row in answered], color="black", linewidth=0.8, label="median of a second")
    below.set(xlabel="seconds since the load began", ylabel="latency, ms", yscale="log", xlim=(first, last))
    below.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    _mark_phases((above, below), series["recoveries"], series["began_us"])
    # Below the axes: inside them it would hide what it explains.
    handles, labels = (mine + theirs for mine, theirs in zip(*map(_legend, (above, below)), strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    figure.savefig(file, dpi=DOTS_PER_INCH)
    pyplot.close(figure)
    return file


def _mark_phases(both: Sequence[Any], recoveries: Sequence[Mapping[str, Any]], origin_us: int) -> None:
    named: set[str] = set()
    for row in recoveries:
        for phase, begin_us, end_us in boundaries_us(row):
            span = ((begin_us - origin_us) / SECOND_US, (end_us - origin_us) / SECOND_US)
            for axes in both:
                # A phase of a tenth of a second is seen by its edge alone.
                label = None if phase in named else phase
                axes.axvspan(*span, color=COLORS[phase], alpha=0.25, linewidth=0.5, label=label)
                named.add(phase)


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles), list(labels)
