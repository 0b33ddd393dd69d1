"""Figures of unit 10: the leaderboard as a table, the front that nothing beats, orders of stacking, equal compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from coursekit.errors import unknown_name
from coursekit.viz.style import MARKERS, PALETTE

GREY = "#666666"
FAMILIES = ("teacher", "baseline", "sharing", "low rank", "pruning", "quantization", "distillation", "stacked")


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard, means over seeds. ratios are times of one call over the teacher's; `gap` is None or
    the interval of accuracy minus the teacher's; `peak_bytes` is None where torch does not see the memory.
    """

    name: str
    family: str
    accuracy: float
    spread: float
    parameters: float
    bytes: float
    flops: float
    ratio_1: float
    ratio_32: float
    peak_bytes: float | None
    cpu_seconds: float
    gap: tuple[float, float] | None = None


def family_of(name: str) -> str:
    """The family of an arm of the study."""
    if name == "teacher" or name == "more":
        return "teacher"
    if "+" in name:
        return "stacked"
    families = {
        "sharing": ("shared-2", "shared-all"),
        "low rank": ("low-rank",),
        "pruning": ("words", "masked", "2:4", "heads", "neurons", "layers"),
        "quantization": ("int8", "int8-tables", "int4-tables", "ternary"),
        "distillation": ("distil", "distilbert", "pkd", "theseus", "minilm", "tinybert", "narrow-tinybert"),
    }
    return next((family for family, names in families.items() if name in names), "baseline")


def rows_of(study: Mapping[str, Any], gap: str = "test_accuracy") -> list[Row]:
    """The arms of a stored study "leaderboard"; gap: on which split a margin is judged."""
    rows = []
    for name, numbers in study["arms"].items():
        found = study["differences"].get(f"{name} − teacher", {}).get(gap)
        peak = numbers.get("peak_bytes")
        means = {key: numbers[key]["mean"] for key in Row.__dataclass_fields__ if key in numbers}
        rows.append(
            Row(
                name,
                family_of(name),
                numbers["test_accuracy"]["mean"],
                numbers["test_accuracy"]["sd"] or 0.0,
                **{key: means[key] for key in ("parameters", "bytes", "flops", "ratio_1", "ratio_32", "cpu_seconds")},
                peak_bytes=None if peak is None else peak["mean"],
                gap=None if found is None else (found["low"], found["high"]),
            )
        )
    return rows


COLUMNS: dict[str, tuple[str, Any, bool]] = {
    "accuracy": ("accuracy", lambda row: f"{row.accuracy:.1%} ± {row.spread:.1%}", True),
    "bytes": ("MB", lambda row: f"{row.bytes / 1e6:.2f}", False),
    "parameters": ("M weights", lambda row: f"{row.parameters / 1e6:.2f}", False),
    "flops": ("MFLOP", lambda row: f"{row.flops / 1e6:.0f}", False),
    "ratio_1": ("time, 1", lambda row: f"{row.ratio_1:.2f}", False),
    "ratio_32": ("time, 32", lambda row: f"{row.ratio_32:.2f}", False),
    "peak_bytes": ("peak MB", lambda row: "–" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.1f}", False),
    "cpu_seconds": ("CPU s", lambda row: f"{row.cpu_seconds:.0f}", False),
}
"""Field → heading, how it is written, whether large is good."""


def leaderboard(rows: Sequence[Row], order: str = "accuracy", family: str = "all") -> Figure:
    """The table, best first by one column; family: only these and the teacher. The column `GPU` says that it is open.

    Raises ValueError for an unknown column or family.
    """
    if order not in COLUMNS:
        raise unknown_name("column", order, COLUMNS)
    if family != "all" and family not in FAMILIES:
        raise unknown_name("family", family, ("all", *FAMILIES))
    shown = [row for row in rows if family in ("all", row.family) or row.name == "teacher"]
    worst = float("inf")

    def key(row: Row) -> float:
        value = getattr(row, order)
        return worst if value is None else -value if COLUMNS[order][2] else value

    shown.sort(key=key)
    figure, axis = plt.subplots(figsize=(11.5, 0.29 * len(shown) + 0.8))
    axis.set_axis_off()
    cells = [[row.name, *(write(row) for _, write, _ in COLUMNS.values()), "not yet"] for row in shown]
    heads = ["model", *(head for head, _, _ in COLUMNS.values()), "GPU"]
    widths = [0.19, 0.13, *[0.085] * (len(heads) - 3), 0.07]
    table = axis.table(cells, colLabels=heads, colWidths=widths, bbox=(0, 0, 1, 1), cellLoc="right")
    table.auto_set_font_size(False)
    table.set_fontsize(8.5)
    ordered = 1 + list(COLUMNS).index(order)
    for (line, column), cell in table.get_celld().items():
        cell.set_edgecolor("#dddddd")
        if line == 0:
            cell.set_text_props(weight="bold")
        elif shown[line - 1].name == "teacher":
            cell.set_facecolor("#e8eef5")
        if column == ordered:
            cell.set_text_props(color=PALETTE[0], weight="bold")
        if column == 0:
            cell.set_text_props(ha="left")
    return figure


def front(rows: Sequence[Row], cost: str = "bytes") -> list[Row]:
    """The rows that no other beats: none is as cheap and as accurate, and better in one. Cheapest first."""

    def beaten(row: Row) -> bool:
        mine = getattr(row, cost), -row.accuracy
        others = ((getattr(other, cost), -other.accuracy) for other in rows)
        return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)

    return sorted((row for row in rows if not beaten(row)), key=lambda row: (getattr(row, cost), row.name))


def pareto(rows: Sequence[Row], cost: str = "bytes", limit: float | None = None) -> Figure:
    """Accuracy against one cost, the front as a line; limit: a budget, in the unit of the axis.

    cost: "bytes" (MB), "ratio_1" or "ratio_32" (times the teacher's time), "cpu_seconds".
    """
    units = {
        "bytes": (1e6, "MB stored"),
        "ratio_1": (1, "time of one text, teacher = 1"),
        "ratio_32": (1, "time of 32 texts, teacher = 1"),
        "cpu_seconds": (1, "CPU seconds of all training"),
    }
    if cost not in units:
        raise unknown_name("cost", cost, units)
    scale, label = units[cost]
    figure, axis = plt.subplots(figsize=(9.6, 5.2))
    styles = [(PALETTE[n % len(PALETTE)], MARKERS[n % len(MARKERS)]) for n in range(len(FAMILIES) - 1)]
    styles.append((GREY, "*"))
    for family, (colour, marker) in zip(FAMILIES, styles, strict=True):
        own = [row for row in rows if row.family == family]
        if own:
            x = [getattr(row, cost) / scale for row in own]
            y = [100 * row.accuracy for row in own]
            bars = [100 * row.spread for row in own]
            axis.errorbar(x, y, bars, fmt=marker, ls="", color=colour, ms=7, markevery=1, elinewidth=0.8, label=family)
    best = front(rows, cost)
    x, y = [getattr(row, cost) / scale for row in best], [100 * row.accuracy for row in best]
    axis.plot(x, y, color="black", ls="-", lw=1, marker="", drawstyle="steps-post", label="nothing beats these")
    for row, right, up in zip(best, x, y, strict=True):
        axis.annotate(row.name, (right, up), xytext=(4, 5), textcoords="offset points", fontsize=8)
    if limit is not None:
        axis.axvline(limit, color=GREY, ls=":", marker="", label="budget")
    axis.set(xscale="log", xlabel=f"{label} (logarithmic)", ylabel="test accuracy (%)", title="What each costs")
    axis.legend(fontsize=8, loc="lower right")
    return figure


def gaps(differences: Mapping[str, tuple[float, float, float]], margin: float | None = None) -> Figure:
    """Differences of accuracy with their intervals: name → (difference, low, high); margin: a loss that is allowed."""
    figure, axis = plt.subplots(figsize=(8.6, 0.36 * len(differences) + 1.2))
    for place, (difference, low, high) in enumerate(differences.values()):
        axis.plot([100 * low, 100 * high], [place, place], color=PALETTE[0], ls="-", marker="|", markevery=1)
        axis.plot([100 * difference], [place], color=PALETTE[1], ls="", marker="o", markevery=1)
    axis.axvline(0, color="black", lw=1, ls="-", marker="")
    if margin is not None:
        axis.axvline(-100 * margin, color=GREY, ls=":", marker="")
    axis.set(yticks=range(len(differences)), yticklabels=list(differences), xlabel="points of accuracy")
    axis.invert_yaxis()
    return figure
