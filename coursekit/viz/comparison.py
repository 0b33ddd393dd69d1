"""Figures that compare models, of whichever family: bytes, time and accuracy on one page; differences and intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from coursekit.viz.style import GREY, MARKERS, PALETTE


@dataclass(frozen=True)
class Candidate:
    """One model: megabytes stored, time relative to full precision with its IQR, accuracy with its 95 % interval."""

    name: str
    megabytes: float
    time: float
    time_iqr: float
    accuracy: float
    low: float
    high: float


def one_page(models: Sequence[Candidate], majority: float) -> Figure:
    """Bytes, time and accuracy of each model on one page, a row each; accuracy beside the majority class's."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 0.44 * len(models) + 1.2), sharey=True)
    for place, model in enumerate(models):
        colour, marker = PALETTE[place % 7], MARKERS[place % 7]
        for axis, value in zip(axes, (model.megabytes, model.time, 100 * model.accuracy), strict=True):
            axis.plot(value, place, color=colour, marker=marker, ms=9, ls="", markevery=1)
        half = model.time_iqr / 2
        axes[0].plot([0, model.megabytes], [place, place], color=colour, marker="", ls="-")
        axes[1].plot([0, model.time - half], [place, place], color=colour, marker="", ls="-")
        axes[1].plot([model.time - half, model.time + half], [place, place], color="black", marker="|", lw=1)
        axes[2].plot([100 * model.low, 100 * model.high], [place, place], color=colour, marker="|", ls="-", markevery=1)
        written = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        written["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # legible on the line at 1
        axes[0].annotate(f"{model.megabytes:.1f}", (model.megabytes, place), (11, 0), **written)
        axes[1].annotate(f"{model.time:.2f}", (model.time + half, place), (11, 0), **written)
    axes[1].axvline(1, color=GREY, ls=":", marker="")
    axes[2].axvline(100 * majority, color=GREY, ls="-.", lw=1.2, marker="")
    axes[0].set(title="MB stored", xlim=(0, 1.25 * max(model.megabytes for model in models)))
    axes[1].set(title="Time, full precision = 1", xlim=(0, 1.25 * max(model.time for model in models)))
    axes[2].set(title="Accuracy, %")
    axes[2].text(100 * majority, -0.75, " majority", color=GREY, fontsize=8.5, va="center")
    axes[0].set(yticks=range(len(models)), yticklabels=[model.name for model in models])
    axes[0].set_ylim(len(models) - 0.5, -1.1)
    for axis in axes:
        axis.grid(axis="y", visible=False)
    return figure


def differences(rows: Mapping[str, Mapping[str, float]], title: str, unit: str = "points") -> Figure:
    """Name → difference, low, high (shares): one bar of an interval each, about a line at no difference."""
    figure, axis = plt.subplots(figsize=(8.4, 0.42 * len(rows) + 1.0))
    axis.axvline(0, color=GREY, ls=":", marker="")
    for place, row in enumerate(rows.values()):
        clear = row["low"] > 0 or row["high"] < 0
        colour, marker = (PALETTE[1], MARKERS[1]) if clear else (PALETTE[0], MARKERS[0])
        ends = 100 * row["low"], 100 * row["high"]
        axis.plot(ends, [place, place], color=colour, marker="|", ls="-", markevery=1)
        axis.plot(100 * row["difference"], place, color=colour, marker=marker, ms=8, ls="", markevery=1)
    axis.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5), xlabel=unit, title=title)
    axis.grid(axis="y", visible=False)
    return figure
