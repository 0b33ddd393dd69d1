"""Figures of unit 04: a matrix as two, what that costs in error, bytes and time, and what brings accuracy back."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from coursekit.compress.lowrank import break_even_rank
from coursekit.viz.style import MARKERS, PALETTE


def direction_sweep(weight: ArrayLike) -> Figure:
    """Error of W (out, 2) cut to one direction v of its input, ‖W − W v vᵀ‖, over the angle of v."""
    weight = np.asarray(weight, dtype=float)
    angles = np.linspace(0, 180, 361)
    radians = np.deg2rad(angles)
    directions = np.stack((np.cos(radians), np.sin(radians)))  # (2, angles)
    errors = np.sqrt(np.maximum(np.sum(weight**2) - np.sum((weight @ directions) ** 2, 0), 0))
    best = int(errors.argmin())
    figure, axis = plt.subplots(figsize=(7.2, 3.2))
    axis.plot(angles, errors, marker="", label="error of rank 1")
    smallest = np.linalg.svd(weight, compute_uv=False)[-1]
    axis.axhline(smallest, color=PALETTE[6], linestyle="--", label=f"dropped singular value {smallest:.3f}")
    kept = {"color": PALETTE[1], "marker": MARKERS[1], "ms": 9, "ls": "", "markevery": 1}
    axis.plot(angles[best], errors[best], label=f"{angles[best]:.0f}°", **kept)
    axis.set(xlabel="angle of the kept direction, degrees", ylabel="‖W − Ŵ‖", ylim=(0, None), xlim=(0, 180))
    axis.legend(ncols=3, loc="lower right", fontsize=9.5)
    return figure


def rank_card(rows: int, columns: int, rank: int, errors: Mapping[str, ArrayLike]) -> Figure:
    """A matrix and its factors to scale with their numbers, and what each rank loses.

    errors: name → shares lost (min(rows, columns) + 1,) at rank 0, 1, …, computed beforehand, so that a slider is
    quick. Raises ValueError for a rank out of range.
    """
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(f"the rank of a {rows}×{columns} matrix lies between 1 and {min(rows, columns)}, got {rank}")
    whole, both, edge = rows * columns, rank * (rows + columns), break_even_rank(rows, columns)
    figure, (drawn, axis) = plt.subplots(1, 2, figsize=(9.6, 3.8), width_ratios=(0.95, 1))
    _draw_factors(drawn, rows, columns, rank)
    drawn.set_title(f"{whole:,} or {both:,} numbers: {both / whole:.0%}")
    ranks = np.arange(min(rows, columns) + 1)
    for number, (name, lost) in enumerate(errors.items()):
        lost = 100 * np.asarray(lost, dtype=float)
        axis.plot(ranks, lost, color=PALETTE[number], marker="", linestyle=("-", "--")[number % 2], label=name)
        axis.plot(
            [rank], lost[rank : rank + 1], color=PALETTE[number], marker=MARKERS[number], ls="", ms=8, markevery=1
        )
        axis.annotate(f"{lost[rank]:.0f} %", (rank, lost[rank]), (6, 6), textcoords="offset points", fontsize=9.5)
    axis.axvline(edge, color=PALETTE[6], linestyle=":", label=f"break-even {edge:.1f}")
    axis.set(title="Share lost, %", xlabel="rank", ylim=(0, 104), xlim=(0, None))
    axis.legend(fontsize=9.5)
    return figure


def _draw_factors(axis: Axes, rows: int, columns: int, rank: int) -> None:
    """W ≈ up · down, the same area for each number."""
    gap = 0.3 * max(rows, columns)
    left, top = 0.0, max(rows, columns)
    for name, height, width, colour, sign in (
        (f"W\n{rows}×{columns}", rows, columns, PALETTE[0], "≈"),
        (f"up\n{rows}×{rank}", rows, rank, PALETTE[2], "·"),
        (f"down\n{rank}×{columns}", rank, columns, PALETTE[1], ""),
    ):
        axis.add_patch(Rectangle((left, top - height), width, height, color=colour))
        axis.text(left + width / 2, top - height - 0.03 * top, name, ha="center", va="top", fontsize=9.5)
        axis.text(left + width + gap / 2, 0.92 * top, sign, ha="center", va="center", size=18, weight="bold")
        left += width + gap
    axis.set(xlim=(-0.3 * gap, left), ylim=(-0.25 * top, 1.02 * top), aspect="equal")
    axis.set_axis_off()


def break_even_times(ranks: Sequence[int], measured: Mapping[str, ArrayLike], edge: float) -> Figure:
    """Time of a factorised layer relative to the dense one, by rank, beside what its products alone would take.

    measured: name → rows (ratio, interquartile range), one per rank: (ranks, 2). Ratios above 1.7 are cut off.
    """
    figure, axis = plt.subplots(figsize=(7.2, 4.0))
    axis.plot([0, max(ranks)], [0, max(ranks) / edge], color=PALETTE[6], ls="--", marker="", label="by products alone")
    for number, (name, rows) in enumerate(measured.items()):
        ratio, spread = np.asarray(rows, dtype=float).T
        axis.errorbar(
            ranks,
            ratio,
            spread / 2,
            color=PALETTE[number],
            marker=MARKERS[number],
            linestyle=("-", ":")[number % 2],
            capsize=3,
            markevery=1,
            label=name,
        )
    axis.axhline(1, color=PALETTE[6], linewidth=1.2, label="dense")
    axis.axvline(edge, color=PALETTE[6], linestyle=":", label=f"break-even on paper {edge:.1f}")
    axis.set(title="Time relative to the dense layer", xlabel="rank", xlim=(0, None), ylim=(0, 1.7))
    axis.legend(fontsize=9.5, loc="upper left")
    return figure


def energy_panels(panels: Mapping[str, tuple[Mapping[str, ArrayLike], float | None]], *, log: bool = False) -> Figure:
    """Share of energy Σσ² that the first r directions hold: title → (name → singular values, break-even rank or None).

    log: ranks on a logarithmic axis, where the first few directions are what matters.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.8), sharey=True, squeeze=False)
    for axis, (title, (curves, edge)) in zip(axes[0], panels.items(), strict=True):
        for number, (name, singular) in enumerate(curves.items()):
            energy = np.asarray(singular, dtype=float) ** 2
            kept = 100 * np.cumsum(energy) / energy.sum()
            style = {"color": PALETTE[number], "linestyle": ("-", "--", "-.", ":")[number % 4], "marker": ""}
            axis.plot(np.arange(1, len(kept) + 1), kept, label=name, **style)
        if edge is not None:
            axis.axvline(edge, color=PALETTE[6], linestyle=":")
            axis.text(edge, 3, f"break-even {edge:.0f} ", ha="right", fontsize=9.5)
        axis.set(title=title, xlabel="rank", ylim=(0, 102), xscale="log" if log else "linear")
        axis.legend(fontsize=9.5, loc="upper left" if log else "center right")
    axes[0][0].set_ylabel("energy kept, %")
    return figure


def layer_maps(maps: Mapping[str, ArrayLike], kinds: Sequence[str]) -> Figure:
    """Heat maps side by side on one scale: title → (layers, kinds) shares lost, each written into its cell."""
    arrays = {title: 100 * np.asarray(values, dtype=float) for title, values in maps.items()}
    top = max(values.max() for values in arrays.values())
    figure, axes = plt.subplots(1, len(arrays), figsize=(4.8 * len(arrays), 4.0), sharey=True, squeeze=False)
    for axis, (title, values) in zip(axes[0], arrays.items(), strict=True):
        image = axis.imshow(values, cmap="cividis_r", vmin=0, vmax=top, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > 0.55 * top else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=10)
        axis.set(title=title, yticks=range(len(values)))
        axis.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
        axis.grid(False)
    axes[0][0].set_ylabel("layer")
    figure.colorbar(image, ax=axes[0].tolist(), label="% lost", shrink=0.85)
    return figure


def part_effects(effects: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """Bars for what compressing one part alone does: panel title → part → value."""
    figure, axes = plt.subplots(1, len(effects), figsize=(4.8 * len(effects), 3.0), sharex=True, squeeze=False)
    for axis, colour, (title, parts) in zip(axes[0], PALETTE, effects.items(), strict=False):
        names = list(parts)[::-1]
        bars = axis.barh(names, [parts[name] for name in names], 0.65, color=colour)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=9.5)
        axis.set(title=title, xlabel=label)
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.18)
    return figure


def trade_offs(
    series: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    dense: Mapping[str, float],
    majority: float,
    columns: Mapping[str, str],
) -> Figure:
    """Accuracy against several costs on shared heights.

    series: name → points with "accuracy", "low", "high" in [0, 1] and a value per cost; dense: the same for the dense
    model; columns: cost → axis label.
    """
    figure, axes = plt.subplots(1, len(columns), figsize=(3.4 * len(columns), 4.2), sharey=True, squeeze=False)
    for axis, (cost, label) in zip(axes[0], columns.items(), strict=True):
        for number, (name, points) in enumerate(series.items()):
            x, *heights = (np.array([p[key] for p in points]) for key in (cost, "accuracy", "low", "high"))
            value, low, high = (100 * height for height in heights)
            axis.errorbar(
                x,
                value,
                (value - low, high - value),
                color=PALETTE[number],
                marker=MARKERS[number],
                linestyle=("-", "--", ":")[number % 3],
                capsize=2,
                elinewidth=1,
                markevery=1,
                label=name,
            )
        axis.plot(
            [dense[cost]],
            [100 * dense["accuracy"]],
            color=PALETTE[6],
            marker="*",
            ms=13,
            ls="",
            markevery=1,
            label="dense",
        )
        axis.axhline(100 * majority, color=PALETTE[6], linestyle="-.", linewidth=1.2, label="larger class")
        axis.set(xlabel=label, xlim=(0, None))
    axes[0][0].set_ylabel("validation accuracy, %")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9.5)
    return figure


def recovery(
    keeps: Sequence[float], arms: Mapping[str, Sequence[Mapping[str, float]]], lines: Mapping[str, float]
) -> Figure:
    """Test accuracy by share kept, mean with the range over seeds; lines: name → accuracy to draw across.

    arms: name → for each share a summary with "mean", "min", "max" in [0, 1].
    """
    figure, axis = plt.subplots(figsize=(7.2, 4.4))
    for number, (name, rows) in enumerate(arms.items()):
        mean, low, high = (100 * np.array([row[key] for row in rows]) for key in ("mean", "min", "max"))
        axis.errorbar(
            100 * np.asarray(keeps) + 0.5 * (number - (len(arms) - 1) / 2),  # beside each other
            mean,
            (mean - low, high - mean),
            color=PALETTE[number % 2],
            marker=MARKERS[number],
            linestyle=("-", "-", "--", "--")[number % 4],
            markerfacecolor="white" if number < 2 else None,
            capsize=3,
            markevery=1,
            label=name,
        )
    for number, (name, value) in enumerate(lines.items()):
        axis.axhline(
            100 * value, color=PALETTE[6], linewidth=1.2, linestyle=("-", "--", "-.", ":")[number % 4], label=name
        )
    axis.set(xlabel="share of each layer's numbers kept, %", ylabel="test accuracy, %", xlim=(0, None))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure
