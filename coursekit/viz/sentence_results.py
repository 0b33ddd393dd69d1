"""Figures of unit 03, the results: cross-evaluation, words alone, probes, pretraining, the masked-LM teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE

Interval = tuple[float, float, float]
Cell = float | Interval


def cross_tables(tables: Mapping[str, Mapping[tuple[str, str], Cell]]) -> Figure:
    """Accuracies in [0, 1] as squares: title → (trained on, tested on) → value, or value with interval.

    Darker is higher; one half is what guessing gives. The order of rows and columns is that of first mention.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(3.3 * len(tables), 2.9), squeeze=False)
    for axis, (title, cells) in zip(axes[0], tables.items(), strict=True):
        rows, columns = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
        values = np.full((len(rows), len(columns)), np.nan)
        for (row, column), cell in cells.items():
            value = cell if isinstance(cell, float) else cell[0]
            place = rows.index(row), columns.index(column)
            values[place] = value
            look = {"ha": "center", "color": "white" if value > 0.78 else "black"}
            axis.text(place[1], place[0], f"{100 * value:.1f}", va="center", fontweight="bold", **look)
            if not isinstance(cell, float):
                ends = f"{100 * cell[1]:.0f} to {100 * cell[2]:.0f}"
                axis.text(place[1], place[0] + 0.27, ends, va="center", fontsize=8.5, **look)
        axis.imshow(values, cmap="Blues", vmin=0.4, vmax=1, aspect="auto")
        axis.set(xticks=range(len(columns)), xticklabels=columns, yticks=range(len(rows)), yticklabels=rows)
        axis.set(xlabel="tested on", ylabel="trained on" if axis is axes[0][0] else "")
        axis.set_title(title, fontsize=10.5)
        axis.grid(visible=False)
        axis.tick_params(length=0)
    return figure


def by_test(tests: Sequence[str], rows: Mapping[str, Mapping[str, Sequence[float]]], chance: float = 0.5) -> Figure:
    """For each test a panel of dots: rows[name][test] holds the accuracy of each seed; a bar at their mean."""
    figure, axes = plt.subplots(1, len(tests), figsize=(10, 0.34 * len(rows) + 1.3), sharey=True, squeeze=False)
    for axis, test in zip(axes[0], tests, strict=True):
        axis.axvline(100 * chance, color=GREY, ls=":", marker="")
        for place, (_name, found) in enumerate(rows.items()):
            if values := found.get(test):
                look = {"color": PALETTE[place % 7], "marker": MARKERS[place % 7], "ls": "", "markevery": 1}
                axis.plot(100 * np.asarray(values), [place] * len(values), alpha=0.7, markersize=6, **look)
                mean = 100 * float(np.mean(values))
                axis.plot([mean, mean], [place - 0.3, place + 0.3], color=look["color"], marker="", ls="-", lw=2)
        axis.set(xlim=(42, 100), ylim=(len(rows) - 0.5, -0.5), title=test)
        axis.set_xlabel("accuracy, %")
        axis.set_title(test, fontsize=10.5)
    axes[0][0].set(yticks=range(len(rows)), yticklabels=list(rows))
    return figure


def probes(panels: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[Interval]]]]) -> Figure:
    """Accuracy in groups of test pairs: title → (names of the groups, model → value with interval for each group)."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.5), sharey=True, squeeze=False)
    for axis, (title, (groups, models)) in zip(axes[0], panels.items(), strict=True):
        axis.axhline(50, color=GREY, ls=":", marker="")
        for number, (name, intervals) in enumerate(models.items()):
            values = 100 * np.asarray(intervals)
            x = np.arange(len(groups)) + 0.08 * (number - (len(models) - 1) / 2)
            spread = np.abs(values[:, 1:].T - values[:, 0])
            axis.errorbar(
                x, values[:, 0], spread, label=name, capsize=3, marker=MARKERS[number], ls=LINES[number], markevery=1
            )
        axis.set(xticks=range(len(groups)), xticklabels=groups, xlim=(-0.4, len(groups) - 0.6))
        axis.set_title(title, fontsize=10.5)
    axes[0][0].set(ylabel="right, %")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def pretraining_arms(study: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """A row per arm (arm → how to call it): masked-LM top-1, and accuracy on both pair tasks; a mark per seed."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 0.42 * len(names) + 1.3), sharey=True)
    base = study["baselines"]
    panels = {
        "masked_lm accuracy": ("hidden tokens found, %", base["unigram"]["accuracy"]),
        "nsp accuracy": ("next sentence, %", base["words_alone"]["nsp"]["accuracy"]),
        "sop accuracy": ("sentence order, %", base["words_alone"]["sop"]["accuracy"]),
    }
    for axis, (key, (label, trivial)) in zip(axes, panels.items(), strict=True):
        axis.axvline(100 * trivial, color=GREY, ls="--", marker="")
        for place, arm in enumerate(names):
            seeds = [run["numbers"][key] for run in study["runs"] if run["arm"] == arm and key in run["numbers"]]
            look = {"color": PALETTE[place % 7], "marker": MARKERS[place % 7], "ls": "", "markevery": 1}
            axis.plot(100 * np.asarray(seeds), [place] * len(seeds), alpha=0.8, markersize=7, **look)
        axis.set(xlabel=label, ylim=(len(names) - 0.5, -0.5))
        if key != "masked_lm accuracy":
            axis.set_xlim(42, 85)  # one scale for both tasks: near 50, noise should look small
    axes[0].set(yticks=range(len(names)), yticklabels=list(names.values()))
    return figure


def teacher_curve(
    history: Sequence[Mapping[str, float]],
    evaluations: Sequence[Mapping[str, float]],
    texts: Sequence[str],
    target: float,
) -> Figure:
    """Left: top-1 on hidden tokens against steps, in training and on held-out texts; right: the training loss."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 3.7))
    steps = [entry["step"] for entry in history]
    left.plot(steps, [100 * entry["accuracy"] for entry in history], color=GREY, marker="", lw=1, label="training")
    for number, text in enumerate(texts):
        _held_out(left, evaluations, text, number)
    left.axhline(100 * target, color="black", ls=":", marker="")
    left.text(0.99, 100 * target, "target", ha="right", va="bottom", transform=left.get_yaxis_transform(), fontsize=9)
    left.set(xlabel="step", ylabel="hidden tokens found, %", ylim=(0, None))
    left.legend(fontsize=9)
    right.plot(steps, [entry["loss"] for entry in history], color=GREY, marker="", lw=1)
    right.set(xlabel="step", ylabel="training loss, nats per hidden token")
    return figure


def _held_out(axis: Axes, evaluations: Sequence[Mapping[str, float]], text: str, number: int) -> None:
    axis.plot(
        [entry["step"] for entry in evaluations],
        [100 * entry[f"{text} accuracy"] for entry in evaluations],
        label=f"{text}, held out",
        color=PALETTE[number],
        marker=MARKERS[number],
        ls=LINES[number],
        markevery=1,
    )
