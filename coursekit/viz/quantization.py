"""Figures of unit 06, the ideas: codes on a line, bits in a byte, the straight-through gradient, outliers, groups."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from coursekit.viz.style import GREY, LINES, MARKERS, PALETTE


def codes_on_a_line(values: ArrayLike, rows: Mapping[str, tuple[float, int, int, int]]) -> Figure:
    """Where values (N,) land: title → (scale, zero point, least code, most code), a line of codes for each."""
    values = np.asarray(values, dtype=float)
    figure, axes = plt.subplots(len(rows), 1, figsize=(9.6, 1.65 * len(rows)), sharex=True)
    for axis, (title, (scale, zero, least, most)) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        codes = np.arange(least, most + 1)
        places = scale * (codes - zero)
        axis.axhline(0, color="#bbbbbb", lw=1, marker="")
        axis.scatter(places, np.zeros_like(places), marker="|", s=220, color=GREY, zorder=2)
        for place, code in zip(places, codes, strict=True):
            axis.text(place, -0.5, str(code), ha="center", va="top", fontsize=8.5, color=GREY)
        landed = scale * (np.clip(np.round(values / scale) + zero, least, most) - zero)
        for value, end in zip(values, landed, strict=True):
            arrow = {"arrowstyle": "-|>", "color": PALETTE[1], "lw": 1.2, "shrinkA": 2, "shrinkB": 1}
            axis.annotate("", (end, 0), (value, 0.85), arrowprops=arrow)
        axis.scatter(values, np.full_like(values, 0.9), color=PALETTE[0], marker="o", s=34, zorder=3)
        axis.set(ylim=(-1.1, 1.3), yticks=[], title=title)
        axis.spines["left"].set_visible(False)
        axis.grid(False)
    return figure


def packed_bytes(codes: Sequence[int], bits: int = 4) -> Figure:
    """Signed codes as they lie in bytes, highest bit on the left: each code's bits in one colour.

    Raises ValueError for a code that does not fit into `bits` bits.
    """
    least = -(2 ** (bits - 1))
    for code in codes:
        if not least <= code < -least:
            raise ValueError(f"{code} does not fit into {bits} bits: {least} to {-least - 1}")
    stream = [(number, code >> bit & 1) for number, code in enumerate(codes) for bit in range(bits)]
    count = -(-len(stream) // 8)
    figure, axis = plt.subplots(figsize=(9.6, 1.9))
    for place in range(8 * count):
        byte, bit = divmod(place, 8)
        x = 9 * byte + 7 - bit
        owner, value = stream[place] if place < len(stream) else (None, 0)
        colour = "white" if owner is None else PALETTE[(0, 4)[owner % 2]]
        axis.add_patch(Rectangle((x, 0), 1, 1, facecolor=colour, edgecolor=GREY, alpha=0.55, lw=1))
        axis.text(x + 0.5, 0.5, str(value), ha="center", va="center", fontsize=12)
    for number, code in enumerate(codes):
        own = [9 * (place // 8) + 7.5 - place % 8 for place in range(number * bits, (number + 1) * bits)]
        if own[0] - own[-1] == bits - 1:  # in one byte
            axis.text(np.mean(own), 1.15, f"{code:+d}", ha="center", va="bottom", fontsize=11)
    for byte in range(count):
        total = sum(value << place for place, (_, value) in enumerate(stream[8 * byte : 8 * byte + 8]))
        axis.text(9 * byte + 4, -0.15, f"byte {byte}: {total} = 0x{total:02X}", ha="center", va="top", fontsize=10)
    axis.set(xlim=(-0.3, 9 * count - 0.7), ylim=(-0.75, 1.75), aspect="equal")
    axis.set_axis_off()
    return figure


def straight_through(x: ArrayLike, y: ArrayLike, gradient: ArrayLike) -> Figure:
    """Fake quantization (N,) of x (N,), its true slope, and the gradient (N,) that is used in its place."""
    x, y, gradient = (np.asarray(values, dtype=float) for values in (x, y, gradient))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.3), sharex=True)
    left.plot(x, x, color=GREY, ls=":", marker="", label="x itself")
    left.plot(x, y, color=PALETTE[0], ls="-", marker="", label="rounded and clamped")
    left.set(title="Forward", xlabel="x")
    left.legend()
    right.axhline(0, color=PALETTE[1], ls="--", marker="", label="true slope: 0 between the jumps")
    right.plot(x, gradient, color=PALETTE[2], ls="-", marker="", label="straight-through: 1 in the range")
    right.set(title="Gradient", xlabel="x", ylim=(-0.15, 1.5))
    right.legend(loc="upper center")
    return figure


def channels(panels: Mapping[str, ArrayLike], named: Sequence[int] = ()) -> Figure:
    """Largest |input| of each channel (in,), a panel each with the same y-axis; the channels `named` are marked."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9.6, 3.2), sharey=True)
    for axis, (title, largest) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        largest = np.asarray(largest, dtype=float)
        axis.vlines(np.arange(len(largest)), 0, largest, color=PALETTE[0], lw=0.8)
        for channel in named:
            axis.plot(channel, largest[channel], color=PALETTE[1], marker=MARKERS[3], ls="", markevery=1)
            axis.annotate(f"   channel {channel}", (channel, largest[channel]), fontsize=9, va="center")
        axis.axhline(np.median(largest), color=GREY, ls="--", lw=1, marker="", label="median channel")
        axis.set(title=title, xlabel="input channel", ylim=(0, None))
    np.atleast_1d(axes)[0].legend(loc="upper right")
    return figure


def errors_by_bits(bits: Sequence[int], errors: Mapping[str, ArrayLike], title: str) -> Figure:
    """Relative output error (B,) of each method against the bits of the weight; both axes show halvings equally."""
    figure, axis = plt.subplots(figsize=(7.2, 3.8))
    for number, (name, values) in enumerate(errors.items()):
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": LINES[number]}
        axis.plot(bits, 100 * np.asarray(values, dtype=float), label=name, markevery=1, **look)
    axis.set(yscale="log", xlabel="bits for each weight", ylabel="error of the output, %", title=title)
    axis.set_xticks(bits, [str(bit) for bit in bits])
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10, 30, 100) if axis.get_ylim()[0] <= tick <= axis.get_ylim()[1]]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend()
    return figure


def bits_and_groups(
    weights: ArrayLike, table: Mapping[tuple[int, int], tuple[float, float]], bits: int, group: int
) -> Figure:
    """Left: the codes of one group of `weights` (in,). Right: error against bytes of every (bits, group) in `table`.

    table maps (bits, group size) to (relative error, bits per weight with its share of the scale). Raises ValueError
    for a pair that is not in it.
    """
    if (bits, group) not in table:
        raise ValueError(f"bits {bits} with groups of {group} was not computed; known: {', '.join(map(str, table))}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.7))
    _one_row(left, np.asarray(weights, dtype=float), bits, group)
    for number, size in enumerate(sorted({size for _, size in table}, reverse=True)):
        error, cost = zip(*(value for (_, own), value in sorted(table.items()) if own == size), strict=True)
        look = {"color": PALETTE[number], "marker": MARKERS[number], "ls": LINES[number]}
        right.plot(cost, 100 * np.array(error), label=f"groups of {size}", markevery=1, **look)
    error, cost = table[bits, group]
    right.plot(cost, 100 * error, color="black", marker="o", ms=15, mfc="none", mew=2, ls="", markevery=1)
    right.set(yscale="log", xlabel="bits for each weight, scales included", title=f"{cost:.2f} bits, error {error:.1%}")
    right.set_ylabel("error of the matrix, %")
    right.set_yticks((1, 3, 10, 30), ("1", "3", "10", "30"))
    right.minorticks_off()
    right.legend(fontsize=9.5)
    return figure


def _one_row(axis: Axes, row: np.ndarray, bits: int, group: int) -> None:
    """The first 64 weights of a row between the levels of their groups."""
    most, shown = 2 ** (bits - 1) - 1, 64
    for start in range(0, shown, min(group, shown)):
        scale = np.abs(row[start : start + group]).max() / most
        end = min(start + group, shown)
        if bits <= 5:
            axis.hlines(scale * np.arange(-most, most + 1), start - 0.5, end - 0.5, color="#cccccc", lw=0.8, zorder=1)
        own = row[start:end]
        axis.vlines(np.arange(start, end), own, scale * np.round(own / scale), color=PALETTE[1], lw=1.4, zorder=2)
        if start:
            axis.axvline(start - 0.5, color=GREY, ls=":", lw=1, marker="")
    axis.scatter(np.arange(shown), row[:shown], color=PALETTE[0], marker="o", s=14, zorder=3)
    axis.grid(False)
    axis.set(title="64 weights of a row, and their error", xlabel="input", xlim=(-1, shown))
