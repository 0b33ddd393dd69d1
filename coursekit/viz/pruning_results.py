"""Figures of unit 05, the results: accuracy against sparsity, and accuracy, bytes and time together."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE


class Point(NamedTuple):
    """Accuracy at a share of zeros, both in [0, 1], and the lowest and highest it was seen at or may be."""

    sparsity: float
    value: float
    low: float
    high: float


def accuracy_curves(series: Mapping[str, Sequence[Point]], original: float, majority: float) -> Figure:
    """Accuracy against the share of zeros, method → points with their ranges; two levels to compare with."""
    figure, axis = plt.subplots(figsize=(7.2, 4.6))
    _curves(axis, series, original, majority)
    axis.set(xlabel="zeros in the encoder's matrices, %", ylabel="accuracy, %")
    figure.legend(*_all_labels(axis), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def study_curves(study: Mapping[str, Any], methods: Mapping[str, Sequence[str]]) -> Figure:
    """Every method of the study: accuracy against what is gone, before (validation) and after (test) the training.

    Below, the latter against what the model then costs: MB as stored, MB with each matrix in its smallest form, GFLOP.

    methods: label → arms in order of sparsity. Marks are means over seeds, bars from the lowest to the highest seed;
    each panel's dashed line is the arm `dense-0`, by the same number as the rest of the panel.
    """
    figure = plt.figure(figsize=(10, 9.2))
    places = figure.add_gridspec(2, 6)
    for title, (row, columns, number, split, cost, unit, words) in _PANELS.items():
        axis = figure.add_subplot(places[row, columns], sharey=figure.axes[0] if figure.axes else None)
        series = {}
        for label, arms in methods.items():
            found = [study["arms"][arm] for arm in arms if number in study["arms"][arm]]
            if found:
                series[label] = [Point(arm[cost]["mean"] / unit, *_range(arm[number])) for arm in found]
        levels = study["arms"]["dense-0"][number]["mean"], study["baselines"]["majority"][split]
        _curves(axis, series, *levels, methods, per_cent=cost == "sparsity")
        axis.set(title=title, xlabel=words, ylabel="" if columns.start else "accuracy, %")
        axis.tick_params(labelleft=not columns.start)
    figure.legend(*_all_labels(*figure.axes), loc="outside lower center", ncols=4, fontsize=9.5)
    return figure


_PANELS = {
    "Pruned, nothing trained": (0, slice(0, 3), "one_shot", "validation", "sparsity", 1, "gone from the matrices, %"),
    "After the same short training": (0, slice(3, 6), "test", "test", "sparsity", 1, "gone from the matrices, %"),
    "Trained: bytes as stored": (1, slice(0, 2), "test", "test", "bytes", 1e6, "MB"),
    "Bytes, sparse form": (1, slice(2, 4), "test", "test", "sparse_bytes", 1e6, "MB, each matrix in its smallest form"),
    "Operations": (1, slice(4, 6), "test", "test", "flops", 1e9, "GFLOP for 26 tokens"),
}
"""Title → row and columns in the grid, the accuracy drawn and its split, the cost it stands over and its unit."""


def _range(number: Mapping[str, float]) -> tuple[float, float, float]:
    return number["mean"], number["min"], number["max"]


def _curves(
    axis: Axes,
    series: Mapping[str, Sequence[Point]],
    original: float,
    majority: float,
    all_names: Sequence[str] | Mapping[str, Any] | None = None,
    per_cent: bool = True,
) -> None:
    """Curves with ranges; a name looks the same in every panel. Not `per_cent`: a point's first number is a cost."""
    places = {name: place for place, name in enumerate(all_names or series)}
    for name, points in series.items():
        place = places[name]
        across = [(100 if per_cent else 1) * point.sparsity for point in points]
        value, low, high = ([100 * getattr(point, field) for point in points] for field in ("value", "low", "high"))
        below, above = ([abs(a - b) for a, b in zip(value, ends, strict=True)] for ends in (low, high))
        look = {
            "color": PALETTE[place % 7],
            "marker": MARKERS[(place + place // 7) % 7],
            "ls": LINES[(place + 2 * (place // 7)) % 7] if len(points) > 1 else "",
        }
        axis.errorbar(across, value, (below, above), capsize=3, lw=1.6, markevery=1, label=name, **look)
    axis.axhline(100 * original, color=GREY, ls="--", marker="", lw=1.2, label="nothing pruned")
    axis.axhline(100 * majority, color=GREY, ls=":", marker="", lw=1.4, label="always the larger class")
    if per_cent:
        axis.set_xlim(0, 100)


def _all_labels(*axes: Axes) -> tuple[list[Any], list[str]]:
    """Handles and labels of several panels, each label once, the two levels last."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    last = [label for label in ("nothing pruned", "always the larger class") if label in found]
    order = [label for label in found if label not in last] + last
    return [found[label] for label in order], order


class Cost(NamedTuple):
    """One model: accuracy with its interval, in [0, 1]; MB stored as it is and in sparse form; time and its IQR, the
    original's being 1.
    """

    accuracy: tuple[float, float, float]
    megabytes: float
    sparse_megabytes: float
    time: float
    time_iqr: float


def costs(rows: Mapping[str, Cost], majority: float) -> Figure:
    """Accuracy, bytes and measured time of several models, a row each; the first is the original."""
    figure, (quality, size, time) = plt.subplots(1, 3, figsize=(10, 0.5 * len(rows) + 1.6), sharey=True)
    for row, (_name, cost) in enumerate(rows.items()):
        look = {"color": PALETTE[row % 7], "marker": MARKERS[row % 7], "ls": "", "ms": 8, "markevery": 1}
        value, low, high = (100 * number for number in cost.accuracy)
        quality.plot([low, high], [row, row], color=look["color"], marker="|", ls="-", lw=1.6, markevery=1)
        quality.plot(value, row, **look)
        size.plot([cost.sparse_megabytes, cost.megabytes], [row, row], color=look["color"], marker="", ls=":", lw=1.6)
        size.plot(cost.sparse_megabytes, row, **{**look, "markerfacecolor": "white"})
        size.plot(cost.megabytes, row, **look)
        half = cost.time_iqr / 2
        time.plot([cost.time - half, cost.time + half], [row, row], color=look["color"], marker="|", ls="-", lw=1.6)
        time.plot(cost.time, row, **look)
        time.text(cost.time, row - 0.2, f"{cost.time:.2f}", ha="center", va="bottom", fontsize=8.5)
    quality.axvline(100 * majority, color=GREY, ls=":", marker="", lw=1.2)
    quality.set(title="Accuracy, %", yticks=range(len(rows)), yticklabels=list(rows))
    quality.set_ylim(len(rows) - 0.5, -0.7)
    size.set(title="MB (hollow: sparse)", xlim=(0, None))
    time.axvline(1, color=GREY, ls=":", marker="", lw=1.2)
    time.set(title="Time, original = 1", xlim=(0, None))
    for axis in (quality, size, time):
        axis.grid(axis="y", visible=False)
    return figure
