"""Figures of unit 02, the results: costs side by side, one block applied many times, conversions, the trained study."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from coursekit.measure import Latency, Report
from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE

# ---- memory and time ----


def costs(report: Report) -> Figure:
    """The rows of a report relative to its first: parameters, bytes, operations, activations, time with its spread."""
    first, *others = report.rows
    panels = {
        "parameters": [row.parameters / first.parameters for row in others],
        "bytes stored": [row.stored_bytes / first.stored_bytes for row in others],
        "FLOPs": [row.flops / first.flops for row in others],
        "activations at peak": [row.peak_bytes / first.peak_bytes for row in others],
        "time": [row.latency.ratio for row in others],
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 0.6 * len(others) + 1.1), sharey=True)
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.axvline(1, color=GREY, ls=":", marker="")
        for row, value in enumerate(values):
            axis.plot([0, value], [row, row], color=PALETTE[row], marker="", ls="-", lw=2)
            axis.plot(value, row, color=PALETTE[row], marker=MARKERS[row], markersize=9, markevery=1)
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axis.text(value, row - 0.22, f"{value:.2f}", ha="center", va="bottom", fontsize=9, bbox=ground)
        axis.set(xlim=(0, 1.35), xticks=(0, 0.5, 1), ylim=(len(others) - 0.5, -0.75))
        axis.set_title(title, fontsize=10, loc="center")
        axis.grid(axis="y", visible=False)
    for row, other in enumerate(others):
        half = other.latency.ratio_iqr / 2
        axes[-1].plot([other.latency.ratio - half, other.latency.ratio + half], [row, row], color="black", marker="|")
    axes[0].set(yticks=range(len(others)), yticklabels=[row.name for row in others])
    return figure


def time_by_tokens(tokens: Sequence[int], times: Mapping[str, Sequence[Latency]]) -> Figure:
    """Time relative to no sharing against the tokens in a batch, with the spread (IQR) of the ratio."""
    figure, axis = plt.subplots(figsize=(7.2, 3.8))
    axis.axhline(1, color=GREY, ls=":", marker="")
    for name, latencies in times.items():
        ratios, spread = [each.ratio for each in latencies], [each.ratio_iqr / 2 for each in latencies]
        axis.errorbar(tokens, ratios, spread, label=name, capsize=3, markevery=1)
    axis.set(xscale="log", xlabel="tokens in the batch", ylabel="time relative to no sharing", ylim=(0, None))
    axis.set_xticks(tokens, [str(count) for count in tokens])
    axis.minorticks_off()
    axis.legend()
    return figure


def albert_scores(rows: Mapping[str, tuple[float, float, float]]) -> Figure:
    """Name → (million parameters, average score, training speed): score against size, and against speed."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True)
    for number, family in enumerate(("BERT", "ALBERT")):
        own = {name: row for name, row in rows.items() if name.split()[0] == family}
        size, score, speed = zip(*own.values(), strict=True)
        for axis, x in zip(axes, (size, speed), strict=True):
            axis.plot(x, score, marker=MARKERS[number], ls=LINES[number], color=PALETTE[number], markevery=1)
            left = axis is axes[1] and family == "ALBERT"  # where the other line would be in the way
            look = {"fontsize": 8.5, "ha": "right" if left else "left", "va": "top" if family == "ALBERT" else "bottom"}
            for name, where, height in zip(own, x, score, strict=True):
                axis.annotate(name, (where, height), (-5 if left else 5, -2), textcoords="offset points", **look)
    axes[0].set(xscale="log", xlabel="million parameters", ylabel="average score", title="Smaller files", xlim=(9, 900))
    axes[0].set_ylim(79, None)
    axes[1].set(xscale="log", xlabel="training speed, BERT-large = 1", title="Not faster models", xlim=(0.1, 14))
    for axis, ticks in zip(axes, ((10, 30, 100, 300), (0.3, 1, 3, 6)), strict=True):
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    return figure


# ---- one block, many depths ----


def depths(steps: Mapping[str, ArrayLike], accuracy: ArrayLike, trained: int) -> Figure:
    """Left: name → how far each depth moves the state, relative to its length. Right: accuracy, in [0, 1], after 0, 1,
    2… depths of one block that was trained at `trained` depths.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6))
    for name, moved in steps.items():
        left.plot(range(1, len(moved) + 1), moved, label=name, markevery=1)
    left.set(xlabel="depth", ylabel="in lengths of the state", title="How far a depth moves the state", ylim=(0, None))
    left.legend()
    right.plot(range(len(accuracy)), 100 * np.asarray(accuracy), markevery=1, markersize=5)
    right.axvline(trained, color=GREY, ls=":", marker="")
    right.text(trained + 0.3, 3, f"trained with {trained}", color=GREY, fontsize=9.5)
    right.set(xlabel="times the block is applied", title="Hidden tokens found, %", ylim=(0, 102))
    return figure


# ---- converting a trained model ----

Interval = tuple[float, float, float]


def conversions(rows: Mapping[str, Sequence[Interval]], original: Interval, majority: float) -> Figure:
    """Accuracy with its interval, in [0, 1]: name → right after the conversion and, where trained, after recovery."""
    figure, axis = plt.subplots(figsize=(7.6, 0.62 * len(rows) + 1.4))
    axis.axvspan(100 * original[1], 100 * original[2], color=PALETTE[2], alpha=0.15, lw=0)
    axis.axvline(100 * original[0], color=PALETTE[2], ls="-", marker="", label="the original, and its interval")
    axis.axvline(100 * majority, color=GREY, ls=":", marker="", label="always the larger class")
    labels = ("right after the conversion", "after a short recovery training")
    for row, intervals in enumerate(rows.values()):
        for place, (value, low, high) in enumerate(intervals):
            y = row + 0.24 * (place - 0.5)
            axis.plot([100 * low, 100 * high], [y, y], color=PALETTE[place], marker="|", ls="-", markevery=1)
            face = "white" if place == 0 else PALETTE[place]
            style = {"marker": MARKERS[place], "color": PALETTE[place], "markerfacecolor": face, "ls": ""}
            axis.plot(100 * value, y, markersize=8, markevery=1, label=labels[place] if row == 0 else None, **style)
    axis.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5))
    axis.set(xlabel="validation accuracy, % (bar: 95 % interval)")
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9.5)
    return figure


# ---- the trained study ----


def size_and_quality(
    study: Mapping[str, Any], arms: Sequence[str], copied: float, published: Mapping[str, tuple[float, float]]
) -> Figure:
    """Against the parameters of each arm: validation cross-entropy, test BLEU with the score of copying the source,
    and the paper's points, name → (million parameters, BLEU). Large marks are means over seeds, small ones seeds;
    arms of equal size stand a little apart.
    """
    figure, (loss, score, paper) = plt.subplots(1, 3, figsize=(10, 4.4))
    ours = _apart({arm: study["arms"][arm]["parameters"]["mean"] / 1e6 for arm in arms})
    theirs = _apart({arm: published[arm][0] for arm in arms if arm in published})
    for number, arm in enumerate(arms):
        look = {"color": PALETTE[number % 7], "marker": MARKERS[number % 7], "ls": "", "markevery": 1}
        for axis, name in ((loss, "dev_cross_entropy"), (score, "test_bleu")):
            found = study["arms"][arm][name]
            seeds = [run["numbers"][name] for run in study["runs"] if run["arm"] == arm]
            axis.plot([ours[arm]] * len(seeds), seeds, alpha=0.45, markersize=4, **look)
            axis.errorbar(ours[arm], found["mean"], found["sd"] or 0, capsize=4, markersize=9, label=arm, **look)
        if arm in published:
            paper.plot(theirs[arm], published[arm][1], markersize=9, **look)
    score.axhline(copied, color=GREY, ls="--", marker="")
    score.text(
        0.98,
        copied,
        "the source, copied",
        color=GREY,
        ha="right",
        va="bottom",
        fontsize=9,
        transform=score.get_yaxis_transform(),
    )
    loss.set(title="Ours: cross-entropy", ylabel="nats per token, validation (lower is better)")
    score.set(title="Ours: BLEU", ylabel="BLEU, test")
    paper.set(title="Published: BLEU", ylabel="BLEU, WMT'14 En–De")
    for axis, sizes in ((loss, ours), (score, ours), (paper, theirs)):
        axis.set(xlabel="million parameters", xlim=(0, 1.1 * max(sizes.values())))
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def _apart(sizes: Mapping[str, float]) -> dict[str, float]:
    """Sizes as drawn: those within 2 % of the largest size of each other are moved apart by 3 % of it."""
    step, placed = 0.03 * max(sizes.values()), {}
    for name, size in sizes.items():
        near = [other for other in sizes if abs(sizes[other] - size) < 2 * step / 3]
        placed[name] = size + step * (near.index(name) - (len(near) - 1) / 2)
    return placed


def learning_curves(study: Mapping[str, Any], arms: Sequence[str]) -> Figure:
    """Validation cross-entropy during training: mean over seeds, and a band from the lowest to the highest seed."""
    figure, axis = plt.subplots(figsize=(7.2, 4))
    for number, arm in enumerate(arms):
        curves = np.array([run["numbers"]["curve"] for run in study["runs"] if run["arm"] == arm])  # (seeds, points, 2)
        steps, values = curves[0, :, 0], curves[:, :, 1]
        look = {"color": PALETTE[number % 7], "ls": LINES[number % 7]}
        axis.fill_between(steps, values.min(0), values.max(0), color=look["color"], alpha=0.15, lw=0)
        axis.plot(steps, values.mean(0), label=arm, marker=MARKERS[number % 7], markevery=1, **look)
    axis.set(xlabel="training step", ylabel="cross-entropy, validation")
    axis.legend()
    return figure
