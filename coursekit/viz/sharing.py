"""Figures of unit 02, the drawings: sharing plans depth by depth, what a plan costs, and a sandwich's widths."""

from collections import Counter
from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from coursekit.models import SharingPlan
from coursekit.viz.colours import ink
from coursekit.viz.style import GREY, PALETTE

PALE = "#ececec"
WIDTHS = (1.0, 0.62, 1.0, 0.62)  # of the columns attention, LayerNorm, FFN, LayerNorm


# ---- plans ----


def plan_grids(plans: Mapping[str, SharingPlan]) -> Figure:
    """Each encoder plan as a grid, the first depth at the bottom: equal letter and colour, one stored block."""
    height = 0.25 * max(map(len, plans.values())) + 1.3
    figure, (axes,) = plt.subplots(1, len(plans), figsize=(10, height), squeeze=False)
    for axis, (name, plan) in zip(axes, plans.items(), strict=True):
        _draw_plan(axis, plan)
        axis.set_title(name, loc="center", fontsize=10)
    axes[0].set_ylabel("depth", labelpad=2)
    return figure


def plan_card(name: str, plan: SharingPlan, costs: Mapping[str, tuple[float, float]]) -> Figure:
    """One plan as a grid, and what it costs: name of the cost → (with this plan, without sharing)."""
    figure, (grid, axis) = plt.subplots(1, 2, figsize=(8.4, 0.25 * len(plan) + 1.3), width_ratios=(1, 2.6))
    _draw_plan(grid, plan)
    grid.set_title(name, loc="center", fontsize=11)
    grid.set_ylabel("depth", labelpad=2)
    shares = [own / plain for own, plain in costs.values()]
    axis.barh(list(costs), shares, 0.5, color=PALETTE[0])
    axis.axvline(1, color=GREY, ls=":", marker="")
    for row, ((own, _), share) in enumerate(zip(costs.values(), shares, strict=True)):
        axis.text(share + 0.02, row, f"{own:,.1f} ({share:.0%})", va="center")
    axis.set(xlim=(0, 1.35), xlabel="relative to no sharing", title="What it costs")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    return figure


def _draw_plan(axis: Axes, plan: SharingPlan) -> None:
    columns = (plan.attention, [norms[0] for norms in plan.norm], plan.ffn, [norms[-1] for norms in plan.norm])
    norms = [number for depth in plan.norm for number in depth]
    left = 0.0
    for place, (numbers, width) in enumerate(zip(columns, WIDTHS, strict=True)):
        is_norm = place % 2 == 1
        uses = Counter(norms if is_norm else numbers)
        for depth, number in enumerate(numbers):
            _draw_block(axis, left, depth, width, _letter(number, is_norm), number if uses[number] > 1 else None)
        left += width + 0.08
    axis.set(xlim=(0, left - 0.08), ylim=(0, len(plan)), yticks=[], xticks=[])
    starts = [sum(WIDTHS[:place]) + 0.08 * place + WIDTHS[place] / 2 for place in range(4)]
    axis.set_xticks(starts, ["att", "LN", "FFN", "LN"], fontsize=8)
    axis.tick_params(length=0)
    axis.set_yticks([0.5, len(plan) - 0.5], ["1", str(len(plan))], fontsize=8)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_block(axis: Axes, left: float, depth: int, width: float, letter: str, shared: int | None) -> None:
    colour = PALE if shared is None else PALETTE[shared % 6]
    axis.add_patch(Rectangle((left, depth + 0.06), width, 0.88, color=colour, lw=0))
    letters = GREY if shared is None else ink(colour)
    axis.text(
        left + width / 2, depth + 0.48, letter, ha="center", va="center", fontsize=8, color=letters, weight="bold"
    )


def _letter(number: int, small: bool) -> str:
    """A, B, C… for blocks, a, b, c… for LayerNorms; the number itself after Z."""
    return str(number) if number > 25 else chr(ord("a" if small else "A") + number)


# ---- a sandwich of another width inside ----


def sandwich_pictures(shapes: Mapping[str, tuple[int, int, int]]) -> Figure:
    """Stacks to one scale: name → (depths, width of the first and last, width of the shared ones between)."""
    figure, axes = plt.subplots(1, len(shapes), figsize=(10, 3.2), squeeze=False)
    widest = max(max(hidden, inner) for _, hidden, inner in shapes.values())
    for axis, (name, (depths, hidden, inner)) in zip(axes[0], shapes.items(), strict=True):
        bottom = _slab(axis, 0, hidden, "A", PALE)
        bottom = _funnel(axis, bottom, hidden, inner)
        for _ in range(depths - 2):
            bottom = _slab(axis, bottom, inner, "B", PALETTE[1])
        bottom = _funnel(axis, bottom, inner, hidden)
        _slab(axis, bottom, hidden, "C", PALE)
        axis.set(xlim=(-0.52 * widest, 0.52 * widest), ylim=(0, max(depths for depths, *_ in shapes.values()) + 1.2))
        axis.set_title(name, loc="center", fontsize=11)
        axis.set_axis_off()
    return figure


def _slab(axis: Axes, bottom: float, width: float, letter: str, colour: str) -> float:
    axis.add_patch(Rectangle((-width / 2, bottom), width, 0.86, color=colour, lw=0))
    letters = GREY if colour == PALE else ink(colour)
    axis.text(0, bottom + 0.43, f"{letter}  {width:,}", ha="center", va="center", color=letters, fontsize=9)
    return bottom + 1


def _funnel(axis: Axes, bottom: float, below: float, above: float) -> float:
    if below == above:
        return bottom
    corners = [(-below / 2, bottom), (below / 2, bottom), (above / 2, bottom + 0.46), (-above / 2, bottom + 0.46)]
    axis.add_patch(Polygon(corners, facecolor="white", edgecolor=PALETTE[2], hatch="////", lw=1))
    return bottom + 0.6
