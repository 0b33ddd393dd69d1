"""Figures of unit 05, the ideas: which entries go, in which order, and what is left to store."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE

GONE = "#ffffff"


def patterns(weight: ArrayLike, masks: Mapping[str, ArrayLike]) -> Figure:
    """One matrix (out, in) under several masks, title → mask (out, in), true where an entry stays."""
    values = np.abs(np.asarray(weight))
    figure, axes = plt.subplots(1, len(masks), figsize=(2.1 * len(masks), 2.1 * len(values) / values.shape[1] + 0.9))
    for axis, (title, mask) in zip(np.atleast_1d(axes), masks.items(), strict=True):
        _cells(axis, values, np.asarray(mask, dtype=bool))
        axis.set_title(title, fontsize=10, loc="center")
    return figure


def _cells(axis: Axes, values: np.ndarray, mask: np.ndarray) -> None:
    """Entries in shades of their magnitude; what is gone is white with a dot."""
    colours = plt.get_cmap("Blues").with_extremes(bad=GONE)
    axis.imshow(np.ma.masked_where(~mask, values), cmap=colours, vmin=-0.35 * values.max(), vmax=values.max())
    rows, columns = np.nonzero(~mask)
    axis.scatter(columns, rows, s=90 / values.shape[1], color="#bbbbbb", marker=".", linewidths=0)
    down, right = (np.arange(1, size) - 0.5 for size in values.shape)
    borders = {"colors": "#dddddd", "linewidth": 0.5, "linestyle": "-"}  # a grid of ticks takes ten times as long
    axis.hlines(down, -0.5, values.shape[1] - 0.5, **borders)
    axis.vlines(right, -0.5, len(values) - 0.5, **borders)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)


def schedules(curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Sparsity, in [0, 1], over training steps: name → (steps, sparsities)."""
    figure, axis = plt.subplots(figsize=(7.2, 3.2))
    for name, (steps, sparsity) in curves.items():
        axis.plot(steps, 100 * np.asarray(sparsity), label=name)
    axis.set(xlabel="training step", ylabel="zeros, %", ylim=(0, 100))
    axis.legend(loc="lower right")
    return figure


def moved(before: ArrayLike, after: ArrayLike, sparsity: float) -> Figure:
    """Weights before and after fine-tuning, (N,) each, and the cut that magnitude pruning makes among the latter."""
    before, after = np.asarray(before), np.asarray(after)
    figure, (cloud, change) = plt.subplots(1, 2, figsize=(9.6, 3.8))
    limit = float(np.quantile(np.abs(after), 0.999))
    cut = float(np.quantile(np.abs(after), sparsity))
    cloud.plot([-limit, limit], [-limit, limit], color=GREY, ls=":", marker="", lw=1)
    cloud.scatter(before, after, s=5, color=PALETTE[0], alpha=0.35, linewidths=0)
    cloud.axhspan(-cut, cut, color=PALETTE[1], alpha=0.18, lw=0)
    cloud.set(title="Each dot a weight", xlabel="published", ylabel="fine-tuned", xlim=(-limit, limit))
    cloud.set_ylim(-limit, limit)
    edges = np.linspace(-limit, limit, 81)
    for number, (name, values) in enumerate({"fine-tuned weight": after, "its movement": after - before}.items()):
        counts, _ = np.histogram(values, edges)
        change.stairs(counts / len(values), edges, color=PALETTE[number], ls=LINES[number], label=name, lw=1.6)
    change.set(title="How far they moved", xlabel="value", ylabel="share of weights", yscale="log")
    change.legend(fontsize=9.5, loc="upper right")
    return figure


def grid(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    crossed: ArrayLike | None = None,
) -> Figure:
    """A heat map with its numbers, (rows, columns); `crossed` marks cells, such as heads to remove, by a cross."""
    values = np.asarray(values, dtype=float)
    figure, axis = plt.subplots(figsize=(0.62 * len(columns) + 3, 0.42 * len(rows) + 1.3))
    image = axis.imshow(values, cmap="Blues", aspect="auto", vmin=min(0.0, values.min()), vmax=values.max())
    dark = values > values.min() + 0.6 * (values.max() - values.min())
    for row, column in np.ndindex(values.shape):
        cut = crossed is not None and np.asarray(crossed)[row, column]
        text = "×" if cut else f"{values[row, column].round(2) + 0.0:.2f}"  # no "-0.00"
        size, weight = (14, "bold") if cut else (8.5, "normal")
        colour = "white" if dark[row, column] else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=size, weight=weight, color=colour)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0)
    axis.grid(False)
    figure.colorbar(image, label=label)
    return figure


def sparsity_card(
    weight: ArrayLike,
    masks: Mapping[tuple[str, int], ArrayLike],
    accuracy: Mapping[str, Mapping[int, float]],
    *,
    method: str,
    zeros: int,
    majority: float,
) -> Figure:
    """One method at one share of zeros, in per cent: the mask, the model's accuracy, and bytes per weight.

    weight (out, in): a part of a real matrix; masks: (method, zeros) → (out, in); accuracy: method → zeros → value.
    """
    figure, (cells, quality, size) = plt.subplots(1, 3, figsize=(10, 3.7), width_ratios=(1.1, 1, 1))
    _cells(cells, np.abs(np.asarray(weight)), np.asarray(masks[method, zeros], dtype=bool))
    cells.set_title(f"{method}, {zeros} % zeros")
    for number, (name, points) in enumerate(accuracy.items()):
        chosen = name == method
        look = {"color": PALETTE[number], "ls": LINES[number], "marker": MARKERS[number], "alpha": 1 if chosen else 0.3}
        quality.plot(list(points), [100 * value for value in points.values()], markevery=1, label=name, **look)
    quality.plot(zeros, 100 * accuracy[method][zeros], marker="o", ms=15, mfc="none", mec="black", mew=1.6, markevery=1)
    quality.axhline(100 * majority, color=GREY, ls=":", marker="", lw=1.2)
    quality.set(title="Accuracy, %", xlabel="zeros, %", xlim=(-4, 104), ylim=(30, None), xticks=(0, 50, 100))
    quality.legend(fontsize=8.5, loc="lower left")
    _byte_curves(size)
    size.axvline(zeros, color="black", ls="-", marker="", lw=1.2)
    size.set_title("Bytes per weight")
    return figure


def bytes_per_weight() -> Figure:
    """Bytes per fp32 weight against the share of zeros: dense, CSR with two sizes of index, bits with values."""
    figure, axis = plt.subplots(figsize=(7.2, 3.6))
    _byte_curves(axis)
    axis.set_ylabel("bytes per weight")
    return figure


def _byte_curves(axis: Axes) -> None:
    zeros = np.arange(0, 101)
    kept = 1 - zeros / 100
    curves = {
        "dense": np.full(len(zeros), 4.0),
        "CSR, 8-byte index": 12 * kept,
        "CSR, 4-byte index": 8 * kept,
        "bits and values": 4 * kept + 1 / 8,
    }
    for number, (name, values) in enumerate(curves.items()):
        axis.plot(zeros, values, color=PALETTE[number], ls=LINES[number], marker=MARKERS[number], label=name)
    axis.set(xlabel="zeros, %", xlim=(0, 100), ylim=(0, 8), xticks=(0, 50, 100), yticks=(0, 4, 8))
    axis.legend(fontsize=8.5, loc="upper right")
