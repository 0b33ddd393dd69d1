"""Figures of unit 07: answers at a temperature, gradients, a teacher's confidence, and what the studies found."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE


def tempered(logits: ArrayLike, temperature: float) -> np.ndarray:
    """softmax(logits / T) over the last axis. Raises ValueError for a temperature that is not positive."""
    if not temperature > 0:
        raise ValueError(f"temperature must be a positive number, got {temperature}")
    scaled = np.asarray(logits, dtype=float) / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def equally_likely(probabilities: ArrayLike) -> float:
    """exp of the entropy: so many equally likely answers would be as uncertain."""
    p = np.asarray(probabilities, dtype=float)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def answers_at(logits: ArrayLike, answers: Mapping[str, int], temperature: float, *, right: str = "") -> Figure:
    """A teacher's probabilities for some of its answers, name → place in `logits` (C,), at T = 1 and at `temperature`.

    The bar "all others" has the rest; the answer called `right` is marked.
    """
    figure, axis = plt.subplots(figsize=(7.4, 0.34 * len(answers) + 1.9))
    places = np.arange(len(answers) + 1)
    for number, t in enumerate((1.0, temperature)):
        p = tempered(logits, t)
        shown = [100 * p[place] for place in answers.values()]
        shown.append(100 - sum(shown))
        style = {"color": PALETTE[number], "hatch": ("", "//")[number], "edgecolor": "white", "linewidth": 0}
        label = f"T = {t:g}: as uncertain as {equally_likely(p):,.1f} equally likely answers"
        axis.barh(places + 0.2 * (2 * number - 1), shown, 0.4, label=label, **style)
    names = [f"{name}  (what stood there)" if name == right else name for name in answers]
    axis.set(
        yticks=places, yticklabels=[*names, "all others"], xlabel="probability, %", ylim=(len(answers) + 0.6, -0.6)
    )
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", fontsize=9.5)
    return figure


def gradients(temperatures: Sequence[float], lengths: Mapping[str, Sequence[float]]) -> Figure:
    """Length of the soft loss's gradient against the temperature: name → one length for each temperature."""
    figure, axis = plt.subplots(figsize=(7.2, 3.6))
    for name, values in lengths.items():
        axis.plot(temperatures, values, label=name, markevery=1)
    axis.set(xscale="log", yscale="log", xlabel="temperature T", ylabel="length of the gradient")
    axis.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.legend()
    return figure


def confidence(kinds: Mapping[str, ArrayLike]) -> Figure:
    """How sure a teacher is: name → the probability of its first choice for each text, as steps of equal area."""
    figure, axis = plt.subplots(figsize=(7.2, 3.4))
    edges = np.linspace(0.5, 1, 26)
    for number, (name, values) in enumerate(kinds.items()):
        values = np.asarray(values, dtype=float)
        shares = np.histogram(values, edges)[0] / len(values)
        look = {"color": PALETTE[number], "linestyle": LINES[number], "linewidth": 2}
        axis.stairs(100 * shares, edges, label=f"{name}: mean {values.mean():.3f}", **look)
    axis.set(xlabel="probability of the teacher's first choice", ylabel="% of the texts", xlim=(0.5, 1))
    axis.legend(loc="upper left")
    return figure


# ---- studies ----


def label_curves(
    study: Mapping[str, Any], labels: Sequence[str], kinds: Mapping[str, str], levels: Mapping[str, str]
) -> Figure:
    """Test accuracy against the number of labels: kind of arm → its name, the arms being called "kind-labels".

    Large marks are means over seeds, small ones seeds; a kind may lack some counts. levels: arm → name of what does not
    depend on the labels. Beside them the bag of words with as many labels, and always naming the larger class.
    """
    figure, axis = plt.subplots(figsize=(7.6, 4.8))
    for number, (kind, name) in enumerate(kinds.items()):
        shift = 1 + 0.05 * (number - (len(kinds) - 1) / 2)  # seeds of one count side by side
        found = {int(c) * shift: _accuracies(study, f"{kind}-{c}") for c in labels if f"{kind}-{c}" in study["arms"]}
        look = {"color": PALETTE[number], "marker": MARKERS[number], "markevery": 1}
        for place, values in found.items():
            axis.plot([place] * len(values), values, ls="", markersize=4, alpha=0.5, **look)
        means = [np.mean(values) for values in found.values()]
        axis.plot(list(found), means, ls=LINES[number], markersize=9, label=name, **look)
    for number, (arm, name) in enumerate(levels.items(), start=len(kinds)):
        axis.axhline(np.mean(_accuracies(study, arm)), color=PALETTE[number], ls=LINES[number], marker="", label=name)
    counts, words = [int(count) for count in labels], study["baselines"]["bag_of_words"]
    look = {"color": GREY, "ls": "-.", "marker": "x", "markevery": 1}
    axis.plot(counts, [100 * np.mean(words[count]) for count in labels], label="bag of words", **look)
    axis.axhline(100 * study["baselines"]["majority"], color=GREY, ls=":", marker="", label="always the larger class")
    axis.set(xscale="log", xlabel="labels shown", ylabel="test accuracy, %")
    axis.set_xticks(counts, [f"{count:,}" for count in counts])
    axis.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9.5)
    return figure


def ablation(
    published: Mapping[str, float], ours: Mapping[str, Mapping[str, float]], words: Mapping[str, tuple[float, float]]
) -> Figure:
    """What leaving out a part costs: the paper's change of score; ours of test accuracy, {"difference", "low", "high"};
    and ours of hidden words found, (mean, standard deviation) in [0, 1]. One row for each name, in the first's order.
    """
    figure, axes = plt.subplots(1, 3, figsize=(10, 0.5 * len(published) + 1.6), sharey=True)
    rows = range(len(published))
    axes[0].barh(rows, list(published.values()), 0.55, color=GREY)
    for row, value in enumerate(published.values()):
        axes[0].text(value - 0.08, row, f"{value:+.2f}", ha="right", va="center", fontsize=9)
    for row, name in enumerate(published):
        _interval(axes[1], row, *(100 * ours[name][key] for key in ("difference", "low", "high")), PALETTE[0])
        mean, spread = words[name]
        _interval(axes[2], row, 100 * mean, 100 * (mean - spread), 100 * (mean + spread), PALETTE[2])
    axes[0].set(yticks=rows, yticklabels=list(published), ylim=(len(published) - 0.4, -0.6))
    axes[0].set(title="Published", xlabel="change of the GLUE score", xlim=(1.35 * min(published.values()), 0.2))
    axes[1].set(title="Ours: reviews", xlabel="change of test accuracy, points")
    axes[2].set(title="Ours: hidden words", xlabel="change of words found, points")
    for axis in axes:
        axis.axvline(0, color=GREY, ls=":", marker="")
        axis.grid(axis="y", visible=False)
    return figure


def _interval(axis: Axes, row: int, value: float, low: float, high: float, colour: str) -> None:
    axis.plot([low, high], [row, row], color=colour, marker="|", ls="-", markevery=1)
    axis.plot(value, row, color=colour, marker="o", markersize=8, ls="", markevery=1)


def _accuracies(study: Mapping[str, Any], arm: str) -> list[float]:
    """Of each seed, in per cent."""
    return [100 * run["numbers"]["test_accuracy"] for run in study["runs"] if run["arm"] == arm]
