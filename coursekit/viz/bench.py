"""The figure of a benchmark: every arm's ratio with its spread, beside the bar it is held to."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coursekit.bench.results import BenchResult, CaseResult
from coursekit.viz.style import GREY, PALETTE

TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200)
MET, MISSED = PALETTE[2], PALETTE[1]


def bench(result: BenchResult, columns: int = 2) -> Figure:
    """A panel per case: times as fast as its first arm (log scale), quartiles over rounds, and bars as upright ticks.

    Raises ValueError if no case could be timed.
    """
    cases = [case for case in result.cases if case.arms]
    if not cases:
        raise ValueError(f"no case of {result.suite!r} could be timed, so there is nothing to draw")
    columns = min(columns, len(cases))
    rows = [cases[start : start + columns] for start in range(0, len(cases), columns)]
    heights = [max(len(_timed(case)) for case in row) + 2.6 for row in rows]
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(5.4 * columns, 0.27 * sum(heights) + 0.6),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for axis, case in zip(grid.flat, cases, strict=False):
        _panel(axis, case)
    for axis in grid.flat[len(cases) :]:
        axis.set_visible(False)
    handles = [
        Line2D([], [], color=PALETTE[0], marker="o", ls="-", label="median and quartiles"),
        Line2D([], [], color=MET, marker="|", ls="", markersize=12, markeredgewidth=3, label="bar, met"),
        Line2D([], [], color=MISSED, marker="x", ls="", markersize=9, markeredgewidth=2.5, label="bar, not met"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _timed(case: CaseResult) -> list[str]:
    return [arm.name for arm in case.arms if arm.seconds]


def _panel(axis: Axes, case: CaseResult) -> None:
    arms = [arm for arm in case.arms if arm.seconds]
    places = {arm.name: place for place, arm in enumerate(arms)}
    axis.axvline(1, color=GREY, ls=":", marker="")
    for arm in arms:
        place = places[arm.name]
        axis.plot(arm.speed_quartiles, [place, place], color=PALETTE[0], marker="", ls="-")
        axis.plot(arm.speed, place, color=PALETTE[0], marker="o", markevery=1)
        axis.annotate(f"{arm.speed:.2f}", (arm.speed, place), (0, 5), textcoords="offset points", ha="center", size=8)
    ideals, shown = {arm.name: arm.ideal for arm in arms}, [1.0, *(arm.speed for arm in arms)]
    for bar in case.bars:
        if bar.arm in places:
            met = bar.verdict == "met"
            for limit in bar.limits(ideals[bar.arm]):
                shown.append(limit)
                style = {"marker": "|", "markersize": 13} if met else {"marker": "x", "markersize": 8}
                axis.plot(
                    limit, places[bar.arm], color=MET if met else MISSED, markeredgewidth=2.5, markevery=1, **style
                )
    low, high = min(shown) / 1.4, max(shown) * 1.5
    axis.set(xscale="log", ylim=(len(arms) - 0.5, -0.9))
    axis.set_yticks(range(len(arms)), [arm.name for arm in arms], size=9)
    ticks = [tick for tick in TICKS if low < tick < high]
    ticks = ticks if len(ticks) < 8 else [tick for tick in ticks if f"{tick:.0e}"[0] in "125"]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], size=9)
    axis.set_xlim(low, high)
    axis.minorticks_off()
    axis.grid(axis="y", visible=False)
    axis.set_title(case.name, size=10)
    axis.set_xlabel(f"times as fast as “{arms[0].name}”", size=9)
