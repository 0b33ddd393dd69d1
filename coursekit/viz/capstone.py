"""Unit 10: the leaderboard as a table, and a figure of the front that nothing beats."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from coursekit.course.studies.leaderboard_table import COLUMNS, FAMILIES, Row, front
from coursekit.errors import unknown_name
from coursekit.viz.style import GREY, MARKERS, PALETTE


def leaderboard(rows: Sequence[Row], order: str = "accuracy", family: str = "all") -> HTML:
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
    heads = {"name": "model", **{field: head for field, (head, _, _) in COLUMNS.items()}, "gpu": "GPU"}
    sort = "descending" if COLUMNS[order][2] else "ascending"
    marks = {order: f' aria-sort="{sort}"'}
    top = "".join(f'<th scope="col"{marks.get(field, "")}>{head}</th>' for field, head in heads.items())
    body = "".join(_line(row, order) for row in shown)
    return HTML(f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>")


def _line(row: Row, order: str) -> str:
    """A row of the table; what it is ordered by stands out, and so does the teacher."""
    written = {field: write(row).replace(" ", "&nbsp;") for field, (_, write, _) in COLUMNS.items()}
    strong = written.keys() if row.name == "teacher" else {order}
    cells = (f"<td><b>{words}</b></td>" if field in strong else f"<td>{words}</td>" for field, words in written.items())
    return f'<tr><th scope="row" style="text-align: left">{row.name}</th>{"".join(cells)}<td>not&nbsp;yet</td></tr>\n'


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
    if limit is not None:
        axis.axvline(limit, color=GREY, ls=":", marker="", label="budget")
    axis.set(xscale="log", xlabel=f"{label} (logarithmic)", ylabel="test accuracy (%)", title="What each costs")
    axis.xaxis.set(minor_locator=LogLocator(subs=(2, 5)), major_formatter="{x:g}", minor_formatter="{x:g}")
    _names(axis, [row.name for row in best], x, y)
    figure.legend(fontsize=8, loc="outside lower center", ncols=5)
    return figure


def _names(axis: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Names above their points, each above the one before it where both would take the same place."""
    left, right = np.log10(axis.get_xlim())
    taken, lane = -np.inf, 0
    for name, cost, height in zip(names, x, y, strict=True):
        place = (np.log10(cost) - left) / (right - left)
        lane = lane + 1 if place < taken else 0
        taken = max(taken, place + 0.01 * len(name))  # of the axis's width: letters of eight points
        look = {"arrowstyle": "-", "color": GREY, "lw": 0.6} if lane else None
        offset = (4, 5 + 11 * lane)
        axis.annotate(name, (cost, height), offset, textcoords="offset points", fontsize=8, arrowprops=look)
    axis.set_ylim(top=max(y) + 7)
