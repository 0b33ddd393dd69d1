"""Figures of unit 06, the results: errors by layer, sensitivity, the study, papers."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE


def layer_errors(errors: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Method → layer's path → relative error of its output; the layers in order along the x-axis."""
    figure, axis = plt.subplots(figsize=(9.6, 3.6))
    names = list(next(iter(errors.values())))
    for number, (method, by_layer) in enumerate(errors.items()):
        values = [100 * by_layer[name] for name in names]
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": LINES[number], "ms": 5}
        axis.plot(range(len(names)), values, label=method, markevery=1, **look)
    short = [name.removeprefix("encoder.").removeprefix("layers.").replace("attention.", "") for name in names]
    axis.set_xticks(range(len(names)), short, rotation=90, fontsize=8)
    axis.set(ylabel="error of the layer's output, %", ylim=(0, None), title=title)
    axis.legend(fontsize=9.5)
    return figure


def sensitivity(values: ArrayLike, rows: Sequence[str], columns: Sequence[str], title: str) -> Figure:
    """A number for each (row, column) as a shaded grid, the number written in it."""
    values = np.asarray(values, dtype=float)
    figure, axis = plt.subplots(figsize=(7.2, 0.5 * len(rows) + 1.2))
    image = axis.imshow(values, cmap="Blues", aspect="auto", vmin=0)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 * values.max() else "black"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=10)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_title(title)
    axis.grid(False)
    figure.colorbar(image, ax=axis, fraction=0.04)
    return figure


def study_arms(study: Mapping[str, Any], families: Mapping[str, Sequence[str]]) -> Figure:
    """The study: megabytes against agreement with full precision and against accuracy, on test, all seeds.

    families: legend entry → arms, joined by a line.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharex=True)
    for axis, number in zip(axes, ("test_agreement", "test_accuracy"), strict=True):
        for place, (family, arms) in enumerate(families.items()):
            found = [study["arms"][arm] for arm in arms]
            x = [each["stored_bytes"]["mean"] / 1e6 for each in found]
            y, low, high = (100 * np.array([each[number][key] for each in found]) for key in ("mean", "min", "max"))
            look = {"color": PALETTE[place], "marker": MARKERS[place], "ls": LINES[place], "lw": 1.3}
            axis.errorbar(x, y, (y - low, high - y), label=family, capsize=3, markevery=1, **look)
        axis.set(xlabel="MB stored")
    axes[0].set(title="Agreement with full precision, %")
    whole = study["arms"]["fp32"]["test_accuracy"]["mean"]
    axes[1].axhline(100 * whole, color=GREY, ls=":", marker="", label="full precision (90.9 MB)")
    majority = study["baselines"]["majority_test_accuracy"]
    axes[1].axhline(100 * majority, color=GREY, ls="-.", lw=1.2, marker="", label="always the larger class")
    axes[1].set(title="Accuracy, %")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9.5)
    return figure


def beside_published(
    published: Mapping[str, Mapping[str, tuple[float, float]]], measured: Mapping[str, tuple[float, float]]
) -> Figure:
    """Quality kept, % of full precision: source → task → (full, quantized), and our own arms the same way."""
    groups = {**{f"{source} (published)": tasks for source, tasks in published.items()}, "measured here": measured}
    figure, axis = plt.subplots(figsize=(9.6, 0.3 * sum(map(len, groups.values())) + 1.4))
    place, names = 0, []
    axis.axvline(100, color=GREY, ls=":", marker="")
    for number, (source, tasks) in enumerate(groups.items()):
        kept = [100 * small / full for full, small in tasks.values()]
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": "", "ms": 8}
        axis.plot(kept, np.arange(place, place + len(kept)), label=source, markevery=1, **look)
        names += list(tasks)
        place += len(kept)
    axis.set(yticks=range(place), yticklabels=names, ylim=(place - 0.5, -0.5), xlabel="% of full precision's score")
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9.5)
    return figure
