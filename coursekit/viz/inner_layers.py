"""Figures of unit 08: distances between layers, replacing, relations, methods beside each other."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from coursekit.distill.layers import Pairs
from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE

REPLACED, KEPT = PALETTE[0], "#e4e4e4"


def state_distances(distances: ArrayLike, maps: Mapping[str, Pairs], label: str) -> Figure:
    """Distance of each student state from each teacher state as a shaded grid (M + 1, N + 1), embeddings first; each
    map of (student, teacher) pairs marked in it."""
    values = np.asarray(distances, dtype=float)
    figure, axis = plt.subplots(figsize=(8.2, 0.62 * len(values) + 1.9))
    top = values.max()
    axis.imshow(values, cmap="Blues", aspect="auto", norm=PowerNorm(0.4, 0, 1.3 * top))
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.5 * top else "black"
        axis.text(column, row + 0.28, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    for number, (name, pairs) in enumerate(maps.items()):
        places = [(teacher, student - 0.14) for student, teacher in pairs]
        look = {"marker": MARKERS[number], "color": PALETTE[number], "mec": "white", "mew": 1.2, "ms": 11}
        axis.plot(*zip(*places, strict=True), ls="", markevery=1, label=name, **look)
    axis.set(xlabel="teacher's state", ylabel="student's state", yticks=range(len(values)))
    axis.set_xticks(range(values.shape[1]))
    axis.grid(False)
    axis.invert_yaxis()
    axis.set_title(label, fontsize=11)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def replacing(rates: ArrayLike, drawn: ArrayLike) -> Figure:
    """Theseus: the probability of replacing (steps,), and which modules were replaced (steps, M), the first below."""
    rates, drawn = np.asarray(rates, dtype=float), np.asarray(drawn, dtype=bool)
    figure, (curve, raster) = plt.subplots(2, 1, figsize=(8.2, 4.0), sharex=True, height_ratios=(1.3, 1))
    steps = np.arange(len(rates))
    curve.plot(steps, rates, marker="", color=PALETTE[0], label="probability")
    curve.plot(
        steps, drawn.mean(1), marker=".", ls="", ms=4, color=PALETTE[1], markevery=1, label="share of modules replaced"
    )
    curve.set(ylim=(-0.04, 1.06), title="How often the successor stands in")
    curve.legend(loc="lower right", fontsize=9.5)
    colours = np.where(drawn.T[..., None], _rgb(REPLACED), _rgb(KEPT))
    raster.imshow(colours, aspect="auto", origin="lower", interpolation="nearest")
    raster.set(xlabel="step", yticks=range(drawn.shape[1]), ylabel="module")
    raster.set_yticklabels([str(module + 1) for module in range(drawn.shape[1])])
    raster.set_title("Blue: the successor's layer; grey: the predecessor's", fontsize=11)
    raster.grid(False)
    return figure


def mixtures(accuracies: Mapping[str, Mapping[tuple[bool, ...], float]], majority: float) -> Figure:
    """Accuracy of every mixture of predecessor and successor: name → which modules are replaced → accuracy.

    Mixtures are ordered by how many modules are replaced; a filled square under the axis is a replaced module.
    """
    modules = len(next(iter(next(iter(accuracies.values())))))
    patterns = sorted(product((False, True), repeat=modules), key=lambda pattern: (sum(pattern), pattern[::-1]))
    figure, axis = plt.subplots(figsize=(8.2, 4.2))
    for number, (name, found) in enumerate(accuracies.items()):
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": LINES[number], "ms": 8, "lw": 1.2}
        axis.plot([100 * found[pattern] for pattern in patterns], markevery=1, label=name, **look)
    axis.axhline(100 * majority, color=GREY, ls=":", marker="", label="always the larger class")
    axis.set(ylabel="accuracy, %", xlim=(-0.5, len(patterns) - 0.5))
    words = ["".join("■" if replaced else "□" for replaced in pattern) for pattern in patterns]
    axis.set_xticks(range(len(patterns)), words, fontsize=13)
    axis.set_xlabel("modules from the first to the last: □ predecessor's, ■ successor's")
    axis.grid(axis="x", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9.5)
    return figure


def relation_maps(rows: Mapping[str, Mapping[str, ArrayLike]], tokens: Sequence[str]) -> Figure:
    """Distributions over tokens, row title → column title → (T, T), query down, key across; one scale a row."""
    columns = len(next(iter(rows.values())))
    figure, axes = plt.subplots(len(rows), columns, figsize=(3.1 * columns + 0.6, 2.9 * len(rows) + 0.5), squeeze=False)
    for line, (row, maps) in zip(axes, rows.items(), strict=True):
        top = max(float(np.asarray(values).max()) for values in maps.values())
        for axis, (column, values) in zip(line, maps.items(), strict=True):
            axis.imshow(np.asarray(values, dtype=float), cmap="Blues", vmin=0, vmax=top)
            axis.set_title(column, fontsize=10.5, loc="center")
            axis.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
            axis.set_yticks(range(len(tokens)), tokens if axis is line[0] else [], fontsize=8)
            axis.grid(False)
        line[0].set_ylabel(row, fontsize=11, weight="bold")
    return figure


def distance_table(values: ArrayLike, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Numbers (rows, columns), each cell shaded by its share of the largest in its column."""
    values = np.asarray(values, dtype=float)
    figure, axis = plt.subplots(figsize=(1.55 * len(columns) + 1.6, 0.42 * len(rows) + 1.0))
    shares = values / np.maximum(values.max(0), 1e-12)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if shares[row, column] > 0.7 else "black"
        axis.text(column, row, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=10)
    axis.set_xticks(range(len(columns)), columns, fontsize=9.5)
    axis.set_yticks(range(len(rows)), rows)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(False)
    return figure


def intervals(rows: Mapping[str, tuple[float, float, float]], levels: Mapping[str, float], label: str) -> Figure:
    """A mark and an interval in each row, name → (value, low, high) in [0, 1]; levels: name → line across."""
    figure, axis = plt.subplots(figsize=(8.2, 0.42 * len(rows) + 1.5))
    for place, (value, low, high) in enumerate(rows.values()):
        _interval(axis, place, value, low, high, place)
    _finish(axis, list(rows), levels, label)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def study_panels(
    study: Mapping[str, Any], panels: Mapping[str, Mapping[str, str]], levels: Mapping[str, float], label: str
) -> Figure:
    """Test accuracy in a stored study: panel title → name → arm. A mark at the mean, a bar from the lowest to the
    highest seed, a dot for each; levels: name → line across."""
    rows = max(map(len, panels.values()))
    size = (4.6 * len(panels) + 0.8, 0.42 * rows + 1.7)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, squeeze=False)
    for axis, (title, arms) in zip(axes[0], panels.items(), strict=True):
        for place, arm in enumerate(arms.values()):
            found = study["arms"][arm]["test_accuracy"]
            seeds = [100 * run["numbers"]["test_accuracy"] for run in study["runs"] if run["arm"] == arm]
            _interval(axis, place, found["mean"], found["min"], found["max"], place)
            axis.plot(seeds, [place + 0.26] * len(seeds), color=GREY, marker=".", ls="", ms=5, markevery=1)
        _finish(axis, list(arms), levels, label)
        axis.set_title(title)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def published(tables: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """Published scores, source → system → score: a row for each system, best last, its number written beside it."""
    rows = max(map(len, tables.values()))
    size = (5.0 * len(tables) + 0.6, 0.4 * rows + 1.3)
    figure, axes = plt.subplots(1, len(tables), figsize=size, squeeze=False)
    for number, (axis, (title, scores)) in enumerate(zip(axes[0], tables.items(), strict=True)):
        ordered = dict(sorted(scores.items(), key=lambda item: item[1]))
        values = list(ordered.values())
        axis.plot(values, range(len(values)), ls="", marker=MARKERS[number], ms=8, color=PALETTE[number], markevery=1)
        for place, value in enumerate(values):
            axis.annotate(f"{value:.1f}", (value, place), (9, 0), textcoords="offset points", va="center", fontsize=9.5)
        axis.set(yticks=range(len(values)), yticklabels=list(ordered), xlabel=label, ylim=(-0.6, len(values) - 0.4))
        axis.set_title(title, fontsize=11)
        axis.margins(x=0.2)
        axis.grid(axis="y", visible=False)
    return figure


def _interval(axis: Axes, place: int, value: float, low: float, high: float, number: int) -> None:
    look = {"color": PALETTE[number % 7], "markevery": 1}
    axis.plot([100 * low, 100 * high], [place, place], marker="|", ls="-", lw=1.6, **look)
    axis.plot([100 * value], [place], marker=MARKERS[number % 7], ms=8, ls="", **look)


def _finish(axis: Axes, names: Sequence[str], levels: Mapping[str, float], label: str) -> None:
    for (name, value), line in zip(levels.items(), ("--", ":", "-."), strict=False):
        axis.axvline(100 * value, color=GREY, ls=line, lw=1.3, marker="", label=name)
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6), xlabel=label)
    axis.grid(axis="y", visible=False)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
