"""Figures of unit 00: the five families, timings, accuracies, and what a method changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from coursekit.measure import Latency
from coursekit.viz.style import GREY, MARKERS, PALETTE


@dataclass(frozen=True)
class Card:
    """One model measured five ways; `low` and `high` are the ends of the accuracy's 95 % interval."""

    name: str
    parameters: int
    stored_bytes: int
    flops: int
    latency: Latency
    accuracy: float
    low: float
    high: float


# ---- the five families ----


def families() -> Figure:
    """One small drawing for each of the five families of compression."""
    figure, axes = plt.subplots(1, 5, figsize=(10, 2.6))
    for axis, name in zip(axes, DRAWINGS, strict=True):
        _draw(axis, name)
        axis.set_title(
            name.replace(" factorization", "").replace("knowledge ", "").capitalize(), fontsize=11, loc="center"
        )
    return figure


def family(name: str) -> Figure:
    """One of these drawings without its title; `name` is a key of DRAWINGS."""
    figure, axis = plt.subplots(figsize=(1.75, 1.65), layout="constrained")
    _draw(axis, name)
    return figure


def _draw(axis: Axes, name: str) -> None:
    axis.set(xlim=(0, 10), ylim=(0, 10), aspect="equal")
    axis.axis("off")
    DRAWINGS[name](axis, np.random.default_rng(3).normal(size=(6, 6)))


def _grid(axis: Axes, values: np.ndarray, left: float, bottom: float, cell: float, levels: int | None = None) -> None:
    """A matrix as shaded cells; NaN is left empty, and `levels` rounds the shades."""
    shades = (np.clip(values, -2, 2) + 2) / 4
    if levels:
        shades = np.round(shades * (levels - 1)) / (levels - 1)
    for (row, column), shade in np.ndenumerate(shades):
        corner = (left + column * cell, bottom + (values.shape[0] - 1 - row) * cell)
        empty = np.isnan(shade)
        face = "white" if empty else plt.get_cmap("Blues")(0.15 + 0.8 * shade)
        axis.add_patch(Rectangle(corner, cell, cell, facecolor=face, edgecolor="#bbbbbb" if empty else "white", lw=0.6))


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=GREY, lw=1.2))


def _box(axis: Axes, left: float, bottom: float, width: float, height: float, text: str) -> None:
    axis.add_patch(Rectangle((left, bottom), width, height, facecolor="#f2f2f2", edgecolor=GREY, lw=1))
    axis.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=8)


def _sharing(axis: Axes, matrix: np.ndarray) -> None:
    _grid(axis, matrix, 0.2, 3.2, 0.6)
    for number, bottom in enumerate((0.8, 4.1, 7.4), 1):
        _box(axis, 6.2, bottom, 3.6, 1.8, f"layer {number}")
        _arrow(axis, (4.0, 5.0), (6.1, bottom + 0.9))


def _low_rank(axis: Axes, matrix: np.ndarray) -> None:
    _grid(axis, matrix, 0, 3.2, 0.6)
    axis.text(4.35, 5, "≈", ha="center", va="center", fontsize=14)
    _grid(axis, matrix[:, :1], 5.1, 3.2, 0.6)
    axis.text(5.95, 5, "·", ha="center", va="center", fontsize=16)
    _grid(axis, matrix[:1], 6.3, 4.7, 0.6)


def _pruning(axis: Axes, matrix: np.ndarray) -> None:
    _grid(axis, np.where(np.abs(matrix) < 0.7, np.nan, matrix), 0.4, 3.2, 0.6)
    axis.text(5, 5, "or", ha="center", va="center", fontsize=9)
    rows = matrix.copy()
    rows[[1, 3, 4]] = np.nan
    _grid(axis, rows, 6.0, 3.2, 0.6)


def _quantization(axis: Axes, matrix: np.ndarray) -> None:
    _grid(axis, matrix, 0, 3.2, 0.6)
    _arrow(axis, (3.9, 5), (5.8, 5))
    _grid(axis, matrix, 6.2, 3.2, 0.6, levels=3)
    axis.text(1.8, 2.1, "32 bits each", ha="center", fontsize=8)
    axis.text(8.0, 2.1, "few levels", ha="center", fontsize=8)


def _distillation(axis: Axes, matrix: np.ndarray) -> None:
    for bottom in np.arange(1.6, 8.0, 1.1):
        _box(axis, 0.2, bottom, 3.8, 0.9, "")
    for bottom in (3.8, 4.9):
        _box(axis, 6.6, bottom, 3.0, 0.9, "")
    _arrow(axis, (4.2, 5), (6.4, 5))
    axis.text(2.1, 0.4, "teacher", ha="center", fontsize=8)
    axis.text(8.1, 2.6, "student", ha="center", fontsize=8)


DRAWINGS = {
    "weight sharing": _sharing,
    "low-rank factorization": _low_rank,
    "pruning": _pruning,
    "quantization": _quantization,
    "knowledge distillation": _distillation,
}


# ---- timings ----


def calls_in_order(seconds: Sequence[float]) -> Figure:
    """Seconds of calls in the order in which they were made, with the median and the middle half of the later ones."""
    times = 1e3 * np.asarray(seconds)
    low, median, high = np.percentile(times[1:], (25, 50, 75))
    figure, axis = plt.subplots(figsize=(9, 3.2))
    axis.axhspan(low, high, color=PALETTE[0], alpha=0.15, label="middle half of the later calls")
    axis.axhline(median, color=PALETTE[0], ls="-", marker="", label="their median")
    axis.axhline(times.mean(), color=PALETTE[1], ls="--", marker="", label="mean of all calls")
    axis.scatter(range(2, len(times) + 1), times[1:], color=PALETTE[0], marker="o", s=24, zorder=3)
    axis.scatter([1], times[:1], color=PALETTE[1], marker="D", s=48, zorder=3, label="first call")
    axis.set(xlabel="call", ylabel="ms", ylim=(0, 1.08 * times.max()), title="Calls of one function, in order")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the axes: a stray call may lie anywhere
    return figure


def blocks_and_turns(blocks: Sequence[tuple[str, float]], turns: Sequence[tuple[str, float]], disturbed: int) -> Figure:
    """Two runs of (name, seconds) per call, one name after the other and in turns; from call `disturbed` on, a
    second job ran.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True)
    for axis, calls, title in zip(axes, (blocks, turns), ("First all A, then all B", "A and B in turns"), strict=True):
        axis.axvspan(disturbed + 0.5, len(calls) + 0.5, color="#eeeeee", label="a second job runs")
        for number, name in enumerate(dict.fromkeys(name for name, _ in calls)):
            own = [(place, 1e3 * time) for place, (other, time) in enumerate(calls, 1) if other == name]
            axis.scatter(*zip(*own, strict=True), color=PALETTE[number], marker=MARKERS[number], s=26, label=name)
        axis.set(xlabel="call", title=title)
    axes[0].set(ylabel="ms", ylim=(0, None))
    axes[0].legend(loc="upper left")
    return figure


# ---- accuracies, sizes, and what moved ----


def intervals(rows: Mapping[str, tuple[float, float, float]], baseline: float) -> Figure:
    """Accuracy, low and high end of the interval, in [0, 1], of each name, beside the share of the majority class."""
    figure, axis = plt.subplots(figsize=(7.2, 0.9 + 0.5 * len(rows)))
    for place, (accuracy, low, high) in enumerate(rows.values()):
        colour, marker = PALETTE[place % 7], MARKERS[place % 7]
        axis.plot([100 * low, 100 * high], [place, place], color=colour, marker="|", ls="-", markevery=1)
        axis.plot(100 * accuracy, place, color=colour, marker=marker, markevery=1, markersize=9)
    axis.axvline(100 * baseline, color=GREY, ls=":", marker="")
    axis.text(100 * baseline, -0.75, " majority class", color=GREY, va="center", fontsize=9)
    axis.set(xlabel="accuracy, % (bar: 95 % interval)", yticks=range(len(rows)), yticklabels=list(rows))
    axis.set(ylim=(len(rows) - 0.5, -1.1))
    axis.grid(axis="y", visible=False)
    return figure


def file_sizes(sparsities: Sequence[float], sizes: Mapping[str, Sequence[float]]) -> Figure:
    """Bytes of each way to store a matrix, relative to dense, against the share of zeros in it."""
    figure, axis = plt.subplots(figsize=(7.2, 3.6))
    for name, relative in sizes.items():
        axis.plot(100 * np.asarray(sparsities), relative, label=name, markevery=1)
    axis.axhline(1, color=GREY, ls=":", marker="", label="dense")
    axis.set(xlabel="zeros, %", ylabel="bytes relative to dense", ylim=(0, None), title="One matrix, stored")
    axis.legend()
    return figure


def zeros(cards: Mapping[float, Card], weights: np.ndarray, majority: float, sparsity: float) -> Figure:
    """Left: which `weights` (N,) of a matrix become zero at a sparsity. Right: the model's five numbers relative to
    those at the lowest sparsity; of accuracy its lead over the majority class. ValueError: not a measured sparsity.
    """
    if sparsity not in cards:
        raise ValueError(f"sparsity {sparsity} was not measured; measured: {', '.join(map(str, cards))}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    small = np.abs(weights) < np.quantile(np.abs(weights), sparsity)
    edges = np.linspace(*np.quantile(weights, (0.001, 0.999)), 61)
    kept, dropped = (np.histogram(weights[part], edges)[0] for part in (~small, small))
    left.stairs(kept, edges, fill=True, color=PALETTE[0], label="kept")
    left.stairs(dropped, edges, fill=True, fc="white", ec=PALETTE[1], hatch="////", label="set to zero")
    left.set(xlabel="weight", yticks=[], title=f"{100 * sparsity:.0f} % of the entries become 0")
    left.legend(loc="upper left")
    values = {"weights not zero": 1 - sparsity} | relative(cards[sparsity], cards[min(cards)], majority)
    del values["parameters"]
    right.barh(list(values), list(values.values()), color=[PALETTE[1], *[PALETTE[0]] * 3, PALETTE[2]])
    for place, value in enumerate(values.values()):
        right.text(max(value, 0) + 0.03, place, f"{value:.2f}", va="center", fontsize=10)
    right.axvline(1, color=GREY, ls=":", marker="")
    right.set(xlim=(min(0, *values.values()), 1.4), xlabel="relative to the original", title="What was measured")
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    return figure


def relative(card: Card, original: Card, majority: float) -> dict[str, float]:
    """The five numbers of a model divided by the original's; of accuracy its lead over the majority class's share."""
    return {
        "parameters": card.parameters / original.parameters,
        "bytes stored": card.stored_bytes / original.stored_bytes,
        "FLOPs": card.flops / original.flops,
        "time": (card.latency.ratio or 1.0) / (original.latency.ratio or 1.0),
        "accuracy lead": (card.accuracy - majority) / (original.accuracy - majority),
    }


def what_moved(cards: Sequence[Card], majority: float) -> Figure:
    """A panel for each of the five numbers, a row for each model, relative to the first model."""
    original, others = cards[0], cards[1:]
    table = [relative(card, original, majority) for card in others]
    figure, axes = plt.subplots(1, 5, figsize=(10, 0.9 + 0.5 * len(others)), sharey=True)
    for axis, number in zip(axes, table[0], strict=True):
        axis.axvline(1, color=GREY, ls=":", marker="")
        for place, values in enumerate(table):
            value = values[number]
            axis.plot([1, value], [place, place], color=PALETTE[place], marker="", ls="-", lw=2)
            axis.plot(value, place, color=PALETTE[place], marker=MARKERS[place], markersize=9, markevery=1)
            label = axis.text(value, place - 0.22, f"{value:.2f}", ha="center", va="bottom", fontsize=9)
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        axis.set(xlim=(-0.25, 1.35), xticks=(0, 0.5, 1), ylim=(len(others) - 0.5, -0.7))
        axis.set_title(number, fontsize=10, loc="center")
        axis.grid(axis="y", visible=False)
    axes[0].set(yticks=range(len(others)), yticklabels=[card.name for card in others])
    return figure
