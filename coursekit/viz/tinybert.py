"""Figures of unit 09: padding in a loss, what augmentation does to answers, stages, ablations beside published ones."""

from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE


def padding_curves(lengths: Sequence[int], losses: Mapping[str, ArrayLike]) -> Figure:
    """A loss on one text against the length it is padded to; name → loss at each length."""
    figure, axis = plt.subplots(figsize=(7.2, 3.4))
    for number, (name, values) in enumerate(losses.items()):
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": LINES[number]}
        axis.plot(lengths, np.asarray(values, dtype=float), markevery=1, label=name, **look)
    axis.set(xlabel="padded to so many tokens", ylabel="loss", ylim=(0, None))
    axis.legend(fontsize=9.5)
    return figure


def agreement_by_changes(answers: Mapping[str, tuple[ArrayLike, ArrayLike]], *, most: int = 5) -> Figure:
    """Share of augmented texts with the original's answer, by how many words were replaced.

    answers: name → (words replaced (N,), whether the answer is the same (N,)). Bars are 95 % normal intervals; `most`
    and more are one group; under each group the number of texts.
    """
    figure, axis = plt.subplots(figsize=(7.2, 3.8))
    totals: Counter[int] = Counter()
    for number, (name, (changed, same)) in enumerate(answers.items()):
        changed, same = np.minimum(np.asarray(changed, dtype=int), most), np.asarray(same, dtype=float)
        totals.update(changed.tolist())
        groups = np.array(sorted(set(changed.tolist())))
        shares = np.array([same[changed == group].mean() for group in groups])
        half = 1.96 * np.sqrt(shares * (1 - shares) / np.array([(changed == group).sum() for group in groups]))
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": LINES[number], "ms": 8}
        beside = groups + 0.08 * (number - (len(answers) - 1) / 2)
        axis.errorbar(beside, 100 * shares, 100 * half, capsize=3, markevery=1, label=name, **look)
    named = {group: f"{group}{' or more' if group == most else ''}\n{totals[group]} texts" for group in sorted(totals)}
    axis.set_xticks(list(named), list(named.values()))
    axis.set(xlabel="words replaced", ylabel="same answer, %", ylim=(None, 102))
    axis.grid(axis="x", visible=False)
    axis.legend(fontsize=9.5, loc="lower left")
    return figure


def stage_losses(stages: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]]) -> Figure:
    """Every term of every stage over its steps, relative to its first value: stage → term → (steps, losses)."""
    figure, axes = plt.subplots(1, len(stages), figsize=(3.6 * len(stages) + 0.4, 3.6), sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for terms in stages.values() for name in terms))
    for axis, (stage, terms) in zip(axes[0], stages.items(), strict=True):
        for name, (steps, values) in terms.items():
            number, values = names.index(name), np.asarray(values, dtype=float)
            look = {"color": PALETTE[number % 7], "marker": MARKERS[number % 7], "ls": LINES[number % 7], "ms": 5}
            axis.plot(np.asarray(steps), values / values[0], markevery=0.2, label=name, **look)
        axis.set(title=stage, xlabel="step", ylim=(0, None))
    axes[0][0].set_ylim(0, 1.04 * axes[0][0].get_ylim()[1])  # room for the markers at 1
    axes[0][0].set_ylabel("loss, first value = 1")
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=9.5)
    return figure


def ablations(ours: Mapping[str, Mapping[str, float]], published: Mapping[str, float]) -> Figure:
    """What leaving something out costs: ours with its interval on the left, published on the right, row by row.

    ours: name → difference, low, high as shares; published: name → difference in points, for some of the names.
    """
    names = list(ours)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 0.44 * len(names) + 1.5), sharey=True)
    for place, row in enumerate(ours.values()):
        clear = row["low"] > 0 or row["high"] < 0
        colour, marker = (PALETTE[1], MARKERS[1]) if clear else (PALETTE[0], MARKERS[0])
        ends = 100 * row["low"], 100 * row["high"]
        left.plot(ends, [place, place], color=colour, marker="|", ls="-", markevery=1)
        left.plot([100 * row["difference"]], [place], color=colour, marker=marker, ms=8, ls="", markevery=1)
    for place, name in enumerate(names):
        if name in published:
            _bar(right, place, published[name])
    for axis in (left, right):
        axis.axvline(0, color=GREY, ls=":", marker="")
        axis.set_xlabel("points against the full method")
        axis.grid(axis="y", visible=False)
    left.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    left.set_title("Measured here: test accuracy", fontsize=11)
    right.set_title("Published: mean of MNLI, MRPC, CoLA (dev)", fontsize=11)
    return figure


def _bar(axis: Axes, place: int, value: float) -> None:
    axis.barh([place], [value], 0.5, color=PALETTE[2])
    side, align = (-6, "right") if value < 0 else (6, "left")
    axis.annotate(
        f"{value:+.1f}", (value, place), (side, 0), textcoords="offset points", ha=align, va="center", fontsize=9.5
    )
    axis.margins(x=0.2)
