"""Pictures of a fault report, beside it; needs the extra `bench` (matplotlib)."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DOTS_PER_INCH = 120
WORDS = {"lie": "an active domain lies", "kill": "an active domain is killed"}


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_report(document: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the pictures of what the report has; return their files."""
    import matplotlib

    matplotlib.use("Agg")
    files = []
    if document.get("latency"):
        files.append(_plot_latency(document["latency"], directory / "latency.png"))
    if document.get("throughput"):
        files.append(_plot_throughput(document["throughput"], directory / "throughput.png"))
    return files


def latency_lines(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float, list[float]]]]:
    """Return `(U_max, median, all samples)` of every series of one service by its title.  Pure."""
    lines: dict[str, list[tuple[int, float, list[float]]]] = {}
    for row in sorted(rows, key=lambda row: row["updates_max"]):
        if row["median_ms"] is None:
            continue
        title = f"{WORDS[row['fault']]}, passive domains {row['passive_mode']}"
        samples = [s["timeline"]["latency_ms"] for s in row["all_samples"] if s["is_worst_case"]]
        lines.setdefault(title, []).append((row["updates_max"], row["median_ms"], samples))
    return lines


def _plot_latency(rows: Sequence[Mapping[str, Any]], file: Path) -> Path:
    from matplotlib import pyplot

    services = sorted({str(row["service"]) for row in rows})
    figure, panels = pyplot.subplots(1, len(services), figsize=(8 * len(services), 5), squeeze=False)
    for service, axes in zip(services, panels[0], strict=True):
        for title, points in latency_lines(row for row in rows if row["service"] == service).items():
            (line,) = axes.plot([x for x, _, _ in points], [median for _, median, _ in points], marker="o", label=title)
            for x, _, samples in points:
                axes.scatter([x] * len(samples), samples, s=8, alpha=0.5, color=line.get_color())
        axes.set(xlabel="updates per refresh (U_max)", ylabel="from detection to the reply, ms", ylim=(0, None))
        axes.set_title(f"Fault handling, {service}, worst case: median and all samples")
        axes.legend()
    figure.savefig(file, dpi=DOTS_PER_INCH)
    pyplot.close(figure)
    return file


def _plot_throughput(throughput: Mapping[str, Any], file: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    colors = {"half": "tab:blue", "saturated": "tab:orange"}
    named = set()
    for run in throughput["runs"]:
        name = run["load"]
        seconds, replies = zip(*run["per_second"], strict=True)
        label = f"{name} load" if name not in named else None
        axes.step(seconds, replies, where="post", color=colors[name], alpha=0.7, label=label)
        named.add(name)
    axes.axvline(0, color="black", linestyle=":")
    axes.set(xlabel="seconds after an active domain was killed", ylabel="replies per second", ylim=(0, None))
    axes.legend()
    figure.savefig(file, dpi=DOTS_PER_INCH)
    pyplot.close(figure)
    return file
