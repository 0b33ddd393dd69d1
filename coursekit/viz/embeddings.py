"""Figures of unit 01: where the parameters are, and what a narrower word table costs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import ArrayLike

from coursekit.measure import break_even_embedding_size, embedding_parameters
from coursekit.viz.style import MARKERS, PALETTE

PARTS = {
    "word table": ("embeddings.word",),
    "attention": ("layers.attention",),
    "FFN": ("layers.ffn",),
    "pooler": ("pooler",),
}
REST = "positions, types, LayerNorms, map"
HATCHES = ("", "//", "..", "xx", "\\\\")


def main_parts(by_component: Mapping[str, int]) -> dict[str, int]:
    """The components of `count_parameters`, gathered into the five parts that the figures show.

    >>> main_parts({"embeddings.word": 12, "embeddings.norm": 2, "layers.ffn": 8})["word table"]
    12
    """
    parts = {part: sum(by_component.get(name, 0) for name in names) for part, names in PARTS.items()}
    return parts | {REST: sum(by_component.values()) - sum(parts.values())}


def stacked_parts(models: Mapping[str, Mapping[str, int]]) -> Figure:
    """Models taken apart, name → component → count: in millions on the left, as shares of each model on the right."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 0.62 * len(models) + 1.5), sharey=True)
    names = list(models)[::-1]  # the first on top
    parts = [main_parts(models[name]) for name in names]
    totals = np.array([sum(part.values()) for part in parts])
    for axis, scale in zip(axes, (np.full(len(names), 1e6), totals / 100), strict=True):
        left = np.zeros(len(names))
        for part, colour, hatch in zip(parts[0], PALETTE, HATCHES, strict=False):
            widths = np.array([counts[part] for counts in parts]) / scale
            axis.barh(names, widths, 0.68, left, label=part, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            left += widths
        axis.grid(False)
    for row, (total, counts) in enumerate(zip(totals, parts, strict=True)):
        axes[0].text(total / 1e6 + 1.5, row, f"{total / 1e6:.1f} M", va="center")
        share = 100 * counts["word table"] / total
        axes[1].text(share / 2, row, f"{share:.0f} %", va="center", ha="center", color="white", weight="bold")
    axes[0].set(title="Millions of parameters", xlim=(0, 1.17 * totals.max() / 1e6))
    axes[1].set(title="Share of the model, %", xlim=(0, 100))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9.5)
    return figure


def factorised_table(vocabulary: int = 100, hidden: int = 10, width: int = 5) -> Figure:
    """A V×H table beside its factors V×E and E×H, areas to scale, and the count against the width E.

    Raises ValueError for a size below 1.
    """
    full = embedding_parameters(vocabulary, hidden)
    both = embedding_parameters(vocabulary, hidden, width, kind="linear")
    figure, (drawn, axis) = plt.subplots(1, 2, figsize=(9.6, 3.8), width_ratios=(0.85, 1))
    _draw_factors(drawn, vocabulary, hidden, width)
    drawn.set_title(f"{full:,} or {both:,} numbers")

    edge = break_even_embedding_size(vocabulary, hidden)
    widths = np.arange(1, max(hidden, width) + 1)
    axis.axhline(full, color=PALETTE[6], linestyle="--", label=f"whole table: V·H = {full:,}")
    axis.plot(widths, [embedding_parameters(vocabulary, hidden, int(w), kind="linear") for w in widths], marker="")
    axis.axvline(edge, color=PALETTE[6], linestyle=":", label=f"break-even: E = {edge:.2f}")
    worth = PALETTE[2] if both < full else PALETTE[1]
    label = f"E = {width}: V·E + E·H = {both:,} ({both / full:.0%})"
    axis.plot(
        [width], [both], color=worth, marker=MARKERS[0 if both < full else 5], ms=10, ls="", markevery=1, label=label
    )
    axis.set(title="Numbers to store", xlabel="width E", ylim=(0, None), xlim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="lower right", fontsize=9.5, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def _draw_factors(axis: Axes, vocabulary: int, hidden: int, width: int) -> None:
    """The table and its two factors, the same area for each number: columns are equally wide, rows equally high."""
    gap = max(0.35 * hidden, 0.14 * (2 * hidden + width))  # room for a sign, and for labels wider than their columns
    tall = max(vocabulary, width)
    left = (0, hidden + gap, hidden + width + 2 * gap)
    for x, columns, rows, colour in zip(
        left,
        (hidden, width, hidden),
        (vocabulary, vocabulary, width),
        PALETTE[0:1] + PALETTE[2:3] + PALETTE[1:2],
        strict=True,
    ):
        axis.add_patch(Rectangle((x, tall - rows), columns, rows, color=colour))
        label = f"{rows:,}×{columns}"
        axis.text(x + columns / 2, 0.97 * tall - rows, label, ha="center", va="top")
    for x, sign in ((left[1] - gap / 2, "≈"), (left[2] - gap / 2, "·")):
        axis.text(x, 0.9 * tall, sign, ha="center", va="center", size=18)
    axis.set(xlim=(0, left[2] + hidden), ylim=(-0.1 * tall, tall))
    axis.set_axis_off()


def safe_picture(vocabulary: int = 100, hidden: int = 10, width: int = 5) -> Figure:
    """A word's way through SAFE, each matrix a rectangle of inputs × outputs, with the weights that the paper counts.

    Subformer (Reid et al. 2021), section 2.1 and appendix A: V·E + 5E² + E·H. All but the table is to scale.
    """
    counts = (vocabulary * width, 4 * width**2, width**2, width * hidden)
    labels = (
        f"word table\n{vocabulary:,}×{width}",
        f"attention: query, key,\nvalue, output, 4 of {width}×{width}",
        f"FFN, first matrix\n{width}×{width}, then ReLU",
        f"FFN, second matrix\n{width}×{hidden}",
    )
    figure, axis = plt.subplots(figsize=(10, 3.4))
    edges, left = [], 0.0  # of each part: where it begins and ends
    for number, wide in enumerate((1, 2.1, 1, hidden / width)):
        _draw_safe_part(axis, number, left, wide)
        text = f"{labels[number]}\n{counts[number]:,} weights"
        axis.text(left + wide / 2, -1.55, text, ha="center", va="top", fontsize=9.5)
        edges.append((left, left + wide))
        left += wide + 1.5
    for (_, end), (start, _) in zip(edges, [*edges[1:], (left, 0)], strict=True):
        _arrow(axis, (end + 0.05, 0), (start - 0.05, 0))
        axis.text(end + 0.9, 0.1, f"{hidden if end == edges[-1][1] else width}", ha="center", fontsize=11)
    out, back = edges[0][1] + 0.3, edges[1][1] + 0.3  # the residual leaves before attention and comes back after it
    axis.plot([out, out, back], [0, 1.6, 1.6], color="black", lw=1.2, ls="-", marker="")
    _arrow(axis, (back, 1.6), (back, 0))
    notes = ((sum(edges[1]) / 2, 1.68, "residual"), (edges[0][1] + 0.8, -0.3, "+ position"))
    notes += tuple((end + 0.8, -0.3, "LayerNorm") for _, end in (edges[1], edges[3]))
    for x, y, note in notes:
        axis.text(x, y, note, ha="center", fontsize=8.5, color=PALETTE[6])
    axis.set_title(f"SAFE: {' + '.join(f'{count:,}' for count in counts)} = {sum(counts):,} weights")
    axis.set(xlim=(-0.7, left), ylim=(-2.75, 2), aspect="equal")
    axis.set_axis_off()
    return figure


def _draw_safe_part(axis: Axes, number: int, left: float, wide: float) -> None:
    """The rectangles of one part around height 0; a matrix E×E has side 1, the table is cut short."""
    if number == 1:
        corners = [(left, 0.05), (left + 1.1, 0.05), (left, -1.05), (left + 1.1, -1.05)]
    else:
        corners = [(left, -1.3 if number == 0 else -0.5)]
    high = 2.6 if number == 0 else 1
    for letter, corner in zip("QKVO" if number == 1 else [""], corners, strict=True):
        side = 1 if number == 1 else wide
        axis.add_patch(Rectangle(corner, side, high, color=PALETTE[number], alpha=0.35, lw=0))
        axis.text(corner[0] + 0.5, corner[1] + 0.5, letter, ha="center", va="center", weight="bold")


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color="black", lw=1.2, shrinkA=0))


def spectrum(real: ArrayLike, random: ArrayLike, break_even: float) -> Figure:
    """Singular values (H,) of a real table and of a random one, and the share of energy that each width keeps."""
    figure, (values, energy) = plt.subplots(1, 2, figsize=(9.6, 3.6))
    for name, singular, colour, line in (
        ("real table", np.asarray(real), PALETTE[0], "-"),
        ("random table", np.asarray(random), PALETTE[1], "--"),
    ):
        number = np.arange(1, len(singular) + 1)
        kept = np.cumsum(singular**2) / np.sum(singular**2)
        values.plot(number, singular, color=colour, linestyle=line, marker="", label=name)
        energy.plot(number, 100 * kept, color=colour, linestyle=line, marker="", label=name)
    values.set(title="Singular values", xlabel="number", ylim=(0, None))
    values.legend()
    energy.axvline(break_even, color=PALETTE[6], linestyle=":")
    energy.text(break_even - 6, 3, f"break-even {break_even:.0f}", ha="right")
    energy.set(title="Energy kept, %", xlabel="width E", ylim=(0, 102))
    return figure


def widths_against_quality(
    widths: Sequence[int],
    agreement: Mapping[str, ArrayLike],
    accuracy: Mapping[str, ArrayLike],
    *,
    break_even: float,
    majority: float,
) -> Figure:
    """What each width costs: agreement of sentence similarities, and accuracy of a classifier.

    Both map a method to rows (value, low, high), one per width: (W, 3), in [−1, 1] and [0, 1].
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), sharex=True)
    for axis, results, scale in ((left, agreement, 1), (right, accuracy, 100)):
        for number, (name, rows) in enumerate(results.items()):
            value, low, high = scale * np.asarray(rows, dtype=float).T
            axis.errorbar(
                np.asarray(widths) + 4 * number,  # beside each other, so that the intervals can be seen
                value,
                (value - low, high - value),
                label=name,
                color=PALETTE[number],
                marker=MARKERS[number],
                linestyle=("-", "--")[number % 2],
                capsize=3,
                markevery=1,
            )
        axis.axvline(break_even, color=PALETTE[6], linestyle=":", label="break-even in bytes")
        axis.set(xlabel="width E of the word table", xlim=(0, None))
        axis.xaxis.set_major_locator(MultipleLocator(64))
    left.set(title="Similarities: agreement with E = H", ylim=(0, 1.03))
    right.axhline(100 * majority, color=PALETTE[6], linestyle="-.", linewidth=1.2, label="always the larger class")
    right.set(title="Classifier: accuracy, %")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9.5)
    return figure


def relative_quality(series: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Quality against width, each in per cent of what the widest gives: name → (shares E/H, qualities)."""
    figure, axis = plt.subplots(figsize=(7.2, 4.6))
    for number, (name, (shares, quality)) in enumerate(series.items()):
        order = np.argsort(shares)
        x, y = 100 * np.asarray(shares)[order], 100 * np.asarray(quality, dtype=float)[order]
        axis.plot(x, 100 * y / y[-1], label=name, color=PALETTE[number], marker=MARKERS[number], markevery=1)
    axis.set(xlabel="width E, % of the hidden size H", ylabel="quality, % of that at E = H", xlim=(0, None))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9.5)
    return figure
